// Writes what docs/ takes from code: errors.md, configuration.md, config.schema.json, and the tables between
// `<!-- table:NAME -->` and `<!-- /table -->` in any page. `--check` writes nothing and fails where a page is behind.
// Needs a build.
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { ERROR_CODES } from '../dist/src/kernel/errors.js';
import { FAMILY_TABLE } from '../dist/src/telemetry/families.js';
import { POOL_LIFECYCLE, REPLICA_LIFECYCLE } from '../dist/src/core/lifecycles.js';
import { ROLLOUT_LIFECYCLE } from '../dist/src/core/rollout.js';
import { configJsonSchema } from '../dist/src/config/schema.js';
import { VERBS } from '../dist/src/control/grammar.js';
import { configReference } from '../dist/src/config/reference.js';

const TABLES = {
  'replica-lifecycle': () => lifecycleTable(REPLICA_LIFECYCLE),
  'pool-lifecycle': () => lifecycleTable(POOL_LIFECYCLE),
  'rollout-lifecycle': () => lifecycleTable(ROLLOUT_LIFECYCLE),
  'metrics-pools': () => familyTable((name) => name.startsWith('troupe_') && FAMILY_TABLE[name].labels[0] === 'pool'),
  'metrics-pipelines': () =>
    familyTable((name) => name.startsWith('troupe_') && FAMILY_TABLE[name].labels[0] === 'pipeline'),
  'metrics-process': () =>
    familyTable((name) => name.startsWith('troupe_') && !['pool', 'pipeline'].includes(FAMILY_TABLE[name].labels[0])),
  'metrics-asyncbatch': () => familyTable((name) => name.startsWith('async_batch_')),
  'metrics-triton': () => familyTable((name) => name.startsWith('nv_')),
  'control-verbs': () => verbTable(),
};

const isCheck = process.argv.includes('--check');
const behind = [];

put('docs/errors.md', errorsPage());
put('docs/configuration.md', configurationPage());
put('docs/config.schema.json', `${JSON.stringify(configJsonSchema(), null, 2)}\n`);
for (const name of readdirSync('docs')) {
  if (!name.endsWith('.md') || name === 'errors.md' || name === 'configuration.md') continue;
  const text = readFileSync(`docs/${name}`, 'utf8');
  put(`docs/${name}`, withTables(text, name));
}
if (behind.length > 0) {
  process.stdout.write(`behind the code: ${behind.join(', ')}; npm run docs writes them\n`);
  process.exitCode = 1;
}

function put(file, text) {
  if (existsSync(file) && readFileSync(file, 'utf8') === text) return;
  if (isCheck) behind.push(file);
  else {
    writeFileSync(file, text);
    process.stdout.write(`wrote ${file}\n`);
  }
}

function withTables(text, page) {
  return text.replace(/<!-- table:([\w-]+) -->\n[\s\S]*?<!-- \/table -->/g, (_, name) => {
    const table = TABLES[name];
    if (table === undefined)
      throw new Error(`docs/${page}: no table ${name}; there are ${Object.keys(TABLES).join(', ')}`);
    return `<!-- table:${name} -->\n${table()}\n<!-- /table -->`;
  });
}

function familyTable(isWanted) {
  const rows = Object.entries(FAMILY_TABLE)
    .filter(([name]) => isWanted(name))
    .map(([name, { type, labels, help }]) => [`\`${name}\``, type, labels.join(', '), help]);
  return markdownTable(['name', 'type', 'labels', 'what it counts'], rows);
}

function lifecycleTable(table) {
  const events = [...new Set(Object.values(table).flatMap((row) => Object.keys(row)))];
  const rows = Object.entries(table).map(([state, row]) => [state, ...events.map((event) => row[event] ?? '-')]);
  return markdownTable(['state \\ event', ...events], rows);
}

function verbTable() {
  const rows = Object.values(VERBS).map(({ example, access, what }) => [`\`${example}\``, access, what]);
  return markdownTable(['call', 'access', 'what it does'], rows);
}

function errorsPage() {
  const rows = Object.entries(ERROR_CODES).map(([code, { ran, retryable, meaning, remedy }]) => {
    return [`\`${code}\``, ran, retryable ? 'yes' : 'no', meaning, remedy];
  });
  return `# Errors

For everybody who meets a \`TroupeError\` or reads a report: what each \`code\` means and what to do about it.

\`ran\` says whether the record may have run: \`not-started\` (no: safe to send again), \`interrupted\` (perhaps),
\`failed\` (it ran and the model said no). A single error can say better than its row here: a deadline that passed before
the record was sent is \`not-started\`. \`retryable\` says whether the same record may go well next time.

${markdownTable(['code', 'ran', 'retryable', 'what happened', 'what to do'], rows)}
`;
}

function configurationPage() {
  return `# Configuration

For people who run pools and pipelines from a file. \`troupe run\` reads \`./troupe.yaml\` unless told otherwise, \`troupe check\`
says what is wrong with it, models that are not there included (a run starts without their pools), \`troupe explain\` shows each
value and where it came from.

\`\`\`yaml
# yaml-language-server: $schema=./node_modules/troupe/docs/config.schema.json
name: example
pools:
  echo:
    actor: mock
    replicas: 2
    mailbox: { capacity: 256, overflow: wait }
pipelines:
  copy:
    source: { file: in.ndjson }
    steps:
      - infer: { pool: echo, order: unordered, timeout: { ms: 500 } }
    sink: { file: out.ndjson }
    deadLetters: { file: dead.ndjson }
\`\`\`

- Unknown keys are refused. All problems of a file are reported at once, each with line, column, key, what was expected and
  what stood there; then nothing starts.
- Relative paths start at the folder of the config file.
- \`./steps.js#parse\` is a module reference: a module and the name of a function it exports.
- \`\${NAME}\` in a value is replaced by the environment variable, \`\${NAME:-default}\` gives a default, \`$\${\` is a literal
  \`\${\`. Unquoted, the result may become a number, true or false; quoted, it stays text. Inside \`{ }\` and \`[ ]\` it needs quotes.
- YAML 1.2 without merge keys; aliases may be used. A file may hold 1 MiB.

${configReference(configJsonSchema())}`;
}

function markdownTable(head, rows) {
  const line = (cells) => `| ${cells.map((cell) => String(cell).replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}
