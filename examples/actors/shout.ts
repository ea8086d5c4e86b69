import { defineActor } from 'troupe/actor';

export default defineActor<string, string, { suffix: string }>({
  load: ({ options: { suffix } }) => ({ suffix: typeof suffix === 'string' ? suffix : '!' }),
  predict(batch: readonly string[], { state }) {
    // A bug to be supervised: this one word ends the whole process.
    if (batch.includes('boom')) process.exit(1);
    return batch.map((text) => text.toUpperCase() + state.suffix);
  },
});
