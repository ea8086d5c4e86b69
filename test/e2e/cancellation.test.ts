import { on } from 'node:events';
import { watch } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { createSystem, type PoolEvents, silentLog, type TroupeError } from 'troupe';

const actor = new URL('../fixtures/actors/stubborn.js', import.meta.url).href;

/** A file in a folder of its own, and the promise of a text in it. */
async function notes(): Promise<{ file: string; reads: (text: string) => Promise<void>; remove: () => Promise<void> }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'troupe-cancel-'));
  const file = path.join(folder, 'note');
  const text = (): Promise<string> => readFile(file, 'utf8').catch(() => '');
  return {
    file,
    async reads(wanted) {
      // Listening begins before the first look, so no change falls between the two.
      const watcher = watch(folder);
      try {
        const changes = on(watcher, 'change', { signal: AbortSignal.timeout(90_000) });
        if ((await text()) === wanted) return;
        for await (const _ of changes) if ((await text()) === wanted) return;
      } finally {
        watcher.close();
      }
    },
    remove: () => rm(folder, { recursive: true }),
  };
}

for (const isolation of ['thread', 'process'] as const) {
  test(`${isolation}: when everybody has given up, the signal of the running batch fires and the replica lives on`, async (t) => {
    t.timeout(120_000);
    await using system = createSystem({ log: silentLog });
    const note = await notes();
    t.teardown(note.remove);
    const pool = await system.spawn<string, string>('patient', { actor, isolation });
    const controller = new AbortController();
    const ask = pool.ask(`wait ${note.file}`, { signal: controller.signal });
    await note.reads('begun');
    controller.abort();
    await t.throwsAsync(ask, { code: 'CANCELLED' });
    await note.reads('aborted');
    t.is(await pool.ask('a'), 'A');
    t.is(pool.stats().replicas[0]?.incarnation, 1);
    t.is(pool.stats().lateResults, 1);
  });

  test(`${isolation}: with cancellation replace, the replica is ended and another answers, on no restart budget`, async (t) => {
    t.timeout(120_000);
    await using system = createSystem({ log: silentLog });
    const note = await notes();
    t.teardown(note.remove);
    const pool = await system.spawn<string, string>('impatient', {
      actor,
      isolation,
      cancellation: 'replace',
      batching: { maxSize: 1, maxInFlight: 2 },
      restart: { max: 0 },
      batchTimeoutMs: 600_000,
    });
    const died = new Promise<PoolEvents['died'][0]>((resolve) => pool.once('died', resolve));
    const controller = new AbortController();
    const stuck = pool.ask(`stuck ${note.file}`, { signal: controller.signal });
    const behind = pool.ask('b');
    await note.reads('begun');
    controller.abort();
    const error = await t.throwsAsync<TroupeError>(stuck, { code: 'CANCELLED' });
    t.is(error?.ran, 'interrupted');
    t.is((await died).death.cause, 'stopped');
    t.is(await behind, 'B');
    const stats = pool.stats();
    t.like(stats, { state: 'running', replaced: 1, restarts: 1, deaths: { crash: 0, hang: 0 } });
    t.is(stats.replicas[0]?.incarnation, 2);
  });

  test(`${isolation}: with cancellation replace, a batch whose records all expired while it ran is not waited for`, async (t) => {
    t.timeout(120_000);
    await using system = createSystem({ log: silentLog });
    const note = await notes();
    t.teardown(note.remove);
    const pool = await system.spawn<string, string>('late', {
      actor,
      isolation,
      cancellation: 'replace',
      restart: { max: 0 },
      batchTimeoutMs: 600_000,
    });
    await t.throwsAsync(pool.ask(`stuck ${note.file}`, { timeoutMs: 300 }), { code: 'DEADLINE_PASSED' });
    t.is(await pool.ask('a'), 'A');
    t.like(pool.stats(), { replaced: 1, asyncBatch: { batchTimeoutCount: 1 } });
  });

  test(`${isolation}: what an error of predict asks to wait crosses from the replica to the caller`, async (t) => {
    t.timeout(120_000);
    await using system = createSystem({ log: silentLog });
    const pool = await system.spawn<string, string>('busy', {
      actor: new URL('../fixtures/actors/busy.js', import.meta.url).href,
      isolation,
    });
    const [first, second] = await pool.askMany(['250', 'x']);
    t.is(!first?.ok && first?.error.retryAfterMs, 250);
    t.is(!second?.ok && second?.error.retryAfterMs, undefined);
    await t.throwsAsync(pool.ask('throw 70'), { code: 'PREDICT_FAILED' });
    const thrown = await pool.ask('throw 70').catch((error: TroupeError) => error.retryAfterMs);
    t.is(thrown as unknown, 70);
  });
}
