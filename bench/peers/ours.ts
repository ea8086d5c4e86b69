import { createSystem, silentLog } from 'troupe';
import { type Kind, type Lane, workerUrl } from './lane.js';

/** Half of the callers wait while the other half is answered, so both sides are at work; everything else is default. */
export const BATCH_SIZE = 128;

export const ourLanes: readonly Lane[] = [ourLane('thread'), ourLane('process')];

function ourLane(kind: Kind): Lane {
  return {
    id: `troupe-${kind}`,
    kind,
    setup: `isolation ${kind}, batching.maxSize ${BATCH_SIZE}`,
    async open() {
      const system = createSystem({ log: silentLog });
      const pool = await system.spawn<Float32Array, Float32Array>('echo', {
        actor: workerUrl('echo-actor').href,
        isolation: kind,
        batching: { maxSize: BATCH_SIZE },
      });
      return { ask: (input) => pool.ask(input), close: () => system.stop() };
    },
  };
}
