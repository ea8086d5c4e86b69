import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import {
  createSystem,
  defineActor,
  fromIterable,
  type Outcome,
  type Pool,
  type PoolOptions,
  silentLog,
  stream,
  type Submission,
  toArray,
  type TroupeError,
} from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import { virtualPool } from './virtual-pool.js';

interface Result {
  text: string;
  /** The run of the model that made it. */
  run: number;
  scores: Float32Array;
}

/** Each answer says which run made it, so that two of one run are one answer. */
function counting() {
  const runs: unknown[] = [];
  const actor = defineActor<unknown, Result, void>({
    predict: (batch: unknown[]) =>
      batch.map((record) => {
        if (record === 'bad') return new Error('a bad record');
        return { text: String(record), run: runs.push(record), scores: Float32Array.of(1, 2) };
      }),
  });
  return { actor, runs };
}

async function cached(t: ExecutionContext, options: Omit<PoolOptions, 'actor'> = {}) {
  const { actor, runs } = counting();
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const pool = await system.spawn<unknown, Result>('p', { actor, cache: true, ...options });
  return { system, pool, runs };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('an equal record has the answer of the first, and the model does not run again', async (t) => {
  const { pool, runs } = await cached(t);
  const first = await pool.ask({ a: 1, b: [Float32Array.of(3)] });
  const again = await pool.ask({ b: [Float32Array.of(3)], a: 1 });
  t.deepEqual(again, first);
  t.is((await pool.ask({ a: 1, b: [Float32Array.of(4)] })).run, 2);
  t.is(runs.length, 2);
  const { cache, ...stats } = pool.stats();
  t.like(stats, { accepted: 3, settled: 3, results: 3, held: 0, batches: 2 });
  t.like(cache, { records: 2, hits: 1, misses: 2, bypassed: 0, evictions: 0, expired: 0, maxBytes: 64_000_000 });
  t.true((cache?.bytes ?? 0) > 0);
  t.is(stats.asyncBatch.totalRecordsProcessed, 2);
});

test('a pool without the option keeps nothing', async (t) => {
  const { pool } = await cached(t, { cache: false });
  await pool.ask('x');
  t.is((await pool.ask('x')).run, 2);
  t.is(pool.stats().cache, undefined);
});

test('whoever changes an answer changes it for nobody else', async (t) => {
  const { pool } = await cached(t);
  for (let times = 0; times < 3; times++) {
    const result = await pool.ask('x');
    t.deepEqual(result, { text: 'x', run: 1, scores: Float32Array.of(1, 2) });
    result.text = 'changed';
    result.scores.fill(9);
  }
  const [one, other] = await Promise.all([pool.ask('x'), pool.ask('x')]);
  t.not(one.scores.buffer, other.scores.buffer);
});

test('askMany and a pipeline have the answers in order, each with the version that made it', async (t) => {
  const { pool, runs } = await cached(t, { version: 7, mailbox: { capacity: 4 } });
  await pool.askMany(['a', 'b', 'c']);
  const records = Array.from({ length: 1000 }, (_, n) => ['a', 'b', 'c', 'new'][n % 4] as string);
  // Of those that come in one turn, none has been answered when the next is looked for.
  await pool.ask('new');
  const outcomes = await pool.askMany(records, { views: true });
  t.deepEqual(
    outcomes.map((outcome) => outcome.ok && [outcome.value.text, outcome.version, Object.keys(outcome).length]),
    records.map((text) => [text, '7', 3]),
  );
  t.is(runs.length, 4);
  t.is(pool.stats().cache?.hits, 1000);
  for (const order of ['ordered', 'unordered'] as const) {
    const sink = toArray<string>();
    const report = await stream(fromIterable([...records, 'fresh', 'bad']))
      .infer(pool, {
        order,
        capacity: 16,
        output: (_: unknown, result: Result, version) => `${result.text} ${version}`,
      })
      .to(sink);
    t.like(report, { records: 1002, results: 1001, failed: 1 });
    t.is(report.metrics[0]?.totalRecordsProcessed, 1002);
    if (order === 'ordered')
      t.deepEqual(
        sink.values.slice(0, 1000),
        records.map((text) => `${text} 7`),
      );
    else t.is(sink.values.length, 1001);
  }
  t.is(runs.length, 5);
});

test('an operator that only hits lets timers have their turn, and is called again', async (t) => {
  const { pool } = await cached(t, { mailbox: { capacity: 8 } });
  await pool.ask('a');
  let turns = 0;
  let isOver = false;
  const count = (): void => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  const outcomes = await pool.askMany(Array.from({ length: 800 }, () => 'a'));
  isOver = true;
  t.true(outcomes.every(({ ok }) => ok));
  t.true(turns >= 99, `${turns} turns of the loop for 100 mailboxes of hits`);
});

test('a sender that leaves while it waits for hits of others is not called', async (t) => {
  const { pool } = await cached(t, { mailbox: { capacity: 1 } });
  await pool.ask('a');
  const sender = pool.openSender('s');
  const settled: Outcome<Result>[] = [];
  const submission: Submission<unknown, Result> = {
    input: 'a',
    sender,
    priority: 0,
    deadlineAt: Infinity,
    settled: (outcome) => settled.push(outcome),
  };
  t.truthy(pool.offer(submission));
  t.is(pool.offer(submission), undefined);
  pool.onRoom(sender, () => t.fail('it was called'));
  pool.closeSender(sender);
  await turn();
  await turn();
  t.is(settled.length, 1);
});

test('errors are not kept', async (t) => {
  const { pool } = await cached(t);
  for (let times = 0; times < 2; times++) await t.throwsAsync(pool.ask('bad'), { code: 'PREDICT_FAILED' });
  t.like(pool.stats().cache, { records: 0, hits: 0, misses: 2 });
});

test('token streams and results that are no plain data are not kept', async (t) => {
  class Label {
    constructor(readonly name: string) {}
  }
  let runs = 0;
  const actor = defineActor<string, unknown, void>({
    predict: (batch: string[]) =>
      batch.map((text) => {
        runs++;
        if (text === 'label') return new Label('x');
        return (async function* () {
          yield text;
        })();
      }),
  });
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, unknown>('p', { actor, cache: true });
  for (let times = 0; times < 2; times++) {
    const pieces = [];
    for await (const piece of (await pool.ask('tokens')) as AsyncIterable<string>) pieces.push(piece);
    t.deepEqual(pieces, ['tokens']);
    t.true((await pool.ask('label')) instanceof Label);
  }
  t.is(runs, 4);
  t.is(pool.stats().cache?.records, 0);
});

test('what may depend on more than the record is not looked for: keys, told records, actors that are not repeatable', async (t) => {
  const { pool, runs } = await cached(t);
  await pool.ask('x');
  t.is((await pool.ask('x', { key: 'k' })).run, 2);
  const [outcome] = await pool.askMany(['x'], { key: () => 'k' });
  t.is(outcome?.ok && outcome.value.run, 3);
  pool.tell('x');
  await pool.askMany([() => 1]);
  t.is(runs.length, 5);
  t.like(pool.stats().cache, { hits: 0, misses: 1, bypassed: 4, records: 1 });
  t.is((await pool.ask('x')).run, 1);

  await using system = createSystem({ log: silentLog });
  let count = 0;
  const once = defineActor<string, number, void>({ repeatable: false, predict: (batch) => batch.map(() => ++count) });
  const careful = await system.spawn<string, number>('careful', { actor: once, cache: true });
  t.deepEqual([await careful.ask('x'), await careful.ask('x')], [1, 2]);
  t.like(careful.stats().cache, { hits: 0, misses: 0, bypassed: 2, records: 0 });
});

test('an answer is not given when its time is over', async (t) => {
  const { pool, clock, next } = await virtualPool({ cache: { ttlMs: 1000 } });
  const first = pool.ask('x');
  (await next()).answer(['X']);
  t.is(await first, 'X');
  clock.advance(999);
  t.is(await pool.ask('x'), 'X');
  clock.advance(1);
  const second = pool.ask('x');
  (await next()).answer(['Y']);
  t.is(await second, 'Y');
  t.is(await pool.ask('x'), 'Y');
  t.like(pool.stats().cache, { hits: 2, misses: 2, expired: 1, evictions: 0, records: 1 });
  await pool.stop();
});

test('a hit takes no room of a full mailbox, asks no breaker and wakes no pool that sleeps', async (t) => {
  const { pool, clock, next } = await virtualPool({
    cache: true,
    mailbox: { capacity: 1 },
    batching: { maxSize: 1 },
    breaker: { minCalls: 1, failureRate: 0.5 },
    replicas: { min: 0, max: 1, idleAfterMs: 1000 },
    batchTimeoutMs: 1e6,
    timeoutMs: 1e6,
  });
  const first = pool.ask('x');
  (await next()).answer(['X']);
  await first;
  const running = pool.ask('y');
  const batch = await next();
  const waiting = pool.ask('z');
  await t.throwsAsync(pool.ask('w'), { code: 'MAILBOX_FULL' });
  t.is(await pool.ask('x'), 'X');
  batch.fail(new Error('no'));
  await t.throwsAsync(running);
  (await next()).fail(new Error('no'));
  await t.throwsAsync(waiting);
  await t.throwsAsync(pool.ask('w'), { code: 'BREAKER_OPEN' });
  t.is(await pool.ask('x'), 'X');
  for (let step = 0; step < 40 && pool.stats().wanted > 0; step++) {
    clock.advance(100);
    await turn();
  }
  t.true(pool.stats().scaling?.asleep);
  t.is(await pool.ask('x'), 'X');
  await turn();
  t.is(pool.stats().wanted, 0);
  await pool.stop();
});

test('a hit honours the signal, the deadline and the end of its pool', async (t) => {
  const { pool, runs } = await cached(t);
  await pool.ask('x');
  const aborted = AbortSignal.abort(new Error('too late'));
  const error = await t.throwsAsync<TroupeError>(pool.ask('x', { signal: aborted }), { code: 'CANCELLED' });
  t.is(error?.ran, 'not-started');
  const controller = new AbortController();
  const ask = pool.ask('x', { signal: controller.signal });
  const many = pool.askMany(['x', 'x'], { signal: controller.signal });
  controller.abort();
  await t.throwsAsync(ask, { code: 'CANCELLED' });
  t.deepEqual(
    (await many).map((outcome) => !outcome.ok && outcome.error.code),
    ['CANCELLED', 'CANCELLED'],
  );
  await t.throwsAsync(pool.ask('x', { timeoutMs: 0 }), { code: 'DEADLINE_PASSED' });
  t.is(pool.stats().cache?.hits, 0);
  const last = pool.ask('x');
  const stopped = pool.stop({ timeoutMs: 0 });
  t.is((await last).run, 1, 'what was answered before the stop stays answered');
  t.deepEqual(await stopped, { drained: 0, rejected: 0 });
  await t.throwsAsync(pool.ask('x'), { code: 'POOL_STOPPED' });
  t.is(runs.length, 1);
  t.like(pool.stats().cache, { records: 0, bytes: 0, hits: 1 });
  const { accepted, settled, held } = pool.stats();
  t.deepEqual([accepted - settled, held], [0, 0]);
});

test('a pool that drains answers what it took, and takes no hit more', async (t) => {
  const { pool } = await cached(t);
  await pool.ask('x');
  const taken = pool.ask('x');
  const drained = pool.drain();
  await t.throwsAsync(pool.ask('x'), { code: 'POOL_STOPPED' });
  t.is((await taken).run, 1);
  await drained;
});

/** Answers with the version that answered, when the test lets it. */
function versioned() {
  let loads = 0;
  const gate = { open: undefined as Promise<void> | undefined };
  const actor = defineActor<string, string, string>({
    load: ({ version }) => `${version} of load ${++loads}`,
    predict: async (batch: string[], { state }) => {
      await gate.open;
      return batch.map((record) => `${record} by ${state}`);
    },
  });
  return { actor, gate };
}

async function versionedPool(t: ExecutionContext, options: Omit<PoolOptions, 'actor'> = {}) {
  const { actor, gate } = versioned();
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const pool = await system.spawn<string, string>('p', { actor, version: 1, cache: true, ...options });
  return { pool, gate };
}

test('after a swap no answer is of another version, however busy the pool was', async (t) => {
  const { pool } = await versionedPool(t, { replicas: 2, batching: { maxSize: 4 } });
  const records = Array.from({ length: 20 }, (_, n) => `r${n}`);
  let serving = 1;
  let isOver = false;
  let asked = 0;
  const wrong: string[] = [];
  const asker = async (): Promise<void> => {
    while (!isOver) {
      const least = serving;
      for (const outcome of await pool.askMany(records)) {
        asked++;
        if (!outcome.ok) wrong.push(outcome.error.message);
        else if (!outcome.value.includes(`by ${outcome.version} `))
          wrong.push(`${outcome.value} as ${outcome.version}`);
        else if (Number(outcome.version) < least) wrong.push(`${outcome.value} when ${least} served`);
      }
    }
  };
  const askers = [asker(), asker(), asker()];
  for (let version = 2; version <= 8; version++) {
    await pool.swap(version, version % 3 === 0 ? { strategy: 'rolling' } : {});
    serving = version;
    await pool.askMany(records);
  }
  isOver = true;
  await Promise.all(askers);
  t.deepEqual(wrong, []);
  t.true((pool.stats().cache?.hits ?? 0) > 0 && asked > 0);
});

test('no order of swaps, trials, ways back and restarts gives an answer of a load that was gone when it was asked for', async (t) => {
  let hits = 0;
  const operations = ['swap', 'keep', 'promote', 'give up', 'back', 'restart', 'fail'] as const;
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...operations), { maxLength: 8 }), async (list) => {
      const gone = new Set<number>();
      let loads = 0;
      const actor = defineActor<string, { load: number }, number>({
        load: ({ version }) => {
          if (version === '13') throw new Error('it cannot be loaded');
          return ++loads;
        },
        predict: async (batch: string[], { state }) => {
          await turn();
          return batch.map(() => ({ load: state }));
        },
        unload: (load) => void gone.add(load),
      });
      const system = createSystem({ log: silentLog });
      const pool = await system.spawn<string, { load: number }>('p', {
        actor,
        version: 1,
        cache: true,
        batching: { maxSize: 2 },
      });
      let isOver = false;
      const wrong: string[] = [];
      const asker = async (): Promise<void> => {
        for (let n = 0; !isOver; n++) {
          const goneBefore = new Set(gone);
          const [outcome] = await pool.askMany([`r${n % 3}`]);
          if (outcome?.ok !== true) wrong.push(outcome?.error.message ?? 'none');
          else if (goneBefore.has(outcome.value.load)) wrong.push(`an answer of load ${outcome.value.load}`);
        }
      };
      const askers = [asker(), asker(), asker(), asker()];
      const trial = async (end: () => Promise<void>): Promise<void> => {
        const baking = new Promise<void>((resolve) => {
          pool.on('rollout', ({ step }) => step === 'baking' && resolve());
        });
        const swap = pool.swap(2, { canary: 0.5, bakeMs: 600_000 }).catch(() => undefined);
        await baking;
        await pool.ask('r0');
        await end();
        await swap;
      };
      for (const operation of list) {
        if (operation === 'swap') await pool.swap(1);
        else if (operation === 'keep') await pool.swap(3, { keepPreviousMs: 600_000 });
        else if (operation === 'promote') await trial(() => pool.promote());
        else if (operation === 'give up') await trial(() => pool.rollback());
        else if (operation === 'back') await pool.rollback().catch(() => undefined);
        else if (operation === 'restart') await pool.restart();
        else await t.throwsAsync(pool.swap(13));
        await pool.askMany(['r0', 'r1', 'r2']);
      }
      isOver = true;
      await Promise.all(askers);
      hits += pool.stats().cache?.hits ?? 0;
      await system.stop();
      t.deepEqual(wrong, [], list.join());
    }),
    { numRuns: 25 },
  );
  t.true(hits > 0);
});

test('what the old version answers after the swap is given to its asker and to nobody else', async (t) => {
  const { pool, gate } = await versionedPool(t);
  const held = deferred<void>();
  gate.open = held.promise;
  const late = pool.ask('x');
  await turn();
  await turn();
  const swapped = pool.swap(2, { keepPreviousMs: 60_000 });
  await swapped;
  held.resolve();
  t.is(await late, 'x by 1 of load 1');
  t.is(await pool.ask('x'), 'x by 2 of load 2');
  t.is(await pool.ask('x'), 'x by 2 of load 2');
  await pool.rollback();
  t.is(await pool.ask('x'), 'x by 1 of load 1');
  t.like(pool.stats().cache, { hits: 1, misses: 3 });
});

test('the same version loaded again makes its answers anew, by a swap and by a restart', async (t) => {
  const { pool } = await versionedPool(t);
  t.is(await pool.ask('x'), 'x by 1 of load 1');
  await pool.swap(1);
  t.is(await pool.ask('x'), 'x by 1 of load 2');
  await pool.restart();
  t.is(await pool.ask('x'), 'x by 1 of load 3');
  t.is(pool.stats().cache?.hits, 0);
});

test('while a version is on trial every record goes to the replicas, and then the old answers are there again', async (t) => {
  for (const trial of [{ canary: 0.5 }, { shadow: 1 }, {}]) {
    const { pool } = await versionedPool(t, { batching: { maxSize: 1 } });
    const records = ['a', 'b', 'c', 'd'];
    await pool.askMany(records);
    const baking = new Promise<void>((resolve) => {
      pool.on('rollout', ({ step }) => step === 'baking' && resolve());
    });
    const swap = pool.swap(2, { ...trial, bakeMs: 600_000 });
    const rolledBack = t.throwsAsync(swap, { code: 'SWAP_ROLLED_BACK' });
    await baking;
    const { batches } = pool.stats();
    const outcomes = await pool.askMany([...records, ...records]);
    t.true(outcomes.every(({ ok }) => ok));
    t.like(pool.stats(), { batches: batches + 8, cache: { hits: 0, bypassed: 8 } });
    await pool.rollback();
    await rolledBack;
    t.is(await pool.ask('a'), 'a by 1 of load 1');
    t.like(pool.stats().cache, { hits: 1 });
  }
});

test('while a version loads the one that serves answers from the cache', async (t) => {
  const { pool } = await versionedPool(t);
  await pool.ask('x');
  const loading = new Promise<string>((resolve, reject) => {
    pool.on('rollout', ({ step }) => {
      if (step === 'loading') pool.ask('x').then(resolve, reject);
    });
  });
  await pool.swap(2);
  t.is(await loading, 'x by 1 of load 1');
  t.is(pool.stats().cache?.hits, 1);
});

test('many models have their answers apart, by model and version', async (t) => {
  await using system = createSystem({ log: silentLog });
  let loads = 0;
  const actor = defineActor<string, string, string>({
    load: ({ model }) => `${model} of load ${++loads}`,
    predict: (batch: string[], { state }) => batch.map((record) => `${record} by ${state}`),
  });
  const models = { list: ['fr', 'de'], maxBytes: 1000 };
  const pool = await system.spawn<string, string>('p', { actor, cache: true, models });
  t.is(await pool.ask('x', { model: 'fr' }), 'x by fr of load 1');
  t.is(await pool.ask('x', { model: 'de' }), 'x by de of load 2');
  const [fr] = await pool.askMany(['x'], { model: () => 'fr' });
  t.deepEqual(fr, { ok: true, value: 'x by fr of load 1', version: undefined, model: 'fr' });
  t.like(pool.meters().cache?.of('fr'), { hits: 1, misses: 1 });
  t.like(pool.meters().cache?.of('de'), { hits: 0, misses: 1 });
  await t.throwsAsync(pool.ask('x', { model: 'it' }), { code: 'MODEL_NOT_FOUND' });
  t.throws(() => pool.ask('x'), { instanceOf: TypeError });
  const gone = new Promise((resolve) => pool.once('model-evicted', resolve));
  t.true(pool.unload('fr'));
  await gone;
  t.is(await pool.ask('x', { model: 'fr' }), 'x by fr of load 3');
});

test('a hundred thousand different records stay within maxBytes', async (t) => {
  const maxBytes = 1_000_000;
  const actor = defineActor<Float64Array, Float64Array, void>({ predict: (batch: Float64Array[]) => batch });
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<Float64Array, Float64Array>('p', {
    actor,
    cache: { maxBytes },
    batching: { maxSize: 256 },
  });
  let most = 0;
  for (let from = 0; from < 100_000; from += 10_000) {
    const records = Array.from({ length: 10_000 }, (_, n) => Float64Array.of(from + n, 1, 2, 3));
    const outcomes = await pool.askMany(records);
    t.true(outcomes.every((outcome, n) => outcome.ok && outcome.value[0] === from + n));
    most = Math.max(most, pool.stats().cache?.bytes ?? Infinity);
  }
  const { records = 0, evictions, misses } = pool.stats().cache ?? {};
  t.true(most <= maxBytes && most > maxBytes * 0.99, `${most} bytes`);
  t.is(misses, 100_000);
  t.is(records + (evictions ?? 0), 100_000);
  const [last] = await pool.askMany([Float64Array.of(99_999, 1, 2, 3)]);
  t.true(last?.ok);
  t.is(pool.stats().cache?.hits, 1);
});

test('wrong options are refused with what was expected', async (t) => {
  await using system = createSystem({ log: silentLog });
  const { actor } = counting();
  const wrong: [unknown, RegExp][] = [
    ['yes', /cache.*expected true, false, or a map of maxBytes and ttlMs/],
    [{ maxBytes: 0 }, /cache/],
    [{ maxBytes: 1.5 }, /cache/],
    [{ maxBytes: Infinity }, /cache/],
    [{ ttlMs: 0 }, /cache/],
    [{ ttlMs: 2 ** 41 }, /cache/],
    [{ size: 10 }, /cache/],
    [null, /cache/],
  ];
  await t.throwsAsync(system.spawn('p', { actor: 'ensemble', model: './m', cache: true }), {
    instanceOf: TypeError,
    message: /cache: must be false for actor ensemble/,
  });
  for (const [cache, message] of wrong)
    await t.throwsAsync(system.spawn('p', { actor, cache } as never), { instanceOf: TypeError, message });
});

test('a scrape has what stats has, and Triton names without the hits among what ran', async (t) => {
  const { system, pool } = await cached(t, { cache: { maxBytes: 2000 } });
  await pool.ask('a');
  for (let times = 0; times < 3; times++) await pool.ask('a');
  await pool.ask('b');
  await pool.ask('a', { key: 'k' });
  const { cache } = pool.stats();
  t.like(cache, { hits: 3, misses: 2, bypassed: 1, evictions: 1, records: 1 });
  const text = system.metrics();
  for (const line of [
    'troupe_cache_hits_total{pool="p"} 3',
    'troupe_cache_misses_total{pool="p"} 2',
    'troupe_cache_bypassed_total{pool="p"} 1',
    'troupe_cache_evictions_total{pool="p",reason="room"} 1',
    'troupe_cache_evictions_total{pool="p",reason="ttl"} 0',
    'troupe_cache_records{pool="p"} 1',
    `troupe_cache_bytes{pool="p"} ${cache?.bytes}`,
    'troupe_cache_limit_bytes{pool="p"} 2000',
    'troupe_results_total{pool="p"} 6',
    'nv_inference_request_success{model="p"} 6',
    'nv_inference_count{model="p"} 3',
    'nv_inference_exec_count{model="p"} 3',
    'nv_cache_num_hits_per_model{model="p"} 3',
    'nv_cache_num_misses_per_model{model="p"} 2',
  ])
    t.true(text.includes(`${line}\n`), line);
  t.regex(text, /nv_cache_hit_duration_per_model\{model="p"\} \d+\n/);
  t.regex(text, /nv_cache_miss_duration_per_model\{model="p"\} \d+\n/);
});

test('a pool whose type is plain has typed hits', async (t) => {
  const { pool } = await cached(t);
  const typed: Pool<unknown, Result> = pool;
  t.is((await typed.ask(1)).text, '1');
});
