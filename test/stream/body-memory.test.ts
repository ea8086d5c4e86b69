import test from 'ava';
import { BodyMemory, IDLE_MS } from '../../src/stream/body-memory.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';

const KIB = 1024;

test('memory that came back is taken for a body of about its size, and old views of it are empty', (t) => {
  const memory = new BodyMemory(1024 * KIB, new VirtualClock());
  t.is(memory.take(300 * KIB), undefined);
  const room = memory.make(300 * KIB);
  t.is(room.length, 320 * KIB, 'a multiple of 64 KiB');
  room.fill(7);
  const view = new Float32Array(room.buffer, 0, 16);
  memory.give(room);
  t.deepEqual([room.length, view.length], [0, 0]);
  t.is(memory.freeBytes, 320 * KIB);
  t.is(memory.take(128 * KIB), undefined, 'too large for that');
  t.is(memory.take(400 * KIB), undefined, 'too small for that');
  t.is(memory.take(310 * KIB)?.length, 320 * KIB);
  t.is(memory.freeBytes, 0);
  t.is(memory.take(310 * KIB), undefined, 'it is taken once');
});

test('no more memory lies ready than there may, the oldest goes first, and what is larger never comes in', (t) => {
  const memory = new BodyMemory(512 * KIB, new VirtualClock());
  memory.give(memory.make(1024 * KIB));
  t.is(memory.freeBytes, 0);
  for (const size of [192, 256, 256]) memory.give(memory.make(size * KIB));
  t.is(memory.freeBytes, 512 * KIB);
  t.is(memory.take(190 * KIB)?.length, 256 * KIB, 'that of 192 KiB is gone');
});

test('memory that nobody needed for a while is let go, what was needed stays', (t) => {
  const clock = new VirtualClock();
  const memory = new BodyMemory(4096 * KIB, clock);
  const fill = Array.from({ length: 3 }, () => memory.make(256 * KIB));
  for (const room of fill) memory.give(room);
  clock.advance(IDLE_MS);
  t.is(memory.freeBytes, 512 * KIB, 'the one that lay there when the time began is gone');
  const room = memory.take(256 * KIB);
  if (room === undefined) return t.fail();
  memory.give(room);
  clock.advance(IDLE_MS);
  t.is(memory.freeBytes, 256 * KIB, 'one was needed');
  clock.advance(IDLE_MS);
  t.is(memory.freeBytes, 0);
  t.is(clock.timerCount, 0, 'nothing is watched any more');
  memory.give(memory.make(256 * KIB));
  clock.advance(IDLE_MS);
  t.is(memory.freeBytes, 0);
});
