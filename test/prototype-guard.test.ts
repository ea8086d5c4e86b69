import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import test from 'ava';

const run = promisify(execFile);
const guard = new URL('prototype-guard.js', import.meta.url).href;
const withGuard = (code: string): Promise<{ stderr: string }> =>
  run(process.execPath, ['--input-type=module', '-e', `import ${JSON.stringify(guard)}; ${code}`]);

test('a test file that leaves something on a prototype ends with an error that names it, any other ends well', async (t) => {
  const pollution = 'JSON.parse("{}").__proto__.polluted = 1; Array.prototype.last = 2;';
  const error = await t.throwsAsync<Error & { code: number; stderr: string }>(withGuard(pollution));
  t.is(error?.code, 1);
  t.regex(error?.stderr ?? '', /left Object\.prototype\.polluted, Array\.prototype\.last behind/);
  await t.notThrowsAsync(withGuard('({}).own = 1;'));
});
