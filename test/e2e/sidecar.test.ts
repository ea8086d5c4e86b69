import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { connect, forEach, fromIterable, Stamped, stream, type TensorRecord } from 'troupe';
import { send } from '../serve/oip-stand.js';

/** One process has the model; a client of the protocol and a pipeline of another process use it at the same time. */

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const spans = fileURLToPath(new URL('./batch-spans.js', import.meta.url));
const root = fileURLToPath(new URL('../../../', import.meta.url));
const labels = readFileSync(path.join(root, 'models/filetype/labels.txt'), 'utf8').split('\n');
const BYTES = 2048;
const HTTP = 'aaaa';
const LANE = 'bbbb';

const traceOf = (prefix: string, index: number): string =>
  `00-${prefix}${(index + 1).toString(16).padStart(28, '0')}-${(index + 1).toString(16).padStart(16, '0')}-01`;

function sampleOf(text: string): Uint8Array {
  const bytes = new Uint8Array(BYTES);
  bytes.set(Buffer.from(text).subarray(0, BYTES));
  return bytes;
}

function labelOf(scores: ArrayLike<number>): string | undefined {
  const list = Array.from(scores);
  return labels[list.indexOf(Math.max(...list))];
}

test('one batch holds records of an HTTP client and of a pipeline of another process', async (t) => {
  t.timeout(240_000);
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-sidecar-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const written = path.join(dir, 'spans.ndjson');
  const lane = path.join(dir, 'run', 'lane.sock');
  writeFileSync(written, '');
  const pool = `{ actor: onnx, model: ${path.join(root, 'models/filetype')}, version: 1, batching: { maxSize: 16, maxDelayMs: 100 } }`;
  writeFileSync(
    path.join(dir, 'troupe.yaml'),
    `tracing: true\npools:\n  filetype: ${pool}\nserve: { port: 0, lane: ./run/lane.sock }\n`,
  );
  const server = spawn(process.execPath, ['--import', spans, main, 'serve', path.join(dir, 'troupe.yaml')], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, TROUPE_TEST_SPANS: written },
  });
  t.teardown(() => server.kill('SIGKILL'));
  const ended = new Promise<number | null>((resolve) => server.on('exit', resolve));
  const port = await new Promise<number>((resolve, reject) => {
    let text = '';
    server.stderr.on('data', (part: Buffer) => {
      text += part.toString();
      const found = /served at http:\/\/127\.0\.0\.1:(\d+)\//.exec(text)?.[1];
      if (found !== undefined) resolve(Number(found));
    });
    void ended.then(() => reject(new Error(text)));
  });

  const json = sampleOf('{"name": "troupe", "version": "0.1.0", "list": [1, 2, 3], "nested": {"a": null}}\n'.repeat(9));
  const html = sampleOf(
    '<!doctype html>\n<html><head><title>t</title></head><body><p>Hello</p></body></html>\n'.repeat(9),
  );
  let isOver = false;
  let answers = 0;
  const client = async (id: number): Promise<void> => {
    const inputs = [{ name: 'bytes', datatype: 'UINT8', shape: [1, BYTES], data: [...html] }];
    while (!isOver) {
      const headers = { traceparent: traceOf(HTTP, id) };
      const answer = await send(
        { port, path: '/v2/models/filetype/infer', method: 'POST', headers },
        JSON.stringify({ inputs }),
      );
      t.is(labelOf(answer.json.outputs[0].data), 'html');
      answers++;
    }
  };
  const clients = Array.from({ length: 4 }, (_, id) => client(id));
  await using connection = connect(`unix://${lane}`);
  const records = Array.from(
    { length: 300 },
    (_, index) => new Stamped(index, { metadata: { traceparent: traceOf(LANE, index) } }),
  );
  const said = new Map<string | undefined, number>();
  const report = await stream(fromIterable(records))
    .infer(connection.pool<{ bytes: Uint8Array }, TensorRecord>('filetype'), {
      capacity: 12,
      input: () => ({ bytes: json }),
      output: (_, scores) => labelOf(scores['scores'] as Float32Array),
    })
    .to(forEach((label) => void said.set(label, (said.get(label) ?? 0) + 1)));
  isOver = true;
  await Promise.all(clients);
  server.kill('SIGTERM');
  await ended;

  t.like(report, { records: 300, results: 300, failed: 0 });
  t.deepEqual([...said], [['json', 300]]);
  t.true(answers > 0);
  const batches = readFileSync(written, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as string[]);
  const shared = batches.filter((traces) => traces.includes(HTTP) && traces.includes(LANE));
  t.true(shared.length > 0, `${batches.length} batches, of which none is of both`);
});
