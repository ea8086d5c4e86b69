/**
 * One life of a job: numbers from a file -> an actor that fails some -> a file, with checkpoints. Arguments: the folder
 * with `in.ndjson`, and the Settings of this life as JSON. Prints its report.
 */
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { createSystem, stream, fromFile, toFile, type DeadLetter, type Sink } from '../../src/index.js';
import { keyOf, type Numbered, type Settings } from './changing-job-records.js';

const [folder = '', given = '{}'] = process.argv.slice(2);
const { order, isolation, replicas, maxSize, capacity, chunkSize, killAfter } = JSON.parse(given) as Settings;

let writtenBefore: number | undefined;
/** From here on it waits for its end, at a pace that lets checkpoints be written on a slow disk. */
let isPast = false;
await using system = createSystem();
const pool = await system.spawn<Numbered, number>('changing', {
  actor: new URL('./changing-actor.js', import.meta.url).href,
  isolation,
  replicas,
  batching: { maxSize },
});
const report = await stream<Numbered>(fromFile(join(folder, 'in.ndjson')), { name: 'job', chunkSize })
  .map(async (record) => {
    if (isPast) await wait(5);
    return record;
  })
  .infer(pool, { order, capacity, ...(order === 'keyed' ? { key: keyOf } : {}), output: ({ n }) => ({ n }) })
  .to(toFile(join(folder, 'out.ndjson')), {
    checkpoint: { dir: join(folder, 'checkpoints'), intervalMs: 2, resume: true },
    deadLetters: toFile(join(folder, 'dead.ndjson')) as Sink<DeadLetter>,
    progressMs: 0,
    onProgress: ({ results, checkpoints }) => {
      if (killAfter === undefined || results < killAfter) return;
      isPast = true;
      const written = checkpoints?.written ?? 0;
      writtenBefore ??= written;
      // The first of two may have been cut before; in the second everything until `killAfter` is certain to be.
      if (written >= writtenBefore + 2) process.kill(process.pid, 'SIGKILL');
    },
  });
process.stdout.write(JSON.stringify(report));
