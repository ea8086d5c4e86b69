import { performance } from 'node:perf_hooks';
import { parentPort } from 'node:worker_threads';
import { dense, WIDTH } from './dense.js';

/** The plain loop: the same function on batches that are ready, in a thread like the actor's. Answers with its time in ms. */
export interface LoopTask {
  readonly records: number;
  readonly batchSize: number;
}

parentPort?.on('message', ({ records, batchSize }: LoopTask) => {
  const batch = Array.from({ length: batchSize }, (_, index) => new Float32Array(WIDTH).fill(index & 0xff));
  const startedAt = performance.now();
  let sum = 0;
  for (let done = 0; done < records; done += batchSize) sum += dense(batch)[0]?.[0] ?? NaN;
  const elapsedMs = performance.now() - startedAt;
  if (Number.isNaN(sum)) throw new Error('Expected numbers');
  parentPort?.postMessage(elapsedMs);
});
