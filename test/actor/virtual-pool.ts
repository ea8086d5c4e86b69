import { defineActor, type PoolOptions, silentLog } from 'troupe';
import { Pool } from '../../src/actor/pool.js';
import { poolOptionsSchema } from '../../src/actor/pool-options.js';
import type { StartLink } from '../../src/host/link.js';
import { startLink } from '../../src/host/start-link.js';
import { deferred } from '../../src/kernel/deferred.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

/** A batch that reached the actor and is answered by hand. */
export interface HandBatch {
  readonly records: readonly string[];
  readonly signal: AbortSignal;
  answer(outputs: (string | Error)[]): void;
  fail(error: Error): void;
}

/** A pool of inline actors whose batches are answered by hand and whose clock is moved by hand. */
export async function virtualPool(options: Omit<PoolOptions, 'actor'> = {}, start: StartLink = startLink) {
  const clock = new VirtualClock();
  const batches: HandBatch[] = [];
  let arrived = deferred<void>();
  const actor = defineActor<string, string, void>({
    predict: (records: string[], { signal }) => {
      const gate = deferred<(string | Error)[]>();
      batches.push({ records, signal, answer: gate.resolve, fail: gate.reject });
      arrived.resolve();
      return gate.promise;
    },
  });
  const pool = new Pool<string, string>(
    {
      name: 'p',
      options: poolOptionsSchema.parse({ isolation: 'inline', ...options, actor: 'inline' }),
      actor,
      isolation: 'inline',
      weigh: undefined,
    },
    { startLink: start, log: silentLog, clock, random: () => 0 },
  );
  await pool.start();
  const next = async (): Promise<HandBatch> => {
    if (batches.length === 0) await arrived.promise;
    arrived = deferred<void>();
    return batches.shift() as HandBatch;
  };
  return { pool, clock, next };
}
