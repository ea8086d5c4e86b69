/**
 * A job that is killed: numbers from a file -> children -> an actor that fails some -> filter -> a file, with checkpoints
 * as often as they can be made. Arguments: the folder with `in.ndjson`, and `other` for other settings, with which it must
 * go on all the same.
 */
import { join } from 'node:path';
import { createSystem } from '../../src/create-system.js';
import { defineActor } from '../../src/actor/define-actor.js';
import type { DeadLetter } from '../../src/stream/envelope.js';
import { stream } from '../../src/stream/pipeline.js';
import type { Sink } from '../../src/stream/sink.js';
import { toFile } from '../../src/stream/sinks/file.js';
import { fromFile } from '../../src/stream/sources/file.js';
import { childrenOf, isKept, isPoison, type Child } from './checkpoint-job-records.js';

const [folder = '', settings] = process.argv.slice(2);
const { replicas, maxSize, capacity, chunkSize } =
  settings === 'other'
    ? { replicas: 1, maxSize: 7, capacity: 5, chunkSize: 3 }
    : { replicas: 3, maxSize: 4, capacity: 16, chunkSize: 8 };

const actor = defineActor({
  async load() {
    return { calls: 0 };
  },
  async predict(batch: readonly Child[], { state }: { readonly state: { calls: number } }) {
    // Batches overtake each other, so that an unordered step mixes.
    state.calls += 1;
    for (let turn = 0; turn < state.calls % 4; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    return batch.map((child) => (isPoison(child) ? new Error('poison') : child));
  },
});

await using system = createSystem();
const pool = await system.spawn('mixer', { actor, isolation: 'inline', replicas, batching: { maxSize } });
const report = await stream<{ n: number }>(fromFile(join(folder, 'in.ndjson')), { name: 'job', chunkSize })
  .flatMap(async ({ n }) => {
    await new Promise((resolve) => setImmediate(resolve));
    return childrenOf(n);
  })
  .infer(pool, { order: 'unordered', capacity })
  .filter((child) => isKept(child))
  .to(toFile(join(folder, 'out.ndjson')), {
    checkpoint: { dir: join(folder, 'checkpoints'), intervalMs: 1, keep: 1, resume: true },
    deadLetters: toFile(join(folder, 'dead.ndjson')) as Sink<DeadLetter>,
  });
process.stdout.write(JSON.stringify(report));
