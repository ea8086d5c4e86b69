import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const LONE_HOST = fileURLToPath(new URL('../host/lone-host.js', import.meta.url));

function runHost(
  ...args: string[]
): Promise<{ code: number | string | null; signal: string | null; said: unknown; stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [LONE_HOST, ...args], (error, stdout, stderr) => {
      const said: unknown = stdout === '' ? undefined : JSON.parse(stdout);
      resolve({ code: error?.code ?? 0, signal: error?.signal ?? null, said, stderr });
    });
  });
}

for (const isolation of ['thread', 'process']) {
  test.serial(`${isolation}: 30 graceful stops with a native run in flight all end cleanly`, async (t) => {
    t.timeout(120_000);
    const { code, signal, said, stderr } = await runHost('native', isolation, '10');
    t.is(signal, null, stderr);
    t.is(code, 0, stderr);
    t.deepEqual(said, { answered: 30, left: 0 });
  });
}

test.serial('a thread that is busy in native code is set aside when it hangs, and the host outlives it', async (t) => {
  const { code, signal, said, stderr } = await runHost('native-hung');
  t.is(signal, null, stderr);
  t.is(code, 0, stderr);
  t.deepEqual(said, { cause: 'hung', live: 1, leftCount: 0 });
});
