import { invariant } from './errors.js';

/** A lifecycle as data: state x event -> state. An event that a state does not list cannot happen there. */
export type LifecycleTable<State extends string, Event extends string> = Readonly<
  Record<State, Readonly<Partial<Record<Event, State>>>>
>;

/** The next state; throws INTERNAL where the table has no entry. */
export function transition<State extends string, Event extends string>(
  name: string,
  table: LifecycleTable<State, Event>,
  state: State,
  event: Event,
): State {
  const next = table[state][event];
  // The words are put together only where they are needed: this runs at every start and end of a replica.
  if (next === undefined) invariant(false, `lifecycle "${name}": event "${event}" in state "${state}"`);
  return next;
}
