import test from 'ava';
import { createSystem, defineActor, silentLog, type TroupeError } from 'troupe';

/** Timers that keep this process alive. */
const heldTimers = (): number => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

test.serial('a pool that holds nothing keeps no process alive, and the next deadline comes in time', async (t) => {
  await using system = createSystem({ log: silentLog });
  let mayAnswer = true;
  const pool = await system.spawn<number, number>('echo', {
    actor: defineActor<number, number, void>({
      predict: (batch: number[]) => (mayAnswer ? batch : new Promise<number[]>(() => undefined)),
    }),
    isolation: 'inline',
    stopTimeoutMs: 1,
  });
  const before = heldTimers();
  for (let n = 0; n < 3; n++) {
    const asked = pool.ask(n);
    t.is(await asked, n);
    await new Promise(setImmediate);
    t.is(heldTimers(), before, 'at rest');
  }
  mayAnswer = false;
  const startedAt = process.hrtime.bigint();
  const late = pool.ask(4, { timeoutMs: 20 });
  await new Promise(setImmediate);
  t.is(heldTimers(), before + 1, 'held');
  await t.throwsAsync<TroupeError>(late, { code: 'DEADLINE_PASSED' });
  t.true(process.hrtime.bigint() - startedAt >= 19_000_000n);
  await new Promise(setImmediate);
});
