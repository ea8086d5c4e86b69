import { createSystem, silentLog } from 'troupe';
import { type Kind, type Lane, workerUrl } from './lane.js';

/** Two batches of 128 keep both sides of the boundary at work with 256 callers; everything else is default. */
export const BATCH_SIZE = 128;
export const BATCHES_IN_FLIGHT = 2;

export const ourLanes: readonly Lane[] = [ourLane('thread'), ourLane('process')];

function ourLane(kind: Kind): Lane {
  return {
    id: `troupe-${kind}`,
    kind,
    setup: `isolation ${kind}, batching.maxSize ${BATCH_SIZE}, batching.maxInFlight ${BATCHES_IN_FLIGHT}`,
    async open() {
      const system = createSystem({ log: silentLog });
      const pool = await system.spawn<Float32Array, Float32Array>('echo', {
        actor: workerUrl('echo-actor').href,
        isolation: kind,
        batching: { maxSize: BATCH_SIZE, maxInFlight: BATCHES_IN_FLIGHT },
      });
      return { ask: (input) => pool.ask(input), close: () => system.stop() };
    },
  };
}
