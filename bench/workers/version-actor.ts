import { setTimeout as pause } from 'node:timers/promises';
import { defineActor } from 'troupe';

/** A model that takes 2 ms a batch whatever its size, as a device does, and says which version it is. */
export default defineActor<number, string, string>({
  load: ({ version = 'none' }) => version,
  predict: async (batch: number[], { state }) => {
    await pause(2);
    return batch.map(() => state);
  },
});
