import { defineActor } from 'troupe/actor';

export interface Event {
  readonly user: string;
  readonly number: number;
  readonly kind: 'good' | 'flaky' | 'bad' | 'deadly';
}

/** Scores events. `flaky` fails the first time a replica sees it, `bad` always, `deadly` ends the whole process. */
export default defineActor({
  load: () => ({ seen: new Set<string>() }),
  predict(batch: Event[], { state }) {
    return batch.map((event) => {
      if (event.kind === 'deadly') process.exit(1);
      if (event.kind === 'bad') throw new Error(`event ${event.number} cannot be scored`);
      const id = `${event.user} ${event.number}`;
      if (event.kind === 'flaky' && !state.seen.has(id)) {
        state.seen.add(id);
        return new Error(`event ${event.number} failed once`); // In its place: costs this record alone.
      }
      return event.number * 10;
    });
  },
});
