import test from 'ava';
import { createSystem, silentLog } from 'troupe';
import { arrayAt } from '../fixtures/actors/arrays.js';
import { laneStand } from './lane-stand.js';

/** Typed arrays that are kept while more comes over the same connection. */

const ARRAYS = new URL('../fixtures/actors/arrays.js', import.meta.url).href;
const COUNT = 200;
const expected = Array.from({ length: COUNT }, (_, n) => arrayAt(n));

async function all(pieces: AsyncIterable<unknown>): Promise<unknown[]> {
  const got: unknown[] = [];
  for await (const piece of pieces) got.push(piece);
  return got;
}

test('arrays among the pieces of a stream from a child process stay as they came', async (t) => {
  t.timeout(120_000);
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const pool = await system.spawn<number, AsyncIterable<unknown>>('arrays', { actor: ARRAYS, isolation: 'process' });
  t.deepEqual(await all(await pool.ask(COUNT)), expected);
});

test('arrays among pieces, answers and arguments that cross the lane stay as they came', async (t) => {
  t.timeout(120_000);
  const { system, connect } = await laneStand(t);
  await system.spawn('arrays', { actor: ARRAYS, isolation: 'inline' });
  const pool = connect().pool<number, AsyncIterable<unknown>>('arrays');
  t.deepEqual(await all(await pool.ask(COUNT)), expected);
  const answers: unknown[] = [];
  for (let n = 0; n < 20; n++) answers.push(await pool.call('array', n));
  t.deepEqual(answers, expected.slice(0, 20));
  for (let n = 0; n < 20; n++) await pool.call('keep', arrayAt(n));
  t.deepEqual(await pool.call('kept'), expected.slice(0, 20));
});
