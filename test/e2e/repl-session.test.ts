import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';

/**
 * The session of docs/operating.md, as it stands there, with real processes: what the commands print is what the page
 * shows, but for figures.
 */

const root = fileURLToPath(new URL('../../../', import.meta.url));
const command = join(root, 'dist/src/cli/main.js');
const page = readFileSync(join(root, 'docs/operating.md'), 'utf8');

const session = [...page.matchAll(/<!-- session -->\n```console\n([\s\S]*?)```/g)].map((part) => part[1]).join('');

interface Turn {
  readonly typed: string;
  readonly shown: string;
}

/** Lines after `$ ` are commands; the first of a REPL takes the lines after its prompt with it. */
function turnsOf(text: string): Turn[] {
  return text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [typed = '', ...shown] = part.split('\n');
      return { typed, shown: shown.join('\n') };
    });
}

/** Figures, times and the width of columns differ from run to run. */
const plain = (text: string): string =>
  text
    .replace(/\d[\d,.:]*( ms| s)?/g, 'N')
    .replace(/[ \t]+/g, ' ')
    .trim();

const PROMPT = /^filetypes(?: \(write\))?> /gm;

test('the session of the operating page prints what the page shows, and no record is lost', async (t) => {
  t.timeout(240_000);
  const dir = mkdtempSync(join(tmpdir(), 'ts-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const [, yaml = ''] = /<!-- file examples\/swap\/troupe.yaml -->\n```yaml\n([\s\S]*?)```/.exec(page) ?? [];
  t.true(readFileSync(join(root, 'examples/swap/troupe.yaml'), 'utf8').endsWith(yaml) && yaml !== '');
  cpSync(join(root, 'examples/swap'), join(dir, 'examples/swap'), { recursive: true });
  mkdirSync(join(dir, 'results'));
  writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
  cpSync(join(root, 'models/filetype'), join(dir, 'models/filetype'), {
    recursive: true,
    filter: (from) => !from.includes('train'),
  });
  mkdirSync(join(dir, 'models/filetype/3'));
  writeFileSync(join(dir, 'models/filetype/3/model.onnx'), '');
  const env = { ...process.env, XDG_RUNTIME_DIR: dir, HOME: dir, METRICS_PORT: '0' };

  const system = spawn(process.execPath, [command, 'run', '--quiet', 'examples/swap/troupe.yaml'], {
    cwd: dir,
    env,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  t.teardown(() => system.kill('SIGKILL'));
  let log = '';
  system.stderr.setEncoding('utf8').on('data', (text: string) => (log += text));
  const feed = feedOf(system);
  t.teardown(() => feed.end());
  const run = (words: readonly string[], stdin = ''): Promise<string> =>
    new Promise((resolve) => {
      const child = execFile(process.execPath, [command, ...words], { cwd: dir, env }, (_error, stdout, stderr) =>
        resolve(stderr + stdout),
      );
      child.stdin?.end(stdin);
    });
  for (;;) {
    // Until the system answers, what is printed is the error that none was found.
    const shown = await run(['ps', '--json']);
    const answer = shown.startsWith('{') ? (JSON.parse(shown) as { pools?: { results: number }[] }) : {};
    if ((answer.pools?.[0]?.results ?? 0) > feed.size) break;
    t.is(system.exitCode, null, log);
    await wait(200);
  }

  const turns = turnsOf(session);
  t.true(turns.length >= 7);
  for (const { typed, shown } of turns) {
    if (!typed.startsWith('npx ')) {
      const printed = await execShell(typed, dir);
      t.deepEqual(resultOf(printed), resultOf(shown), `$ ${typed}\n${printed}`);
      continue;
    }
    const [, ...words] = typed.replace(/^npx /, '').split(' ');
    const lines = [...shown.matchAll(/^filetypes(?: \(write\))?> (.*)$/gm)].map((match) => match[1] ?? '');
    const printed = await run(words, lines.map((line) => `${line}\n`).join(''));
    // A line that is typed at a terminal stands after its prompt; one that comes from a pipe does not.
    const expected = shown.replace(/^(filetypes(?: \(write\))?> ).*$/gm, '$1');
    t.deepEqual(
      partsOf(printed.replaceAll(dir, '/srv/filetypes')),
      partsOf(expected),
      `$ ${typed}\n${printed}\n${log}`,
    );
  }

  // Version 2, which serves at the end of the session, sees every file once more.
  for (const count = feed.count(); feed.count() < count + feed.size; ) await wait(100);
  feed.end();
  const [code] = (await once(system, 'close')) as [number | null];
  t.is(code, 0, log);
  const results = readFileSync(join(dir, 'results/swap.ndjson'), 'utf8').trimEnd().split('\n');
  t.is(results.length, feed.count());
  const [one, two] = agreements(results.map((line) => JSON.parse(line) as Result));
  t.true(two > one, `${one} of version 1, ${two} of version 2`);
  t.regex(
    log,
    /^troupe audit pool=filetype: begun: canary pool=filetype version=2 share=0\.1 rollbackOn=\{"latencyFactor":4\} by connection \d+ \(troupe repl\)$/m,
  );
  t.regex(log, /^troupe audit pool=filetype: failed: swap pool=filetype version=3 .* SWAP_ROLLED_BACK/m);
});

async function execShell(line: string, cwd: string): Promise<string> {
  return (await promisify(execFile)('sh', ['-c', line], { cwd })).stdout;
}

/** What a result of the session says for sure: its keys and its version. */
function resultOf(line: string): unknown {
  if (line.trim() === '') return undefined;
  const result = JSON.parse(line) as Result;
  return [Object.keys(result), result.version];
}

interface Result {
  readonly path: string;
  readonly version: string;
  readonly type: string;
}

function partsOf(text: string): string[] {
  return text
    .split(PROMPT)
    .map(plain)
    .filter((part) => part !== '');
}

/** Of the files that both versions have seen: how many each recognised as their extension promises. */
function agreements(results: readonly Result[]): readonly [number, number] {
  const promised = JSON.parse(readFileSync(join(root, 'models/filetype/extensions.json'), 'utf8')) as object;
  const by = new Map<string, Map<string, string>>(['1', '2'].map((version) => [version, new Map()]));
  for (const { path, version, type } of results) by.get(version)?.set(path, type);
  const [one, two] = [...by.values()].map((types, index, all) => {
    const both = [...types].filter(([path]) => all[1 - index]?.has(path));
    return both.filter(([path, type]) => Reflect.get(promised, extname(path).toLowerCase()) === type).length;
  });
  return [one ?? 0, two ?? 0];
}

/** A path every few milliseconds, the same ones again and again, until it is ended. */
function feedOf(system: ChildProcess): { end(): void; count(): number; readonly size: number } {
  const paths = readdirSync(join(root, 'node_modules'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes('.cache'))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .filter((_, index) => index % 14 === 0);
  let count = 0;
  const timer = setInterval(() => {
    for (let more = 0; more < 4; more += 1) system.stdin?.write(`${paths[count++ % paths.length]}\n`);
  }, 8);
  return {
    end: () => {
      clearInterval(timer);
      system.stdin?.end();
    },
    count: () => count,
    size: paths.length,
  };
}
