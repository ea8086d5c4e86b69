// A pipeline over the model of another process: docs/connect.md. Argument: a folder, whose files it recognises.
import { mkdirSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { connect, fromIterable, Stamped, stream, toFile } from 'troupe';
import { label, read, sample } from '../swap/steps.js';

const [folder = 'node_modules'] = process.argv.slice(2);
const lane = path.resolve(process.env.LANE ?? 'results/run/lane.sock');
const trace = Buffer.from('pipeline').toString('hex').padEnd(32, '0');

/** Paths, each in a span of its own of one trace. */
function* filesOf(root) {
  let count = 0;
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const traceparent = `00-${trace}-${(++count).toString(16).padStart(16, '0')}-01`;
    yield new Stamped(path.join(entry.parentPath, entry.name), { metadata: { traceparent } });
  }
}

mkdirSync('results', { recursive: true });
const connection = connect(`unix://${lane}`);
const { records, results, failed } = await stream(fromIterable(filesOf(folder)))
  .map(read)
  .infer(connection.pool('filetype'), { input: sample, output: label })
  .to(toFile('results/sidecar.ndjson'));
await connection.close();
console.log(`${records} files, ${results} recognised, ${failed} failed: results/sidecar.ndjson`);
