import { defineActor } from '../../src/actor/define-actor.js';

/** Doubles numbers; throws for a batch with 13 in it, and ends its thread for a batch with 17. */
export default defineActor({
  load: () => 2,
  predict: (batch: readonly number[], { state }: { state: number }) => {
    if (batch.includes(13)) throw new Error('unlucky');
    if (batch.includes(17)) process.exit(3);
    return batch.map((n) => n * state);
  },
});
