import test from 'ava';
import { Burst } from '../../src/core/burst.js';

test('what happens once is told at once and not again', (t) => {
  const burst = new Burst();
  t.true(burst.note('it was killed', 1, 0));
  t.is(burst.dueAt(), Infinity);
  t.true(burst.note('it was killed', 1, 1000), 'a moment later it is the first again');
  t.is(burst.take(), undefined);
});

test('what happens many times within a moment is told once at the beginning and once at the end', (t) => {
  const burst = new Burst();
  const first = Array.from({ length: 64 }, (_, n) =>
    burst.note(n < 60 ? 'it was killed' : 'it crashed', n % 2, 100 + n * 3),
  );
  t.deepEqual(first.filter(Boolean).length, 1);
  t.true(first[0]);
  t.is(burst.dueAt(), 1100);
  t.deepEqual(burst.take(), {
    count: 64,
    spanMs: 189,
    heldCount: 32,
    texts: [
      ['it was killed', 60],
      ['it crashed', 4],
    ],
    otherCount: 0,
  });
  t.is(burst.dueAt(), Infinity);
  t.true(burst.note('it was killed', 0, 1100), 'the next is the first of its moment');
});

test('a summary is short, whatever the texts are', (t) => {
  const burst = new Burst();
  for (let n = 0; n < 5000; n++) burst.note(`${n} ${'x'.repeat(10_000)}`, 1, n / 10);
  burst.note('twice', 0, 500);
  const summary = burst.take();
  t.is(summary?.count, 5001);
  t.is(summary?.texts.length, 3);
  t.is(summary?.otherCount, 4998);
  t.true(JSON.stringify(summary).length < 1200);
});
