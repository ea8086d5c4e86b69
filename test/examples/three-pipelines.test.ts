import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';

const run = promisify(execFile);

test('three pipelines share a pool, keep their orders, and say what became of every kind of record', async (t) => {
  t.timeout(180_000);
  const script = fileURLToPath(new URL('../../examples/three-pipelines.js', import.meta.url));
  const { stdout } = await run(process.execPath, [script]);
  t.log(stdout);
  t.regex(stdout, /^pipeline audit .*: 2000 records .*; in order$/m);
  t.regex(stdout, /^pipeline profile .*: 2000 records .*; in order$/m);
  t.false(stdout.includes('OUT OF ORDER'));
  t.is(stdout.match(/^ {2}bad +20 x dead letter PREDICT_FAILED \(tried 4x\)$/gm)?.length, 1);
  t.regex(stdout, /^ {2}bad +20 x fallback$/m);
  t.regex(stdout, /^ {2}deadly +1 x dead letter ACTOR_CRASHED \(tried \dx\)$/m);
  t.is(stdout.match(/^ {2}good +1899 x result$/gm)?.length, 2, 'a poison record costs itself alone');
  t.regex(stdout, /^ {2}good +1900 x result$/m);
});
