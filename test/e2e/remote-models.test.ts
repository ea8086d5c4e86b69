import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { createSystem, forEach, fromIterable, silentLog, stream, type TensorRecord } from 'troupe';

/** A model behind a server in a process of its own, which is killed under the pipelines that use it. */

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const actor = new URL('./sidecar-actor.js', import.meta.url).href;

interface Sidecar {
  readonly port: number;
  /** Ends it without a word; resolves when it is gone. */
  kill(): Promise<void>;
}

/** `troupe serve` of a pool `double`. Port 0 takes a free one. */
async function sidecar(t: ExecutionContext, port: number): Promise<Sidecar> {
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-sidecar-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = path.join(dir, 'troupe.yaml');
  writeFileSync(file, `pools:\n  double: { actor: '${actor}', isolation: thread }\nserve: { port: ${port} }\n`);
  const child: ChildProcess = spawn(process.execPath, [main, 'serve', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  const ended = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  t.teardown(() => child.kill('SIGKILL'));
  const taken = await new Promise<number>((resolve, reject) => {
    let text = '';
    child.stderr?.on('data', (part: Buffer) => {
      text += part.toString();
      const found = /served at http:\/\/127\.0\.0\.1:(\d+)/.exec(text)?.[1];
      if (found !== undefined) resolve(Number(found));
    });
    void ended.then(() => reject(new Error(text)));
  });
  return {
    port: taken,
    kill: () => {
      child.kill('SIGKILL');
      return ended;
    },
  };
}

test('a pipeline outlives the death of the server of its model: nothing is lost, nothing is doubled', async (t) => {
  t.timeout(240_000);
  const first = await sidecar(t, 0);
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<TensorRecord, TensorRecord>('double', {
    actor: 'triton',
    replicas: 4,
    batchTimeoutMs: 200_000,
    options: { endpoint: `http://127.0.0.1:${first.port}`, retryForMs: 120_000, timeoutMs: 60_000 },
  });
  const count = 3000;
  const results: number[] = [];
  let again: Promise<Sidecar> | undefined;
  const report = await stream(fromIterable(Array.from({ length: count }, (_, at) => at)))
    .infer(pool, {
      input: (at) => ({ x: Float32Array.of(at, 0) }),
      output: (_at, result) => (result['y'] as Float32Array)[0] as number,
    })
    .to(
      forEach((value: number) => {
        results.push(value);
        if (results.length === 300) again = first.kill().then(() => sidecar(t, first.port));
      }),
    );
  t.like(report, { records: count, results: count, failed: 0, deadLetters: 0 });
  t.deepEqual(
    results,
    Array.from({ length: count }, (_, at) => 2 * at),
  );
  t.not(again, undefined);
  const { retries } = (await pool.call('counts')) as { retries: number };
  t.true(retries > 0, 'the death was met');
  await (await again)?.kill();
});
