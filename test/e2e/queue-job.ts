/**
 * One run of a pipeline from a queue to a table, in a process of its own that a test may kill at any moment.
 * Arguments: kind of the queue, its address, address of the table, directory of the checkpoints. Says `n` for each write.
 */
import { fromPostgres, fromRedis, stream, toPostgres } from '../../src/index.js';

const [kind, from = '', to = '', dir = ''] = process.argv.slice(2);
const source =
  kind === 'redis'
    ? fromRedis<number>({ url: from, stream: 'numbers', group: 'job', consumer: 'job', endWhenEmpty: true })
    : fromPostgres<number>({
        connection: from,
        table: 'numbers',
        consumer: 'job',
        endWhenEmpty: true,
        maxAttempts: 50,
      });
const table = toPostgres<{ n: number }>({ connection: to, table: `from_${kind}`, columns: ['n'] });
const write = table.write.bind(table);
table.write = async (...given) => {
  await write(...given);
  process.stdout.write('n\n');
};

const report = await stream(source, { name: 'job', chunkSize: 16 })
  .map(async (n) => {
    await new Promise((resolve) => setImmediate(resolve));
    return { n };
  })
  .to(table, { checkpoint: { dir, intervalMs: 20, resume: true } });
process.stdout.write(`${JSON.stringify(report)}\n`);
