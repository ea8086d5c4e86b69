import type { ActorDefinition } from '../wire/definition.js';

/** Gives an actor definition its types; returns it as it is. */
export function defineActor<In, Out, State>(
  definition: ActorDefinition<In, Out, State>,
): ActorDefinition<In, Out, State> {
  return definition;
}
