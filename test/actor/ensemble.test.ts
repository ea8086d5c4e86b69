import { writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import {
  type Columns,
  createSystem,
  defineActor,
  isTroupeError,
  type Outcome,
  silentLog,
  type TensorRecord,
} from 'troupe';
import { type Deferred, deferred } from '../../src/kernel/deferred.js';
import { addTree, makeTree } from '../models/model-tree.js';
import { CHAIN, chain, chainDir, ensembleDir, ensembleText, numbers, pair, pairs } from './ensemble-graph.js';

type Record = TensorRecord;

const floats = ({ columns }: Pick<Columns, 'columns'>): Float32Array => columns['x']?.data as Float32Array;

/** A step that answers what it took when its gate is opened; `seen` has the batches that came, and their signals. */
function gated() {
  const seen: { readonly count: number; readonly signal: AbortSignal; readonly gate: Deferred<void> }[] = [];
  let arrived = deferred<void>();
  const actor = defineActor({
    signature: { inputs: pairs('x'), outputs: pairs('y') },
    predict: async ({ count, columns }: Columns, { signal }): Promise<Columns> => {
      const gate = deferred<void>();
      seen.push({ count, signal, gate });
      arrived.resolve();
      await gate.promise;
      return { count, columns: { y: { ...(columns['x'] as object), data: columns['x']?.data.slice() } as never } };
    },
  });
  const next = async () => {
    while (seen.length === 0) await arrived.promise;
    arrived = deferred<void>();
    return seen.shift() as (typeof seen)[number];
  };
  return { actor, next };
}

function errorOf(outcome: Outcome<unknown> | undefined): {
  readonly code: string;
  readonly message: string;
  readonly ran: string;
} {
  return outcome?.ok === false ? outcome.error : { code: 'none', message: '', ran: '' };
}

test('an ensemble answers with what its steps make of a record, and has the signature of its file', async (t) => {
  await using system = createSystem({ log: silentLog });
  await chain(system);
  const model = ensembleDir(t, ensembleText(['in'], ['out', 'doubled'], CHAIN));
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model });
  t.deepEqual(pool.signature, { inputs: pairs('in'), outputs: pairs('out', 'doubled') });
  t.deepEqual(await pool.ask({ in: pair(1, 5) }), { out: pair(3, 11), doubled: pair(2, 10) });
  t.is(pool.version, '1');
  t.is(pool.stats().replicas.length, 8);
});

test('max_inflight_requests is how many records are in the steps at most: as large batches, times as many replicas', async (t) => {
  await using system = createSystem({ log: silentLog });
  const { actor, next } = gated();
  await system.spawn('double', { actor, batching: { maxSize: 100, adaptive: false } });
  await system.spawn('inc', { actor: numbers(['x'], (x) => x + 1) });
  const model = ensembleDir(t, ensembleText(['in'], ['out'], CHAIN, '  max_inflight_requests: 5\n'));
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model });
  t.is(pool.stats().replicas.length, 1);
  const asked = pool.askMany(Array.from({ length: 12 }, (_, n) => ({ in: pair(n, n) })));
  let most = 0;
  for (let left = 12; left > 0; ) {
    const { count, gate } = await next();
    most = Math.max(most, system.get('double')?.stats().held ?? 0);
    left -= count;
    gate.resolve();
  }
  t.true((await asked).every(({ ok }) => ok));
  t.true(most >= 1 && most <= 5, `${most}`);
});

test('steps that do not wait for each other are asked at the same time', async (t) => {
  await using system = createSystem({ log: silentLog });
  const [left, right] = [gated(), gated()];
  await system.spawn('left', { actor: left.actor });
  await system.spawn('right', { actor: right.actor });
  await system.spawn('sum', { actor: numbers(['a', 'b'], (a, b) => a + 10 * b) });
  const text = ensembleText(
    ['in'],
    ['out'],
    [
      { model: 'sum', takes: { a: 'l', b: 'r' }, gives: { y: 'out' } },
      { model: 'left', takes: { x: 'in' }, gives: { y: 'l' } },
      { model: 'right', takes: { x: 'in' }, gives: { y: 'r' } },
    ],
  );
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model: ensembleDir(t, text) });
  const asked = pool.ask({ in: pair(1, 2) });
  const batches = [await left.next(), await right.next()];
  for (const { gate } of batches) gate.resolve();
  t.deepEqual(await asked, { out: pair(11, 22) });
});

test('what fails for one record costs that record, with the code of the step and its name', async (t) => {
  await using system = createSystem({ log: silentLog });
  await system.spawn('double', { actor: numbers(['x'], (x) => 2 * x) });
  await system.spawn('inc', { actor: numbers(['x'], (x) => (x === 26 ? NaN : x + 1)) });
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model: chainDir(t), replicas: 1 });
  const records: unknown[] = Array.from({ length: 40 }, (_, n) => ({ in: pair(n, n) }));
  records[7] = { in: pair(0, 0), more: 1 };
  records[8] = { in: Float32Array.of(1, 2, 3) };
  records[9] = 'text';
  const outcomes = await pool.askMany(records as Record[]);
  t.deepEqual(
    outcomes.flatMap(({ ok }, index) => (ok ? [] : [index])),
    [7, 8, 9, 13],
  );
  t.deepEqual(outcomes[12], { ok: true, value: { out: pair(25, 25) }, version: '1' });
  const [more, long, text, thrown] = [7, 8, 9, 13].map((index) => errorOf(outcomes[index]));
  t.is(more?.code, 'INPUT_INVALID');
  t.regex(more?.message ?? '', /input "more" is not in the signature \("in"\)/);
  t.regex(long?.message ?? '', /input "in" expected Float32Array with 2 values/);
  t.regex(text?.message ?? '', /expected an object with the inputs "in"/);
  t.is(thrown?.code, 'PREDICT_FAILED');
  t.is(thrown?.ran, 'failed');
  t.regex(thrown?.message ?? '', /^step 2 \(inc\): predict of actor "inc" failed: not a number$/);
});

test('an error of an inner pool keeps its code, and says that something ran where an earlier step has', async (t) => {
  await using system = createSystem({ log: silentLog });
  await chain(system);
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model: chainDir(t) });
  await system.stopPool('inc');
  const [late] = await pool.askMany([{ in: pair(1, 1) }]);
  t.is(errorOf(late).code, 'NO_REPLICA');
  t.is(errorOf(late).message, 'step 2 (inc): there is no pool "inc" any more');
  t.is(errorOf(late).ran, 'interrupted');
  await system.stopPool('double');
  const [early] = await pool.askMany([{ in: pair(1, 1) }]);
  t.is(errorOf(early).message, 'step 1 (double): there is no pool "double" any more');
  t.is(errorOf(early).ran, 'not-started');
  await chain(system);
  t.deepEqual(await pool.ask({ in: pair(1, 1) }), { out: pair(3, 3) }, 'pools of these names are back');
  await system.stopPool('inc');
  await system.spawn('inc', { actor: numbers(['other'], (x) => x) });
  const [other] = await pool.askMany([{ in: pair(1, 1) }]);
  t.is(errorOf(other).code, 'SIGNATURE_MISMATCH');
  t.regex(errorOf(other).message, /^step 2 \(inc\): pool "inc" has changed since the ensemble was loaded: input "x"/);
});

test('two ensembles share a pool whose mailbox holds one record: none is lost, and nothing locks up', async (t) => {
  await using system = createSystem({ log: silentLog });
  const mailbox = { capacity: 1 } as const;
  await system.spawn('double', { actor: numbers(['x'], (x) => 2 * x), mailbox });
  await system.spawn('inc', { actor: numbers(['x'], (x) => x + 1), mailbox });
  const back = ensembleText(
    ['in'],
    ['out'],
    [
      { model: 'inc', takes: { x: 'in' }, gives: { y: 'more' } },
      { model: 'double', takes: { x: 'more' }, gives: { y: 'out' } },
    ],
  );
  const there = await system.spawn<Record, Record>('there', { actor: 'ensemble', model: chainDir(t) });
  const again = await system.spawn<Record, Record>('again', {
    actor: 'ensemble',
    model: ensembleDir(t, back),
    mailbox,
  });
  const records = Array.from({ length: 300 }, (_, n) => ({ in: pair(n, -n) }));
  const [one, other] = await Promise.all([there.askMany(records), again.askMany(records)]);
  records.forEach((_, n) => {
    t.deepEqual(one[n], { ok: true, value: { out: pair(2 * n + 1, -2 * n + 1) }, version: '1' });
    t.deepEqual(other[n], { ok: true, value: { out: pair(2 * (n + 1), 2 * (1 - n)) }, version: '1' });
  });
});

test('the pool of a step makes one batch of what comes from many callers', async (t) => {
  await using system = createSystem({ log: silentLog });
  const { actor, next } = gated();
  await system.spawn('double', { actor, batching: { adaptive: false } });
  await system.spawn('inc', { actor: numbers(['x'], (x) => x + 1) });
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model: chainDir(t) });
  const first = pool.ask({ in: pair(0, 0) });
  const held = await next();
  const others = [1, 2, 3, 4].map((n) => pool.ask({ in: pair(n, n) }));
  while ((system.get('double')?.stats().held ?? 0) < 5) await new Promise((resolve) => setImmediate(resolve));
  held.gate.resolve();
  const second = await next();
  t.is(second.count, 4);
  second.gate.resolve();
  t.deepEqual(
    await Promise.all([first, ...others]),
    [1, 1, 1, 1, 1].map((_, n) => ({ out: pair(n + 1, n + 1) })),
  );
});

test('what is given up, or past its deadline, is given up in the pools of the steps too', async (t) => {
  await using system = createSystem({ log: silentLog });
  const { actor, next } = gated();
  await system.spawn('double', { actor });
  await system.spawn('inc', { actor: numbers(['x'], (x) => x + 1) });
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model: chainDir(t) });
  const controller = new AbortController();
  const [asked, late] = [
    t.throwsAsync(pool.ask({ in: pair(1, 1) }, { signal: controller.signal })),
    t.throwsAsync(pool.ask({ in: pair(2, 2) }, { timeoutMs: 20 })),
  ];
  const running = await next();
  const ended = deferred<void>();
  running.signal.addEventListener('abort', () => ended.resolve());
  controller.abort();
  const [cancelled, overdue] = [await asked, await late];
  t.true(isTroupeError(cancelled) && cancelled.code === 'CANCELLED');
  t.true(isTroupeError(overdue) && overdue.code === 'DEADLINE_PASSED');
  await ended.promise;
  // No gate was opened: the pool of the step holds nothing more because nobody wants it.
  const double = system.get('double');
  while ((double?.stats().held ?? 0) > 0) await new Promise((resolve) => setImmediate(resolve));
  t.is(double?.stats().results, 0);
  running.gate.resolve();
});

test('a version of a step may be swapped under it; a step with a model_version takes no other', async (t) => {
  await using system = createSystem({ log: silentLog });
  const root = makeTree(t, { 'scale/1/': '', 'scale/2/': '' });
  const scale = defineActor({
    signature: { inputs: pairs('x'), outputs: pairs('y') },
    load: ({ version }) => Number(version),
    predict: ({ count, columns }: Columns, { state }): Columns => {
      const data = floats({ columns }).map((value) => value * 10 ** state);
      return { count, columns: { y: { dtype: 'float32', shape: [2], data } } };
    },
  });
  const inner = await system.spawn('any', { actor: scale, model: path.join(root, 'scale'), version: 1 });
  const step = { model: 'scale', takes: { x: 'in' }, gives: { y: 'out' } };
  const free = await system.spawn<Record, Record>('free', {
    actor: 'ensemble',
    model: ensembleDir(t, ensembleText(['in'], ['out'], [step])),
  });
  const pinned = ensembleDir(t, ensembleText(['in'], ['out'], [{ ...step, version: 1 }]));
  const held = await system.spawn<Record, Record>('held', { actor: 'ensemble', model: pinned });
  t.deepEqual(await held.ask({ in: pair(1, 2) }), { out: pair(10, 20) });
  await inner.swap(2);
  t.deepEqual(await free.ask({ in: pair(1, 2) }), { out: pair(100, 200) });
  const [refused] = await held.askMany([{ in: pair(1, 2) }]);
  t.is(errorOf(refused).code, 'VERSION_NOT_FOUND');
  t.is(errorOf(refused).message, 'step 1 (scale): version 2 answered, and the step wants 1');
  const error = await t.throwsAsync(system.spawn('late', { actor: 'ensemble', model: pinned }));
  t.regex(error?.message ?? '', /step 1 \(scale\): it wants version 1, and pool "any" serves 2$/);
});

test('a swap of an ensemble takes its new graph; one that does not fit is rolled back, and the old graph serves on', async (t) => {
  await using system = createSystem({ log: silentLog });
  await chain(system);
  await system.spawn('loop', { actor: numbers(['x'], (x) => x) });
  const model = chainDir(t);
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model });
  const config = path.join(model, 'config.pbtxt');
  const changed = CHAIN.map((step) => ({ ...step, model: step.model === 'inc' ? 'double' : step.model }));
  addTree(model, { '2/': '' });
  writeFileSync(config, ensembleText(['in'], ['out'], changed));
  await pool.swap(2);
  t.deepEqual(await pool.ask({ in: pair(1, 2) }), { out: pair(4, 8) });
  addTree(model, { '3/': '' });
  writeFileSync(
    config,
    ensembleText(['in'], ['out'], [...CHAIN.slice(0, 1), { ...CHAIN[1], model: 'nobody' } as never]),
  );
  const failed = await t.throwsAsync(pool.swap(3));
  t.true(isTroupeError(failed) && failed.code === 'SWAP_ROLLED_BACK');
  t.regex(failed?.message ?? '', /e\/config.pbtxt:\d+:\d+: .*step 2 \(nobody\): no pool is called "nobody"/);
  writeFileSync(config, ensembleText(['in'], ['out', 'doubled'], CHAIN));
  await t.throwsAsync(pool.swap(3), { message: /output "doubled" \(float32\[2\]\) is new/ });
  writeFileSync(config, ensembleText(['in'], ['out'], [{ ...CHAIN[0], model: 'e' } as never, CHAIN[1] as never]));
  await t.throwsAsync(pool.swap(3), { message: /ensembles ask each other in a circle: e -> e$/ });
  t.deepEqual(await pool.ask({ in: pair(1, 2) }), { out: pair(4, 8) });
});

test('ensembles start after the pools of their steps, in whatever order they are spawned, and stop before them', async (t) => {
  const system = createSystem({ log: silentLog });
  const { actor, next } = gated();
  const outer = ensembleText(['in'], ['out'], [{ model: 'e', takes: { in: 'in' }, gives: { out: 'out' } }]);
  const [outermost] = await Promise.all([
    system.spawn<Record, Record>('top', { actor: 'ensemble', model: ensembleDir(t, outer) }),
    system.spawn('e', { actor: 'ensemble', model: chainDir(t) }),
    system.spawn('double', { actor }),
    system.spawn('inc', { actor: numbers(['x'], (x) => x + 1) }),
  ]);
  t.deepEqual(system.names(), ['double', 'inc', 'e', 'top']);
  const asked = outermost.askMany([{ in: pair(1, 2) }, { in: pair(3, 4) }]);
  const running = await next();
  const stopped = system.stop();
  running.gate.resolve();
  if (running.count === 1) (await next()).gate.resolve();
  t.deepEqual(
    (await asked).map((outcome) => outcome.ok && outcome.value),
    [{ out: pair(2, 3) }, { out: pair(4, 5) }],
  );
  await stopped;
});

test('an ensemble stops before a pool that was stopped and spawned again after it', async (t) => {
  const system = createSystem({ log: silentLog });
  const { actor, next } = gated();
  await chain(system);
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model: chainDir(t) });
  await system.stopPool('double');
  await system.stopPool('inc');
  await system.spawn('double', { actor });
  await system.spawn('inc', { actor: numbers(['x'], (x) => x + 1) });
  const asked = pool.askMany([{ in: pair(1, 2) }]);
  const running = await next();
  const stopped = system.stop();
  running.gate.resolve();
  t.deepEqual(await asked, [{ ok: true, value: { out: pair(2, 3) }, version: '1' }]);
  await stopped;
});

test('ensembles that are stopped, or whose step does not start, while they wait for it leave nothing behind', async (t) => {
  await using system = createSystem({ log: silentLog });
  const opened = deferred<void>();
  const slow = { ...numbers(['x'], (x) => x), load: () => opened.promise };
  const broken = { ...numbers(['x'], (x) => x), load: () => Promise.reject(new Error('no weights')) };
  const one = (model: string): string =>
    ensembleDir(t, ensembleText(['in'], ['out'], [{ model, takes: { x: 'in' }, gives: { y: 'out' } }]));
  const starting = system.spawn('slow', { actor: slow });
  const waiting = t.throwsAsync(system.spawn('waits', { actor: 'ensemble', model: one('slow') }));
  const failing = t.throwsAsync(system.spawn('broken', { actor: broken }));
  const failed = await t.throwsAsync(system.spawn('fails', { actor: 'ensemble', model: one('broken') }));
  t.regex(failed?.message ?? '', /Pool "fails": its pool "broken" did not start: .*no weights/);
  await failing;
  await system.stopPool('waits');
  opened.resolve();
  await starting;
  const stopped = await waiting;
  t.true(isTroupeError(stopped) && stopped.code === 'POOL_STOPPED', String(stopped));
  t.deepEqual(system.names(), ['slow']);
});

test('ensembles that ask each other are refused at the start', async (t) => {
  await using system = createSystem({ log: silentLog });
  const one = (model: string): string =>
    ensembleDir(t, ensembleText(['in'], ['out'], [{ model, takes: { in: 'in' }, gives: { out: 'out' } }]));
  const errors = await Promise.all([
    t.throwsAsync(system.spawn('a', { actor: 'ensemble', model: one('b') })),
    t.throwsAsync(system.spawn('b', { actor: 'ensemble', model: one('a') })),
    t.throwsAsync(system.spawn('self', { actor: 'ensemble', model: one('self') })),
  ]);
  t.regex(errors.map((error) => error?.message).join('\n'), /in a circle: b -> a -> b[\s\S]*in a circle: self -> self/);
  t.deepEqual(system.names(), []);
});

test('a step may be one model of a pool of many', async (t) => {
  await using system = createSystem({ log: silentLog });
  const root = makeTree(t, { 'inc/1/': '', 'double/1/': '', 'double/2/': '' });
  const actor = defineActor({
    signature: () => ({ inputs: pairs('x'), outputs: pairs('y') }),
    load: ({ model, version }) => ({ isInc: model === 'inc', version: Number(version) }),
    predict: ({ count, columns }: Columns, { state }): Columns => {
      const change = (value: number): number => (state.isInc ? value + 1 : value * 2 * state.version);
      const data = floats({ columns }).map(change);
      return { count, columns: { y: { dtype: 'float32', shape: [2], data } } };
    },
  });
  await system.spawn('zoo', { actor, models: { root, maxBytes: 1e9 } });
  const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model: chainDir(t) });
  t.deepEqual(await pool.ask({ in: pair(1, 2) }), { out: pair(5, 9) }, 'the newest version of double');
  const pinned = CHAIN.map((step) => (step.model === 'double' ? { ...step, version: 1 } : step));
  const old = await system.spawn<Record, Record>('old', {
    actor: 'ensemble',
    model: ensembleDir(t, ensembleText(['in'], ['out'], pinned)),
  });
  t.deepEqual(await old.ask({ in: pair(1, 2) }), { out: pair(3, 5) });
});

const OTHER_TENSORS: Readonly<{
  [what: string]: (count: number) => [name: string, column: Columns['columns'][string]];
}> = {
  name: (count) => ['z', { dtype: 'float32', shape: [2], data: new Float32Array(2 * count) }],
  type: (count) => ['y', { dtype: 'int32', shape: [2], data: new Int32Array(2 * count) }],
  shape: (count) => ['y', { dtype: 'float32', shape: [3], data: new Float32Array(3 * count) }],
};

for (const [what, other] of Object.entries(OTHER_TENSORS)) {
  const wrong = /^step 1 \(double\): pool "zoo" has changed since the ensemble was loaded: output "[yz]" .*; restart/;

  test(`a version with an output of another ${what}, in a pool of many models, is SIGNATURE_MISMATCH`, async (t) => {
    await using system = createSystem({ log: silentLog });
    const root = makeTree(t, { 'double/1/': '' });
    const actor = defineActor({
      load: ({ version }) => ({ isOther: version === '2' }),
      signature: ({ isOther }) => {
        const [name, { dtype, shape }] = other(1);
        return { inputs: pairs('x'), outputs: isOther ? [{ name, dtype, shape }] : pairs('y') };
      },
      predict: ({ count, columns }: Columns, { state }): Columns => {
        const own: ReturnType<typeof other> = [
          'y',
          { dtype: 'float32', shape: [2], data: floats({ columns }).slice() },
        ];
        return { count, columns: Object.fromEntries([state.isOther ? other(count) : own]) };
      },
    });
    const zoo = await system.spawn('zoo', { actor, models: { root, maxBytes: 1e9 } });
    const steps = [{ model: 'double', takes: { x: 'in' }, gives: { y: 'out' } }];
    const model = ensembleDir(t, ensembleText(['in'], ['out'], steps));
    const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model });
    t.deepEqual(await pool.ask({ in: pair(1, 2) }), { out: pair(1, 2) });
    addTree(root, { 'double/2/': '' });
    await zoo.swap('latest', { model: 'double' });
    const outcomes = await pool.askMany([{ in: pair(1, 2) }, { in: pair(3, 4) }]);
    for (const outcome of outcomes) {
      t.is(errorOf(outcome).code, 'SIGNATURE_MISMATCH');
      t.regex(errorOf(outcome).message, wrong);
    }
  });

  test(`an answer of a relay whose output has another ${what} is SIGNATURE_MISMATCH`, async (t) => {
    await using system = createSystem({ log: silentLog });
    const [name, { data }] = other(1);
    const relay = defineActor({
      relays: true,
      signature: { inputs: pairs('x'), outputs: pairs('y') },
      predict: (batch: unknown) =>
        (batch as readonly Record[]).map(({ x }) =>
          (x as Float32Array)[0] === 0 ? { [name]: data } : { y: x },
        ) as never,
    });
    await system.spawn('zoo', { actor: relay });
    const steps = [{ model: 'zoo', takes: { x: 'in' }, gives: { y: 'out' } }];
    const model = ensembleDir(t, ensembleText(['in'], ['out'], steps));
    const pool = await system.spawn<Record, Record>('e', { actor: 'ensemble', model });
    const [right, bad] = await pool.askMany([{ in: pair(1, 2) }, { in: pair(0, 4) }]);
    t.deepEqual(right?.ok && right.value, { out: pair(1, 2) });
    t.is(errorOf(bad).code, 'SIGNATURE_MISMATCH');
    t.regex(errorOf(bad).message, /^step 1 \(zoo\): pool "zoo" has changed .*: output "y" .*; restart the ensemble$/);
  });
}
