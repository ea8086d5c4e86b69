import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';

const run = promisify(execFile);

test('the ten-line actor answers, loses one record to a crash, and is stopped at the end', async (t) => {
  t.timeout(120_000);
  const script = fileURLToPath(new URL('../../examples/ten-lines.js', import.meta.url));
  const { stdout } = await run(process.execPath, [script]);
  const [hello, one, boom, two, ...rest] = stdout.trimEnd().split('\n');
  t.deepEqual([hello, one, two], ['HELLO!', 'ONE!', 'TWO!']);
  t.regex(boom ?? '', /^ACTOR_CRASHED \(interrupted\)$/);
  t.deepEqual(rest, ['{ restarted: true, batched: true }']);
});
