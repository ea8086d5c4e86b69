/** A pipeline of its own process over the pool of a sidecar, with checkpoints. Arguments: the folder, the lane. */
import { join } from 'node:path';
import { connect, fromFile, stream, toFile } from '../../src/index.js';

const [folder = '', lane = ''] = process.argv.slice(2);
await using connection = connect(`unix://${lane}`, { heartbeatMs: 2000 });
const report = await stream<{ n: number }>(fromFile(join(folder, 'in.ndjson')), { name: 'job' })
  .infer(connection.pool<{ n: number }, { n: number; square: number }>('square'), { order: 'unordered', capacity: 64 })
  .to(toFile(join(folder, 'out.ndjson')), {
    checkpoint: { dir: join(folder, 'checkpoints'), intervalMs: 20, resume: true },
  });
process.stdout.write(JSON.stringify(report));
