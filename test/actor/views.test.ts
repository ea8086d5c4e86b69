import test from 'ava';
import { createSystem, type Outcome, silentLog } from 'troupe';

const ECHO = new URL('../../bench/workers/echo-actor.js', import.meta.url).href;
const VALUES = 64;

const valuesOf = (outcomes: readonly Outcome<Float32Array>[]): Float32Array[] =>
  outcomes.map((outcome) => {
    if (!outcome.ok) throw outcome.error;
    return outcome.value;
  });
const records = (count: number, from: number): Float32Array[] =>
  Array.from({ length: count }, (_, index) => new Float32Array(VALUES).fill(from + index));
const isOwn = ({ buffer, byteLength }: Float32Array): boolean => buffer.byteLength === byteLength;

for (const isolation of ['thread', 'process'] as const) {
  test(`askMany with views gets views over memory that only its call is shown (${isolation})`, async (t) => {
    await using system = createSystem({ log: silentLog });
    const pool = await system.spawn<Float32Array, Float32Array>('echo', {
      actor: ECHO,
      isolation,
      batching: { maxSize: 8, adaptive: false },
    });
    const shared = valuesOf(await pool.askMany(records(8, 0), { views: true }));
    t.deepEqual(shared, records(8, 0));
    t.true(shared.every(({ buffer }) => buffer === shared[0]?.buffer));
    t.is(shared[0]?.buffer.byteLength, 8 * VALUES * 4);
    // What was shared is nobody's to write into afterwards.
    for (let n = 0; n < 20; n++) await pool.askMany(records(8, 100 + n), { views: n % 2 === 0 });
    t.deepEqual(shared, records(8, 0));
  });

  test(`results of their own are the rule, and where callers meet in a batch there is no other (${isolation})`, async (t) => {
    await using system = createSystem({ log: silentLog });
    const pool = await system.spawn<Float32Array, Float32Array>('echo', {
      actor: ECHO,
      isolation,
      batching: { maxSize: 8, adaptive: false },
    });
    t.true(valuesOf(await pool.askMany(records(8, 0))).every(isOwn));
    const [one, two, three] = await Promise.all([
      pool.askMany(records(4, 0), { views: true }),
      pool.askMany(records(3, 4), { views: true }),
      pool.ask(new Float32Array(VALUES).fill(7)),
    ]);
    const all = [...valuesOf(one), ...valuesOf(two), three];
    t.deepEqual(all, records(8, 0));
    t.true(all.every(isOwn));
    t.is(pool.stats().batches, 2);
  });
}

test('views that are neither true nor false are refused at once', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<Float32Array, Float32Array>('echo', { actor: ECHO, isolation: 'inline' });
  await t.throwsAsync(pool.askMany([], { views: 1 as never }), {
    instanceOf: TypeError,
    message: 'askMany: views must be true or false, got number',
  });
});
