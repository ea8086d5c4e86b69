import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { type ExitCode, runCommand } from '../../src/cli/command.js';

const dir = mkdtempSync(path.join(tmpdir(), 'troupe-letters-'));
test.after.always(() => rmSync(dir, { recursive: true }));
const at = (name: string): string => path.join(dir, name);

// The model refuses odd numbers until somebody mends it.
writeFileSync(
  at('model.js'),
  `import { existsSync } from 'node:fs';
const mended = new URL('./mended', import.meta.url);
export default {
  predict: (batch) => batch.map((x) => (x % 2 === 1 && !existsSync(mended) ? new Error('odd \\u001b[31m' + x) : x * 10)),
};\n`,
);
writeFileSync(
  at('steps.js'),
  `export const number = (line) => { if (line === '7') throw new Error('seven'); return Number(line); };\n`,
);
writeFileSync(
  at('troupe.yaml'),
  `
pools:
  model: { actor: ./model.js, isolation: thread }
pipelines:
  numbers:
    source: { file: in.txt }
    steps:
      - map: ./steps.js#number
      - infer: { pool: model }
    sink: { file: out.ndjson }
    deadLetters: { file: dead.ndjson }
`,
);
writeFileSync(at('in.txt'), '1\n2\n3\n4\n7\n');

async function troupe(...words: string[]): Promise<{ code: ExitCode; out: string; err: string }> {
  let out = '';
  let err = '';
  const signal = new AbortController().signal;
  const code = await runCommand(words, {
    stdin: process.stdin,
    stdout: { write: (text) => void (out += text) },
    stderr: { write: (text) => void (err += text) },
    env: {},
    stop: signal,
    kill: signal,
  });
  return { code, out, err };
}

const lines = (name: string): string[] => readFileSync(at(name), 'utf8').split('\n').filter(Boolean);

test.serial('list shows one line per letter, and nothing in them can act on a terminal', async (t) => {
  t.is((await troupe('run', at('troupe.yaml'), '--quiet')).code, 0);
  const { code, out, err } = await troupe('dead-letters', 'list', at('dead.ndjson'));
  t.is(code, 0, err);
  const rows = out.trimEnd().split('\n');
  t.is(rows.length, 4);
  t.regex(rows[0] as string, /^line +failed at +pipeline +step +code/);
  t.true(
    rows.some((row) => /numbers +1 +PREDICT_FAILED +\d .*odd/.test(row)),
    out,
  );
  t.true(
    rows.some((row) => /numbers +0 +OPERATOR_FAILED .*seven/.test(row)),
    out,
  );
  t.false(out.includes('\u001b'));
});

test.serial('show prints one letter whole, and refuses a line that has none', async (t) => {
  const { code, out } = await troupe('dead-letters', 'show', at('dead.ndjson'), '1');
  t.is(code, 0);
  const letter = JSON.parse(out) as Record<string, unknown>;
  t.is(letter['pipeline'], 'numbers');
  t.regex((letter['times'] as { failedAt: string }).failedAt, /^\d{4}-/);
  const none = await troupe('dead-letters', 'show', at('dead.ndjson'), '99');
  t.is(none.code, 1);
  t.regex(none.err, /line 99 is no dead letter/);
});

test.serial('replay sends letters from the step that failed, adds results, and keeps what failed again', async (t) => {
  const before = await troupe('dead-letters', 'replay', at('dead.ndjson'), at('troupe.yaml'), '--json');
  t.is(before.code, 0, before.err);
  t.deepEqual(JSON.parse(before.out), { pipeline: 'numbers', replayed: 3, results: 0, left: 3 });
  const steps = lines('dead.ndjson').map((line) => (JSON.parse(line) as { step: number }).step);
  t.deepEqual(
    steps.sort((a, b) => a - b),
    [0, 1, 1],
    'letters name the steps of the whole pipeline',
  );
  writeFileSync(at('mended'), '');
  const after = await troupe('dead-letters', 'replay', at('dead.ndjson'), at('troupe.yaml'), '--json');
  t.is(after.code, 0, after.err);
  t.deepEqual(JSON.parse(after.out), { pipeline: 'numbers', replayed: 3, results: 2, left: 1 });
  t.deepEqual(lines('out.ndjson').sort(), ['10', '20', '30', '40']);
  t.like(JSON.parse(lines('dead.ndjson')[0] as string), { input: '7', step: 0, pipeline: 'numbers' });
});

test.serial('letters of other pipelines and lines that are no letters stay in the file', async (t) => {
  const strange = '{"hello":1}';
  const other = JSON.stringify({
    input: 1,
    pipeline: 'other',
    step: 0,
    error: { code: 'PREDICT_FAILED', message: 'x' },
  });
  const own = JSON.stringify({
    input: 3,
    pipeline: 'numbers',
    step: 1,
    error: { code: 'PREDICT_FAILED', message: 'x' },
  });
  writeFileSync(at('mixed.ndjson'), `${strange}\n${other}\n${own}\n`);
  const refused = await troupe('dead-letters', 'replay', at('mixed.ndjson'), at('troupe.yaml'));
  t.is(refused.code, 1);
  t.regex(refused.err, /letters of other, numbers; choose one with --pipeline/);
  const words = ['dead-letters', 'replay', at('mixed.ndjson'), at('troupe.yaml'), '--pipeline', 'numbers'];
  const { code, out, err } = await troupe(...words);
  t.is(code, 0, err);
  t.regex(out, /1 replayed, 1 results; 2 left/);
  t.deepEqual(lines('mixed.ndjson'), [strange, other]);
});

test.serial(
  'a file of another kind is refused by list and replay, which name the line and say what to give',
  async (t) => {
    const files = {
      'lines.jsonl': '{"hello":1}\n{"hello":2}\n',
      'notes.txt': 'one\ntwo\n',
      'word.txt': 'no line ends here',
      'mostly.ndjson': `${JSON.stringify({ error: { code: 'PREDICT_FAILED', message: 'x' } })}\n[]\n{}\n`,
    };
    for (const [name, text] of Object.entries(files)) {
      writeFileSync(at(name), text);
      const line = name === 'mostly.ndjson' ? 2 : 1;
      const words = new RegExp(
        `${name}: line ${line} is no dead letter, .*; give a file that a dead-letter sink wrote`,
      );
      const list = await troupe('dead-letters', 'list', at(name));
      t.deepEqual([list.code, list.out], [1, ''], name);
      t.regex(list.err, words);
      const replay = await troupe('dead-letters', 'replay', at(name), at('troupe.yaml'), '--pipeline', 'numbers');
      t.is(replay.code, 1);
      t.regex(replay.err, words);
      t.is(readFileSync(at(name), 'utf8'), text);
    }
  },
);

test.serial('lines that a crash left torn are listed as such, and the letters with them', async (t) => {
  const letter = JSON.stringify({ input: 1, error: { code: 'PREDICT_FAILED', message: 'x' } });
  writeFileSync(at('torn.ndjson'), `${letter}\n{"inp${letter}\n${letter}\n{"input":1,"err`);
  const { code, out } = await troupe('dead-letters', 'list', at('torn.ndjson'));
  t.is(code, 0);
  const rows = out.trimEnd().split('\n').slice(1);
  t.deepEqual(
    rows.map((row) => row.trim().split(/ {2,}/).slice(0, 2)),
    [
      ['1', 'PREDICT_FAILED'],
      ['2', 'not a dead letter'],
      ['3', 'PREDICT_FAILED'],
      ['4', 'cut off: no whole line'],
    ],
  );
});

test.serial('a file that is not there, and a subcommand that is not one, are named', async (t) => {
  const missing = await troupe('dead-letters', 'list', at('nowhere.ndjson'));
  t.is(missing.code, 1);
  t.regex(missing.err, /nowhere\.ndjson/);
  const wrong = await troupe('dead-letters', 'replya', at('dead.ndjson'));
  t.is(wrong.code, 2);
  t.regex(wrong.err, /did you mean replay/);
});
