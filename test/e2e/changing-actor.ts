import { defineActor } from '../../src/actor/define-actor.js';
import { isPoison, type Numbered } from './changing-job-records.js';

/** Gives records back, one batch sooner than the other, so that they overtake each other where they may. */
export default defineActor({
  load: () => ({ calls: 0 }),
  async predict(batch: readonly Numbered[], { state }: { readonly state: { calls: number } }) {
    state.calls += 1;
    await new Promise((resolve) => setTimeout(resolve, state.calls % 4));
    return batch.map((record) => (isPoison(record) ? new Error('poison') : record.n));
  },
});
