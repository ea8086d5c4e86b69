import { defineActor } from 'troupe/actor';

export default defineActor({
  load: ({ options: { suffix } }) => ({ suffix: typeof suffix === 'string' ? suffix : '!' }),
  predict(batch: string[], { state }) {
    // A bug to be supervised: this one word ends the whole process.
    if (batch.includes('boom')) process.exit(1);
    return batch.map((text) => text.toUpperCase() + state.suffix);
  },
});
