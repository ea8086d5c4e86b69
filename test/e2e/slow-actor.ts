import { setTimeout as sleep } from 'node:timers/promises';
import { defineActor } from 'troupe/actor';

/** Takes `ms` for a batch, and answers with the records and where they were. */
export default defineActor<number, { n: number; pid: number }, { ms: number }>({
  load: ({ options }) => ({ ms: Number(options['ms'] ?? 0) }),
  predict: async (batch, { state }) => {
    await sleep(state.ms);
    return batch.map((n) => ({ n, pid: process.pid }));
  },
});
