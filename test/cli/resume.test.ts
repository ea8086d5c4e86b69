import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { type ExitCode, runCommand } from '../../src/cli/command.js';

const dir = mkdtempSync(path.join(tmpdir(), 'troupe-resume-'));
test.after.always(() => rmSync(dir, { recursive: true }));
const at = (name: string): string => path.join(dir, name);
const RECORDS = 3000;

writeFileSync(
  at('model.js'),
  `export default { predict: async (batch) => { await new Promise((done) => setTimeout(done, 2)); return batch.map((x) => x * 2); } };\n`,
);
writeFileSync(at('spare.js'), `export default { predict: (batch) => batch.map((x) => -x) };\n`);
writeFileSync(
  at('steps.js'),
  `export const number = (line) => Number(line);
export const key = (n) => String(n % 7);\n`,
);
writeFileSync(at('in.txt'), Array.from({ length: RECORDS }, (_, index) => `${index}\n`).join(''));
const config = (order: string): string => `
pools:
  model: { actor: ./model.js, isolation: thread }
  spare: { actor: ./spare.js, isolation: inline }
pipelines:
  numbers:
    source: { file: in.txt }
    steps:
      - map: ./steps.js#number
      - infer:
          pool: model
          order: ${order}
          timeout: { ms: 30000, mode: batch }
          retry: { attempts: 3, backoffMs: 5, jitter: 0, budget: 0.5, rules: { PREDICT_FAILED: never } }
          breaker: { minCalls: 50 }
          fallback: { pool: spare }
    sink: { file: out-${order.slice(0, 5)}.ndjson }
    checkpoint: { dir: checkpoints-${order.slice(0, 5)}, intervalMs: 5 }
`;
writeFileSync(at('ordered.yaml'), config('ordered'));
writeFileSync(at('keyed.yaml'), config('keyed\n          key: ./steps.js#key'));

async function troupe(
  words: string[],
  kill = new AbortController().signal,
): Promise<{ code: ExitCode; err: string; out: string }> {
  let out = '';
  let err = '';
  const code = await runCommand(words, {
    stdin: process.stdin,
    stdout: { write: (text) => void (out += text) },
    stderr: { write: (text) => void (err += text) },
    env: {},
    stop: new AbortController().signal,
    kill,
  });
  return { code, out, err };
}

for (const order of ['ordered', 'keyed']) {
  test.serial(`run --resume goes on after a run that was killed: every result once, ${order}`, async (t) => {
    const out = at(`out-${order.slice(0, 5)}.ndjson`);
    const kill = new AbortController();
    const wait = setInterval(() => {
      // A checkpoint in the middle is there: from now on the run may end at any moment.
      try {
        const kept = readdirSync(at(`checkpoints-${order.slice(0, 5)}`)).filter((name) => name.endsWith('.manifest'));
        // The second: it holds more than the beginning.
        if (kept.some((name) => Number.parseInt(name, 10) > 1)) kill.abort();
      } catch {
        // Not made yet.
      }
    }, 1);
    const first = await troupe(['run', at(`${order}.yaml`), '--quiet'], kill.signal);
    clearInterval(wait);
    const before = readFileSync(out, 'utf8').split('\n').length - 1;
    const second = await troupe(['run', at(`${order}.yaml`), '--quiet', '--json', '--resume']);
    t.is(second.code, 0, second.err);
    t.true(before > 0 && before < RECORDS, `${before} results stood there when the run was killed`);
    const { records } = JSON.parse(second.out) as { records: number };
    t.true(records < RECORDS, 'the second run goes on, it does not begin anew');
    t.is(first.code, 0, first.err);
    const results = readFileSync(out, 'utf8').trimEnd().split('\n').map(Number);
    if (order === 'keyed') results.sort((a, b) => a - b);
    t.deepEqual(
      results,
      Array.from({ length: RECORDS }, (_, index) => index * 2),
    );
  });
}

test.serial('--resume without checkpoints in the config is refused', async (t) => {
  writeFileSync(at('plain.yaml'), config('ordered').replace(/ +checkpoint:.*\n/, ''));
  const { code, err } = await troupe(['run', at('plain.yaml'), '--resume']);
  t.is(code, 2);
  t.regex(err, /--resume needs a pipeline with checkpoint/);
});
