import { setImmediate as nextTurn } from 'node:timers/promises';
import test from 'ava';
import { createSystem, silentLog } from 'troupe';
import { Paced } from '../../src/wire/paced.js';

test('messages are handed on in their order, sixteen to a turn of the event loop', async (t) => {
  const heard: number[] = [];
  const paced = new Paced<number>((message) => heard.push(message));
  for (let message = 0; message < 20; message++) paced.take(message);
  t.is(heard.length, 16);
  await nextTurn();
  for (let message = 20; message < 40; message++) paced.take(message);
  t.is(heard.length, 36, 'those that waited are not counted');
  paced.goOn();
  t.deepEqual(
    heard,
    Array.from({ length: 40 }, (_, message) => message),
  );
  await nextTurn();
  t.is(heard.length, 40);
});

function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test('replies of a thread that come without a pause leave the event loop its turns', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, string>('echo', {
    actor: new URL('../fixtures/actors/fragile.js', import.meta.url).href,
    isolation: 'thread',
    batching: { maxSize: 1, maxInFlight: 16 },
  });
  let settled = 0;
  const asks = Array.from({ length: 100 }, async (_, ask) => {
    await pool.ask(`${ask}`);
    settled++;
    block(5); // So the next reply is there when this one is done with.
  });
  await nextTurn();
  block(100);
  const settledByTurn: number[] = [];
  while (settled < asks.length) {
    const before = settled;
    await nextTurn();
    settledByTurn.push(settled - before);
  }
  // What waited for the turn, and what came in it.
  t.true(Math.max(...settledByTurn) <= 32, settledByTurn.join());
});
