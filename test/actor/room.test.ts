import test from 'ava';
import { createSystem, defineActor, fromIterable, silentLog, stream } from 'troupe';

/** Senders that were refused wait for room without keeping the event loop from turning. */

const sink = { name: 'nowhere', write: () => undefined, close: () => undefined };

/** Answers only after a timer: whoever spins in promise callbacks or ticks never sees it. */
const slow = defineActor<unknown, unknown, void>({
  predict: (batch) => new Promise((resolve) => setImmediate(resolve, batch)),
});

for (const senders of [2, 3, 5]) {
  test(`${senders} streams share a mailbox of 8 records that does not divide among them, and all come to their end`, async (t) => {
    await using system = createSystem({ log: silentLog });
    const pool = await system.spawn('slow', { actor: slow, isolation: 'inline', mailbox: { capacity: 8 } });
    const one = () =>
      stream(fromIterable(Array.from({ length: 100 }, (_, index) => index)))
        .infer(pool)
        .to(sink);
    const reports = await Promise.all(Array.from({ length: senders }, one));
    t.deepEqual(
      reports.map(({ results }) => results),
      reports.map(() => 100),
    );
  });
}

test('records too large for the bytes that are free wait until some are', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('slow', { actor: slow, isolation: 'inline', mailbox: { capacityBytes: 10_000 } });
  const one = () =>
    stream(fromIterable(Array.from({ length: 30 }, () => 'x'.repeat(3500))))
      .infer(pool)
      .to(sink);
  const reports = await Promise.all([one(), one(), one()]);
  t.deepEqual(
    reports.map(({ results }) => results),
    [30, 30, 30],
  );
});
