import test from 'ava';
import {
  type ActorDefinition,
  type Columns,
  createSystem,
  defineActor,
  fromIterable,
  type Pool,
  silentLog,
  stream,
  type TensorRecord,
  toArray,
} from 'troupe';
import type shoutModule from '../examples/actors/shout.js';

// Whether this file compiles is the test; what runs below shows that the definitions are real ones.

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const expectType = <Condition extends true>(_proof?: Condition): void => undefined;

const lengths = defineActor({
  load: async ({ options }) => ({ factor: Number(options['factor'] ?? 1) }),
  predict: (batch: string[], { state }) => batch.map((text) => ({ length: text.trim().length * state.factor })),
  unload: (state) => void state.factor.toFixed(),
});

const halves = defineActor({
  predict: async (batch: number[]) => batch.map((n) => (n % 2 === 0 ? n / 2 : new RangeError(`${n} is odd`))),
});

const doubled = defineActor({
  signature: {
    inputs: [{ name: 'x', dtype: 'float32', shape: [2] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: [2] }],
  },
  predict(batch) {
    expectType<Same<typeof batch, Columns>>();
    const { data } = batch.columns['x']!;
    const y = Float32Array.from(data as Float32Array, (value) => value * 2);
    return { count: batch.count, columns: { y: { dtype: 'float32', shape: [2], data: y } } };
  },
});

const annotated = defineActor<TensorRecord, { y: Float32Array }, { bias: number }>({
  load: () => ({ bias: 1 }),
  signature: (state) => ({ inputs: [{ name: 'x', dtype: 'float32', shape: [state.bias] }], outputs: [] }),
  predict: async (batch: Columns) => ({
    count: batch.count,
    columns: { y: { dtype: 'float32', shape: [], data: new Float32Array(batch.count) } },
  }),
});

expectType<Same<typeof lengths, ActorDefinition<string, { length: number }, { factor: number }>>>();
expectType<Same<typeof halves, ActorDefinition<number, number, unknown>>>();
expectType<Same<typeof doubled, ActorDefinition<TensorRecord, TensorRecord, unknown>>>();
expectType<Same<typeof annotated, ActorDefinition<TensorRecord, { y: Float32Array }, { bias: number }>>>();

// @ts-expect-error predict of a rows actor answers with an array
defineActor({ predict: (batch: string[]) => batch.length });
// @ts-expect-error predict of a tensor actor answers with columns
defineActor({ signature: { inputs: [], outputs: [] }, predict: (batch) => [batch.count] });
// @ts-expect-error the state is what load returns
defineActor({ load: () => ({ a: 1 }), predict: (batch: string[], { state }) => batch.map(() => state.b) });

test('the record types of a definition reach ask, askMany and streams without a cast', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('lengths', { actor: lengths, options: { factor: 2 } });
  expectType<Same<typeof pool, Pool<string, { length: number }>>>();
  const one = await pool.ask('four');
  t.is(one.length, 8);
  // @ts-expect-error the actor takes strings
  await t.throwsAsync(pool.ask(4), { code: 'PREDICT_FAILED' });

  const sink = toArray<{ text: string; length: number }>();
  const report = await stream(fromIterable([{ text: 'a' }, { text: 'bc' }]))
    .infer(pool, { input: ({ text }) => text, output: ({ text }, { length }) => ({ text, length }) })
    .to(sink);
  t.is(report.results, 2);
  t.deepEqual(sink.values, [
    { text: 'a', length: 2 },
    { text: 'bc', length: 4 },
  ]);
});

test('an Error in the place of an output is no part of the result type', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('halves', { actor: halves, weigh: (n) => n.valueOf() });
  const [first, second] = await pool.askMany([4, 5]);
  t.is(first?.ok === true ? first.value + 1 : 0, 3);
  t.false(second?.ok);
});

test('a definition with a signature takes and returns columns', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('doubled', { actor: doubled });
  const { y } = await pool.ask({ x: Float32Array.of(1, 2) });
  t.deepEqual(y, Float32Array.of(2, 4));
});

test('a module and its pool share types through import type', async (t) => {
  await using system = createSystem({ log: silentLog });
  const actor = import.meta.resolve('../examples/actors/shout.js');
  const pool = await system.spawn<typeof shoutModule>('shout', { actor, isolation: 'inline' });
  expectType<Same<typeof pool, Pool<string, string>>>();
  t.is((await pool.ask('hello')).length, 6);
});

test('a stream whose records are not what the pool takes needs input', async (t) => {
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('lengths', { actor: lengths });
  const numbers = stream(fromIterable([1, 22]));
  // @ts-expect-error the records are numbers, the actor takes strings
  t.deepEqual(await numbers.infer(pool, { order: 'ordered' }).toArray(), []);
  const values = await numbers.infer(pool, { input: (n) => String(n), order: 'ordered' }).toArray();
  expectType<Same<typeof values, { length: number }[]>>();
  t.deepEqual(values, [{ length: 1 }, { length: 2 }]);
});
