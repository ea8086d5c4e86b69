import { defineActor } from '../../src/actor/define-actor.js';

/** Squares, a batch in some milliseconds, so that a kill meets batches that run. */
export default defineActor({
  predict: async (batch: readonly { readonly n: number }[]) => {
    await new Promise((resolve) => setTimeout(resolve, 4));
    return batch.map(({ n }) => ({ n, square: n * n }));
  },
});
