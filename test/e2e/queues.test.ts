import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import pg from 'pg';
import { createClient } from 'redis';
import type { Report } from '../../src/index.js';
import { folder } from '../stream/folder.js';
import { startPostgres, startRedis } from './servers.js';

const JOB = fileURLToPath(new URL('./queue-job.js', import.meta.url));
const COUNT = 800;
const NUMBERS = Array.from({ length: COUNT }, (_, n) => n);

/** Runs the job; with `writes` it is killed after so many. The report, if it came to the end. */
async function run(t: ExecutionContext, args: readonly string[], writes = Infinity): Promise<Report | undefined> {
  const child = spawn(process.execPath, [JOB, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  let count = 0;
  let report: Report | undefined;
  createInterface({ input: child.stdout }).on('line', (line) => {
    count += 1;
    if (line !== 'n') report = JSON.parse(line) as Report;
    else if (count >= writes) child.kill('SIGKILL');
  });
  const [code] = (await once(child, 'close')) as [number | null];
  t.true(code === 0 || code === null, errors);
  return report;
}

test('a queue is written to a table exactly once, over many kills of the process', async (t) => {
  t.timeout(120_000);
  const table = await startPostgres(t);
  const redis = await startRedis(t);
  if (table === undefined || redis === undefined) return;
  const pool = new pg.Pool({ connectionString: table.url, max: 1 });
  t.teardown(() => pool.end());
  await pool.query(
    'CREATE TABLE numbers (id int PRIMARY KEY, value int, attempts int NOT NULL DEFAULT 0, claimed_by text, claimed_until timestamptz, done_at timestamptz, failed_at timestamptz, error text)',
  );
  await pool.query('INSERT INTO numbers SELECT n, n FROM generate_series(0, $1) AS n', [COUNT - 1]);
  const client = createClient({ url: redis.url });
  await client.connect();
  t.teardown(() => client.destroy());
  await Promise.all(NUMBERS.map((n) => client.xAdd('numbers', '*', { value: String(n) })));
  for (const [kind, from] of [
    ['redis', redis.url],
    ['postgres', table.url],
  ] as const) {
    await pool.query(`CREATE TABLE from_${kind} (key text PRIMARY KEY, n int)`);
    const args = [kind, from, table.url, join(await folder(t), 'checkpoints')];
    let kills = 0;
    for (const writes of [1, 7, 15]) if ((await run(t, args, writes)) === undefined) kills += 1;
    t.is(kills, 3, 'the faults happened');
    const report = await run(t, args);
    t.is(report?.delivery, 'exactly-once');
    const { rows } = await pool.query<{ n: number }>(`SELECT n FROM from_${kind} ORDER BY n`);
    t.deepEqual(
      rows.map(({ n }) => n),
      NUMBERS,
      kind,
    );
  }
  t.is((await client.xPending('numbers', 'job')).pending, 0);
  t.is((await pool.query('SELECT FROM numbers')).rowCount, 0);
});
