// Jobs of an unmodified Apache Flink that call our server with ML_PREDICT, by its own model provider `triton`.
import { execFile, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { createSystem, defineActor, silentLog } from 'troupe';
import { tap } from './tap.mjs';

const run = promisify(execFile);
const here = fileURLToPath(new URL('./flink/', import.meta.url));
const root = fileURLToPath(new URL('../../', import.meta.url));
const FLINK = /<flink.version>(.*)</.exec(readFileSync(path.join(here, 'pom.xml'), 'utf8'))[1];
const INSTALL_MS = 900_000;
/** Flink takes lists and maps of the JDK apart by reflection. */
const OPENED = ['java.lang', 'java.net', 'java.nio', 'java.util', 'java.util.concurrent', 'java.time'];
const SQL_TYPES = {
  BOOLEAN: ['bool', ['TRUE', 'FALSE']],
  TINYINT: ['int8', ['-128', '127']],
  SMALLINT: ['int16', ['-32768', '32767']],
  INT: ['int32', ['-2147483648', '2147483647']],
  BIGINT: ['int64', ['9007199254740993', '-9223372036854775807']],
  FLOAT: ['float32', ['0.1', '-3.4028234E38']],
  DOUBLE: ['float64', ['0.1', '5E-324']],
  STRING: ['string', ['\'grüße, "Flink"\'', "''"]],
};

/** What was called and answered, with which versions; or why it was not run. */
export async function flink(cache) {
  const found = await libraries(path.join(cache, 'flink'));
  if (found.why !== undefined) return found;
  const system = createSystem({ log: silentLog });
  const session = new Session(found.classPath);
  try {
    return { versions: found.versions, lines: await jobs(system, session) };
  } finally {
    session.end();
    await system.stop();
  }
}

async function jobs(system, session) {
  const lines = [];
  const told = (what, fact) => {
    lines.push({ what, fact: String(fact) });
    process.stdout.write(`ok ${what}: ${fact}\n`);
  };
  const token = 'a-token-for-flink-0123456789';
  const { addresses } = await system.serve({ port: 0, tokens: { infer: [token] } });
  const wire = await tap(addresses[0].port);
  const flink = new Models(session, wire.port, token);
  try {
    await types(system, flink, told);
    await realModel(system, flink, told);
    await asItIsSent(flink, wire, told);
    await refusals(flink, told);
    await overload(system, flink, told);
    await batches(system, flink, wire, told);
  } finally {
    wire.close();
  }
  return lines;
}

/** Each type that the provider has, as one value and as a list, there and back. */
async function types(system, flink, told) {
  const parts = [];
  for (const [type, [dtype, values]] of Object.entries(SQL_TYPES)) {
    await system.spawn(`one_${type}`, { actor: mirrorOf(dtype, []) });
    await system.spawn(`list_${type}`, { actor: mirrorOf(dtype, [-1]) });
    const lists = [values, [values[1]]].map((list) => `ARRAY[${list.join(', ')}]`);
    parts.push(
      await flink.prepare(`one_${type}`, type, values),
      await flink.prepare(`list_${type}`, `ARRAY<${type}>`, lists),
    );
  }
  // One job for all of them: what they bring is of one type as text.
  const texts = parts.map((part) => part.replace(/^SELECT v, (\w+)/, 'SELECT CAST(v AS STRING), CAST($1 AS STRING)'));
  const rows = await flink.session.rows(texts.join(' UNION ALL '));
  same(rows.length, 2 * parts.length, 'rows');
  for (const [sent, got] of rows) same(got, sent, 'a value');
  const types = Object.keys(SQL_TYPES).join(', ');
  told('ML_PREDICT of one value, and of an ARRAY', `${types}: ${rows.length} values as they were sent`);
  const big = rows.find(([sent]) => sent === SQL_TYPES.BIGINT[1][0]);
  told('BIGINT beyond 2^53', `${big[1]}, every digit`);
  const empty = 'ARRAY_REMOVE(CAST(ARRAY[1] AS ARRAY<FLOAT>), CAST(1 AS FLOAT))';
  told('an empty ARRAY there and back', await flink.answer('list_FLOAT', 'ARRAY<FLOAT>', [empty]));
  told('NaN', await flink.answer('one_DOUBLE', 'DOUBLE', ["CAST('NaN' AS DOUBLE)"]));
}

/** The model of this package takes bytes, which Flink has no type for, so that text is made into them in front of it. */
async function realModel(system, flink, told) {
  const files = ['README.md', 'package.json', 'src/actor/pool.ts', 'scripts/interop/flink/FlinkSql.java'];
  const scores = await system.spawn('filetype', { actor: 'onnx', model: path.join(root, 'models/filetype') });
  const labels = readFileSync(path.join(root, 'models/filetype/labels.txt'), 'utf8').trimEnd().split('\n');
  const labelOf = async (text) => {
    const bytes = new Uint8Array(2048);
    bytes.set(Buffer.from(text).subarray(0, 2048));
    const { scores: found } = await scores.ask({ bytes });
    return labels[found.indexOf(Math.max(...found))];
  };
  await system.spawn('filetype_of_text', {
    actor: defineActor({
      signature: {
        inputs: [{ name: 'content', dtype: 'string', shape: [] }],
        outputs: [{ name: 'label', dtype: 'string', shape: [] }],
      },
      predict: async ({ count, columns }) => {
        const data = [];
        for (const text of columns.content.data) data.push(await labelOf(text));
        return { count, columns: { label: { dtype: 'string', shape: [], data } } };
      },
    }),
  });
  const texts = files.map((file) => readFileSync(path.join(root, file), 'utf8').slice(0, 1000));
  const rows = await flink.predict('filetype_of_text', 'STRING', texts.map(literal), {}, ['content', 'label']);
  for (const [text, label] of rows) check(label === (await labelOf(text)), `${label} of ${text.slice(0, 20)}`);
  const said = files.map((file, index) => `${path.basename(file)} ${rows.find(([text]) => text === texts[index])[1]}`);
  told('ML_PREDICT with the model filetype', said.join(', '));
}

/** What the provider writes, which no document says. */
async function asItIsSent(flink, wire, told) {
  const options = {
    compression: 'gzip',
    priority: 1,
    'custom-headers': 'X-Tenant:a',
    'sequence-id': 'job',
    'flatten-batch-dim': true,
  };
  const before = wire.requests().length;
  await flink.predict('list_FLOAT', 'ARRAY<FLOAT>', ['ARRAY[1.5, 2.5]'], options);
  const sent = wire.requests().slice(0);
  const posted = sent.filter(({ headers }) => headers['content-encoding'] === 'gzip').at(-1);
  check(posted !== undefined && sent.length > before, 'a packed request');
  const body = JSON.parse(gunzipSync(posted.body).toString());
  told('the path, with model-version left out', posted.path);
  told('columns `tensor` and `out_tensor`', `sent as ${body.inputs[0].name} and ${body.outputs[0].name}`);
  told('compression, flatten-batch-dim', `Content-Encoding: gzip, shape [${body.inputs[0].shape}]`);
  told('sequence-id, priority', `id ${body.id}, ${JSON.stringify(body.parameters)}`);
  check(posted.headers['x-tenant'] === 'a' && posted.headers.authorization.startsWith('Bearer '), 'headers');
  told('auth-token, custom-headers', `Authorization: Bearer …, x-tenant: ${posted.headers['x-tenant']}`);
}

async function refusals(flink, told) {
  const list = ['list_FLOAT', 'ARRAY<FLOAT>', ['ARRAY[1.0]']];
  told('model-name that is not there', await flink.failure('none', 'FLOAT', ['1.0'], {}, /404|no model/));
  told('auth-token left out', await flink.failure(...list, { 'auth-token': undefined }, /401|token/));
  told('auth-token with Bearer before it', await flink.answer(...list, { 'auth-token': `Bearer ${flink.token}` }));
  told('a column of another type', await flink.failure('one_BIGINT', 'FLOAT', ['1.0'], {}, /INT64/));
  told('NULL', await flink.failure('one_FLOAT', 'FLOAT', ['NULL'], {}, /400|null/));
}

/** One waits, one runs: more at once are refused. */
async function overload(system, flink, told) {
  const actor = mirrorOf('int32', [], () => new Promise((resolve) => setTimeout(resolve, 20)));
  await system.spawn('narrow', { actor, mailbox: { capacity: 1 }, batching: { maxSize: 1 } });
  const values = Array.from({ length: 40 }, (_, index) => index);
  told('overload', await flink.failure('narrow', 'INT', values, {}, /503/));
}

async function batches(system, flink, wire, told) {
  let largest = 0;
  const actor = mirrorOf('int32', [], async (count) => {
    largest = Math.max(largest, count);
    await new Promise((resolve) => setTimeout(resolve, 50));
  });
  await system.spawn('slow', { actor, batching: { maxSize: 64 } });
  const values = Array.from({ length: 100 }, (_, index) => index);
  const before = connectionsOf(wire);
  const rows = await flink.predict('slow', 'INT', values);
  same(rows.length, values.length, 'rows');
  told(
    'batches of one job',
    `${rows.length} rows, ${largest} at most in a batch, ${connectionsOf(wire) - before} new connections`,
  );
  largest = 0;
  const timeouts = ['10s', '20s', '40s', '50s'];
  const parts = [];
  for (const timeout of timeouts) parts.push(await flink.prepare('slow', 'INT', values, { timeout }));
  const all = await flink.session.rows(parts.join(' UNION ALL '));
  same(all.length, timeouts.length * values.length, 'rows');
  told(`batches of ${timeouts.length} models with a timeout each`, `${all.length} rows, ${largest} at most in a batch`);
}

function connectionsOf(wire) {
  return new Set(wire.requests().map(({ connection }) => connection)).size;
}

/** Statements that send values of one type to a model and bring pairs of what was sent and what came back. */
class Models {
  #made = 0;

  constructor(session, port, token) {
    this.session = session;
    this.port = port;
    this.token = token;
  }

  async predict(...args) {
    return this.session.rows(await this.prepare(...args));
  }

  /** The query, when its table and its model are there. */
  async prepare(model, type, values, options = {}, [input, output] = ['tensor', 'out_tensor']) {
    const number = ++this.#made;
    const rows = values.map((value) => `(CAST(${value} AS ${type}))`).join(', ');
    await this.session.rows(`CREATE TEMPORARY VIEW rows_${number} AS SELECT * FROM (VALUES ${rows}) AS t(v)`);
    const all = {
      provider: 'triton',
      endpoint: `http://127.0.0.1:${this.port}/v2/models`,
      'model-name': model,
      'auth-token': this.token,
      ...options,
    };
    const written = Object.entries(all).filter(([, value]) => value !== undefined);
    const clause = written.map(([key, value]) => `'${key}' = '${value}'`).join(', ');
    await this.session.rows(
      `CREATE TEMPORARY MODEL model_${number} INPUT (${input} ${type}) OUTPUT (${output} ${type}) WITH (${clause})`,
    );
    return `SELECT v, ${output} FROM ML_PREDICT(TABLE rows_${number}, MODEL model_${number}, DESCRIPTOR(v))`;
  }

  /** What came back for the first row, or why nothing did. */
  async answer(...args) {
    return this.predict(...args).then(
      ([[, got]]) => JSON.stringify(got),
      (error) => firstLine(error),
    );
  }

  /** Its words; fails where it works, or fails otherwise. */
  async failure(model, type, values, options, words) {
    const error = await this.predict(model, type, values, options).then(
      () => undefined,
      (thrown) => thrown,
    );
    check(error !== undefined && words.test(error.message), `${model}: ${error?.message ?? 'it worked'}`);
    return firstLine(error);
  }
}

/** A Java process that runs statements. */
class Session {
  #lines;
  #child;

  constructor(classPath) {
    const opened = OPENED.map((name) => `--add-opens=java.base/${name}=ALL-UNNAMED`);
    const args = [...opened, '-Xmx1g', '-cp', classPath, path.join(here, 'FlinkSql.java')];
    this.#child = spawn('java', args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdin.on('error', () => undefined);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  async rows(statement) {
    this.#child.stdin.write(`${statement}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`Flink ended at: ${statement}`);
    const answer = JSON.parse(value);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.rows;
  }

  end() {
    this.#child.kill();
  }
}

/** Gives back what it is given, and waits before. */
function mirrorOf(dtype, shape, before = () => Promise.resolve()) {
  return defineActor({
    signature: { inputs: [{ name: 'tensor', dtype, shape }], outputs: [{ name: 'out_tensor', dtype, shape }] },
    predict: async ({ count, columns }) => {
      await before(count);
      return { count, columns: { out_tensor: columns.tensor } };
    },
  });
}

/** Flink and what it needs, put together anew when pom.xml changes; or why there is none. */
async function libraries(dir) {
  const pom = path.join(here, 'pom.xml');
  const mark = path.join(dir, 'pom.xml');
  const [libs, corrected] = [path.join(dir, 'lib'), path.join(dir, 'corrected')];
  try {
    const { stderr } = await run('java', ['-version']);
    if (!existsSync(mark) || readFileSync(mark, 'utf8') !== readFileSync(pom, 'utf8')) {
      rmSync(dir, { recursive: true, force: true });
      mkdirSync(libs, { recursive: true });
      const maven = (...args) =>
        run('mvn', ['-q', '-B', '-f', pom, ...args, `-DoutputDirectory=${libs}`], { timeout: INSTALL_MS });
      await maven('dependency:copy-dependencies');
      // Alone: its parent, which Maven would read for a dependency, is not in Maven Central.
      await maven('dependency:copy', `-Dartifact=org.apache.flink:flink-model-triton:${FLINK}`);
      await run('java', ['-cp', path.join(libs, '*'), path.join(here, 'Corrected.java'), corrected]);
      cpSync(pom, mark);
    }
    const classPath = [corrected, path.join(libs, '*')].join(path.delimiter);
    return { classPath, versions: `Java ${/"(.*)"/.exec(stderr)[1]}, Flink and flink-model-triton ${FLINK}` };
  } catch (error) {
    const words = String(error.stdout || error.stderr || error.message)
      .trim()
      .split('\n');
    return { why: `no Java, or no Flink from Maven Central: ${words[0]}` };
  }
}

function firstLine({ message }) {
  return message.split('\n')[0];
}

/** As SQL writes text, whatever is in it, on one line. */
function literal(text) {
  const escaped = [...text].map((c) => {
    if (c === "'") return "''";
    if (c === '\\' || c < ' ' || c > '~')
      return [...Array(c.length).keys()].map((at) => `\\${c.charCodeAt(at).toString(16).padStart(4, '0')}`).join('');
    return c;
  });
  return `U&'${escaped.join('')}'`;
}

function same(got, expected, what) {
  check(
    JSON.stringify(got) === JSON.stringify(expected),
    `${what}: ${JSON.stringify(got)}, not ${JSON.stringify(expected)}`,
  );
}

function check(holds, what) {
  if (!holds) throw new Error(what);
}
