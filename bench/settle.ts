import { setImmediate as turn } from 'node:timers/promises';

/** Before a lap: what the lane before left behind is collected, so that none pays for another's garbage. */
export async function settle(): Promise<void> {
  if (globalThis.gc === undefined) throw new Error('Run the benchmark with --expose-gc, as npm run bench does');
  (globalThis.gc as (options: { type: 'minor' }) => void)({ type: 'minor' });
  await turn();
}
