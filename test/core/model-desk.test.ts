import test from 'ava';
import fc from 'fast-check';
import { isWith } from '../../src/core/resident-models.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { PoolDriver, type PoolSettings } from './pool-driver.js';

/** Ten bytes of room and models of one byte each, unless a test says otherwise. */
function poolOf(settings: PoolSettings = {}): PoolDriver {
  const { models = {}, ...others } = settings;
  return new PoolDriver({ ...others, models });
}

const of = (key: string) => ({ model: key, bucket: key });
const broken = new TroupeError('ACTOR_LOAD_FAILED', 'no such weights');

const heldBy = (pool: PoolDriver, cell = 1): string[] => {
  const replica = pool.core.fleet.cells.get(cell);
  const held = replica === undefined ? [] : [...(pool.core.models?.holdings.of(replica).leastRecent() ?? [])];
  return held.map(({ key, state }) => (state === 'ready' ? key : `${key} ${state}`));
};

test('a model is loaded when the first record for it comes, and those that come meanwhile wait for the same load', (t) => {
  const pool = poolOf();
  pool.offerMany(3, of('fr'));
  pool.offerMany(2, of('fr'));
  t.deepEqual(pool.log.slice(1), ['load-model 1: fr']);
  t.is(pool.sent.length, 0);
  pool.change();
  t.deepEqual(pool.calls, [[1, 2, 3, 4, 5]]);
  pool.reply();
  t.deepEqual(pool.tally(), { ok: 5 });
});

test('a replica goes on with the models it holds while another one is loaded', (t) => {
  const pool = poolOf();
  pool.offerMany(1, of('fr'));
  pool.change();
  pool.reply();
  pool.offerMany(1, of('de'));
  pool.offerMany(1, of('fr'));
  t.deepEqual(heldBy(pool), ['fr', 'de loading']);
  t.deepEqual(pool.calls.at(-1), [3]);
  pool.reply();
  t.is(pool.outcome(3), 'y3');
  pool.change();
  t.deepEqual(pool.calls.at(-1), [2]);
});

test('batches are of one model, also where their records have the same shape', (t) => {
  const pool = poolOf();
  for (let n = 0; n < 6; n++) pool.offer(of(n % 2 === 0 ? 'fr' : 'de'));
  pool.pump();
  pool.change();
  pool.change();
  pool.reply();
  t.deepEqual(pool.calls, [
    [1, 3, 5],
    [2, 4, 6],
  ]);
});

test('the model used longest ago goes first, and only as many as are needed', (t) => {
  const pool = poolOf({ models: { maxBytes: 3 } });
  for (const key of ['a', 'b', 'c']) {
    pool.offerMany(1, of(key));
    pool.change();
    pool.reply();
  }
  pool.offerMany(1, of('a'));
  pool.reply();
  pool.offerMany(1, of('d'));
  t.deepEqual(heldBy(pool), ['b unloading', 'c', 'a']);
  pool.change();
  pool.change();
  pool.reply();
  t.deepEqual(heldBy(pool), ['c', 'a', 'd']);
  t.deepEqual(
    pool.newsOf('model-evicted').map(({ key, reason }) => [key, reason]),
    [['b', 'room']],
  );
});

test('nothing is loaded before the unload that makes room for it has ended', (t) => {
  const pool = poolOf({ models: { maxBytes: 1 } });
  pool.offerMany(1, of('a'));
  pool.change();
  pool.reply();
  pool.offerMany(1, of('b'));
  t.deepEqual(
    pool.changes.map(({ kind, key }) => `${kind} ${key}`),
    ['unload-model a'],
  );
  pool.change();
  t.deepEqual(
    pool.changes.map(({ kind, key }) => `${kind} ${key}`),
    ['load-model b'],
  );
});

test('a model is not unloaded while a batch of it runs, nor before its first answer', (t) => {
  const pool = poolOf({ models: { maxBytes: 1 } });
  pool.offerMany(1, of('a'));
  pool.offerMany(1, of('b'));
  pool.change();
  t.deepEqual(pool.calls, [[1]], 'a was loaded for its record and runs it, though b waits for the place');
  t.deepEqual(heldBy(pool), ['a closing']);
  t.is(pool.changes.length, 0);
  pool.reply();
  t.deepEqual(heldBy(pool), ['a unloading']);
  pool.change();
  pool.change();
  pool.reply();
  t.deepEqual(pool.tally(), { ok: 2 });
});

test('a model that was loaded for a record that is gone may go at once', (t) => {
  const pool = poolOf({ models: { maxBytes: 1 } });
  pool.offer({ ...of('a'), deadlineAt: 50 });
  pool.pump();
  pool.advanceTo(60);
  pool.change();
  t.deepEqual(heldBy(pool), ['a']);
  pool.offerMany(1, of('b'));
  t.deepEqual(heldBy(pool), ['a unloading']);
});

test('a pinned model stays, and a load waits where everything else is pinned or at work', (t) => {
  const pool = poolOf({ models: { maxBytes: 2 } });
  pool.core.models?.pin('a');
  pool.pump();
  pool.change();
  t.deepEqual(heldBy(pool), ['a']);
  pool.offerMany(1, of('b'));
  pool.change();
  pool.offer({ ...of('c'), deadlineAt: 100 });
  pool.pump();
  t.deepEqual(heldBy(pool), ['a', 'b closing']);
  pool.advanceTo(100);
  t.is(pool.outcome(2), 'DEADLINE_PASSED');
  t.deepEqual(heldBy(pool), ['a', 'b'], 'nobody waits for c any more, so b stays');
  t.false(pool.changes.some(({ kind }) => kind === 'unload-model'));
});

test('no more is held than maxBytes, whatever a load says of its size', (t) => {
  const pool = poolOf({ models: { maxBytes: 10 } });
  for (const key of ['a', 'b']) {
    pool.offerMany(1, of(key));
    pool.change(undefined, { bytes: 4 });
    pool.reply();
  }
  pool.offerMany(1, of('c'));
  pool.change(undefined, { bytes: 5 });
  t.deepEqual(heldBy(pool), ['a unloading', 'b', 'c'], 'a goes for what nobody could know before');
  pool.change();
  pool.reply();
  pool.offerMany(1, of('a'));
  t.deepEqual(heldBy(pool), ['b unloading', 'c'], 'from the first load on its size is known');
});

test('a model that is larger than maxBytes is refused before its load where its files say so', (t) => {
  const pool = poolOf({ models: { maxBytes: 10 }, bytesOf: (key) => (key === 'huge' ? 11 : 1) });
  pool.offerMany(2, of('huge'));
  t.deepEqual(pool.changes, []);
  t.deepEqual(pool.tally(), { MODEL_TOO_LARGE: 2 });
  t.is(pool.offer(of('huge')), 'model-refused');
  const said = pool.core.models?.refusals.of('huge', 0);
  t.is(said?.message, 'Model "huge" of pool "p" holds 11 bytes, more than models.maxBytes 10 of a replica');
  t.is(said?.retryable, false);
});

test('a model whose load says that it is larger than maxBytes is unloaded again and refused', (t) => {
  const pool = poolOf({ models: { maxBytes: 10 } });
  pool.offerMany(1, of('huge'));
  pool.change(undefined, { bytes: 20 });
  t.deepEqual(heldBy(pool), ['huge unloading']);
  t.deepEqual(pool.tally(), { MODEL_TOO_LARGE: 1 });
  pool.change();
  t.deepEqual(heldBy(pool), []);
});

test('a load that fails costs the records of its model only, and is tried again after a while that grows', (t) => {
  const pool = poolOf();
  pool.offerMany(1, of('fr'));
  pool.change();
  pool.offerMany(2, of('de'));
  pool.offerMany(1, of('fr'));
  pool.change(undefined, { error: broken });
  pool.reply();
  pool.reply();
  t.deepEqual(pool.tally(), { ok: 2, MODEL_LOAD_FAILED: 2 });
  const error = pool.requests[1]?.error;
  t.is(error?.cause, broken);
  t.is(error?.retryAfterMs, 1000);
  t.is(error?.ran, 'not-started');

  t.is(pool.offer(of('de')), 'model-refused', 'nobody loads it again and again');
  pool.advanceTo(999);
  t.is(pool.core.models?.refusals.of('de', pool.now)?.retryAfterMs, 1);
  pool.advanceTo(1000);
  pool.offerMany(1, of('de'));
  pool.change(undefined, { error: broken });
  t.is(pool.requests.at(-1)?.error?.retryAfterMs, 2000);
  pool.advanceTo(3000);
  pool.offerMany(1, of('de'));
  pool.change();
  pool.reply();
  t.is(pool.requests.at(-1)?.value, `y${pool.requests.length}`);
});

test('a replica that ends while it loads is blamed on the load: what it ran is tried again', (t) => {
  const pool = poolOf({ slowLoads: false });
  pool.offerMany(1, of('fr'));
  pool.change();
  pool.reply();
  pool.offerMany(1, of('bad'));
  pool.offerMany(2, of('fr'));
  t.deepEqual(pool.calls.at(-1), [3, 4]);
  pool.crash(1);
  t.is(pool.outcome(2), 'MODEL_LOAD_FAILED');
  t.regex(String(pool.requests[1]?.error?.message), /ended while it loaded model "bad"/);
  t.deepEqual(heldBy(pool), ['fr loading'], 'a new life begins with nothing');
  pool.change();
  t.deepEqual(pool.calls.at(-1), [3, 4], 'both together: none of them is a suspect');
  pool.reply();
  t.is(pool.requests[2]?.deathCount, 0);
  t.is(pool.core.fleet.deathCounts.crash, 0, 'nor does it count against the restarts');
});

test('a load that takes longer than loadTimeoutMs ends its replica, and a batch beside it has that much longer', (t) => {
  const pool = poolOf({ models: { loadTimeoutMs: 5000 }, batchTimeoutMs: 1000 });
  pool.offerMany(1, of('fr'));
  pool.change();
  pool.offerMany(1, of('slow'));
  pool.advanceTo(4000);
  t.false(pool.log.includes('kill 1'), 'a load may block the loop of its replica');
  pool.advanceTo(5000);
  t.true(pool.log.includes('kill 1'));
  t.is(pool.outcome(2), 'MODEL_LOAD_FAILED');
});

test('of two models that never rest and do not fit together each has its turns, as long as a load takes', (t) => {
  const pool = poolOf({ models: { maxBytes: 1 }, maxSize: 1 });
  const turns: string[] = [];
  pool.offerMany(1, of('a'));
  pool.offerMany(1, of('b'));
  for (let step = 0; step < 400; step++) {
    const [change] = pool.changes;
    const [batch] = pool.sent;
    pool.advanceTo(pool.now + 1);
    if (change?.kind === 'load-model' && pool.now < 10 * (turns.length + 1) + 20 * turns.length) continue;
    if (change !== undefined) {
      if (change.kind === 'load-model') turns.push(change.key);
      pool.change(change);
    }
    if (batch === undefined || !pool.sent.includes(batch)) continue;
    const model = batch.requests[0]?.model as string;
    pool.reply(batch);
    pool.offerMany(1, of(model));
  }
  t.true(turns.length >= 6, turns.join(' '));
  for (let at = 1; at < turns.length; at++) t.not(turns[at], turns[at - 1]);
});

test('a replica that is idle loads a second copy of what waits: at once where there is room', (t) => {
  const pool = poolOf({ replicas: 2, maxSize: 1 });
  pool.offerMany(3, of('fr'));
  t.is(pool.changes.length, 1);
  pool.change();
  t.is(pool.sent.length, 1);
  t.deepEqual(
    pool.changes.map(({ key, cell }) => [key, cell]),
    [['fr', 2]],
  );
  pool.change();
  t.is(pool.sent.length, 2);
});

test('a second copy for which another model would have to go comes when the work has waited as long as a load takes', (t) => {
  const pool = poolOf({ replicas: 2, maxSize: 1, models: { maxBytes: 1 } });
  pool.offerMany(1, of('fr'));
  pool.advanceTo(20);
  pool.change();
  pool.reply();
  pool.offerMany(1, of('de'));
  pool.advanceTo(40);
  pool.change();
  pool.reply();
  pool.offerMany(2, of('fr'));
  t.is(pool.changes.length, 0, 'de need not go for a wait of a few milliseconds');
  pool.advanceTo(59);
  t.is(pool.changes.length, 0);
  pool.advanceTo(60);
  t.deepEqual(heldBy(pool, 2), ['de unloading']);
});

test('a model that nobody has used for ttlMs goes, and a pinned one stays', (t) => {
  const pool = poolOf({ models: { ttlMs: 100 } });
  pool.core.models?.pin('a');
  pool.pump();
  pool.change();
  pool.offerMany(1, of('b'));
  pool.change();
  pool.advanceTo(50);
  pool.reply();
  pool.advanceTo(149);
  t.deepEqual(heldBy(pool), ['a', 'b']);
  pool.advanceTo(150);
  t.deepEqual(heldBy(pool), ['a', 'b unloading']);
  pool.change();
  t.is(pool.newsOf('model-evicted')[0]?.reason, 'ttl');
});

test('a token stream is a use of its model until its end: ttlMs counts from there, and others go before it', (t) => {
  const pool = poolOf({ models: { ttlMs: 100, maxBytes: 2 } });
  pool.offerMany(1, of('a'));
  pool.change();
  const { cell, incarnation } = pool.sent[0] ?? t.fail();
  pool.core.streamsBegan(cell, incarnation, 1, 'a');
  pool.reply();
  pool.advanceTo(450);
  pool.offerMany(1, of('b'));
  pool.change();
  pool.reply();
  pool.advanceTo(500);
  pool.core.streamEnded(cell, incarnation, 'a', pool.now);
  pool.pump();
  pool.advanceTo(549);
  t.deepEqual(heldBy(pool), ['b', 'a']);
  pool.advanceTo(550);
  t.deepEqual(heldBy(pool), ['b unloading', 'a'], 'the one whose last use is longer ago');
  pool.change();
  pool.advanceTo(599);
  t.deepEqual(heldBy(pool), ['a']);
  pool.advanceTo(600);
  t.deepEqual(heldBy(pool), ['a unloading']);
});

test('a suspect waits for its model, and nothing is loaded beside it', (t) => {
  const pool = poolOf();
  pool.offerMany(1, of('fr'));
  pool.change();
  pool.crash(1);
  t.deepEqual(
    pool.changes.map(({ key }) => key),
    ['fr'],
  );
  pool.change();
  t.is(pool.core.ledger.flights()[0]?.trigger, 'quarantine');
  pool.offerMany(1, of('de'));
  t.deepEqual(pool.changes, []);
  pool.reply();
  t.deepEqual(
    pool.changes.map(({ key }) => key),
    ['de'],
  );
});

test('another version is loaded beside the one it replaces, and that one goes when it has no work left', (t) => {
  const pool = poolOf({ replicas: 2 });
  const desk = pool.core.models;
  pool.offerMany(1, of('fr@1'));
  pool.change();
  desk?.prepare('fr@2', 'fr@1');
  pool.pump();
  t.deepEqual(
    pool.changes.map(({ key, cell }) => [key, cell]),
    [['fr@2', 1]],
  );
  t.is(pool.newsOf('model-prepared').length, 0);
  pool.change();
  t.is(pool.newsOf('model-prepared')[0]?.key, 'fr@2');
  desk?.letGo('fr@2');
  desk?.replace('fr@1', []);
  pool.offerMany(1, of('fr@2'));
  t.deepEqual(heldBy(pool), ['fr@1', 'fr@2'], 'its batch runs to the end');
  pool.reply(pool.sent.find(({ ids }) => ids[0] === 1));
  t.deepEqual(heldBy(pool), ['fr@2', 'fr@1 unloading']);
  pool.change(pool.changes.find(({ key }) => key === 'fr@1'));
  t.is(pool.newsOf('model-evicted')[0]?.reason, 'replaced');
  t.is(pool.outcome(1), 'y1');
});

test('a version that was replaced and went with its replica is kept like any other when somebody asks for it', (t) => {
  const pool = poolOf();
  const desk = pool.core.models;
  pool.offerMany(1, { ...of('fr@1'), deadlineAt: 50 });
  pool.change();
  desk?.prepare('fr@2', 'fr@1');
  pool.pump();
  pool.change();
  desk?.letGo('fr@2');
  desk?.replace('fr@1', []);
  pool.die(1, { cause: 'crash', signal: 'SIGSEGV' });
  pool.advanceTo(60);
  t.is(pool.outcome(1), 'DEADLINE_PASSED');
  pool.advanceTo(60_000);
  pool.ready(1);
  t.deepEqual(heldBy(pool), []);
  pool.offerMany(1, of('fr@1'));
  pool.change();
  pool.reply();
  pool.pump();
  t.deepEqual(heldBy(pool), ['fr@1']);
});

const MODELS = ['a', 'b', 'c', 'd', 'e'];
const BYTES: Readonly<Record<string, number>> = { a: 1, b: 2, c: 3, d: 4, e: 5 };

const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('offer' as const), model: fc.nat(4), ms: fc.nat(400) }) },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('reply' as const), at: fc.nat(3), ok: fc.nat(9) }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('change' as const), at: fc.nat(3), how: fc.nat(9) }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(60) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('die' as const), at: fc.nat(2), outside: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), at: fc.nat(30) }) },
);

const settings = fc.record({
  replicas: fc.integer({ min: 1, max: 3 }),
  maxBytes: fc.integer({ min: 5, max: 12 }),
  ttlMs: fc.constantFrom(Infinity, 80),
  maxInFlight: fc.integer({ min: 1, max: 2 }),
  maxDelayMs: fc.constantFrom(0, 10),
  pinned: fc.boolean(),
});

/** R1, D1 to D3, and that no replica is idle while it could work. */
function check(pool: PoolDriver, maxBytes: number): void {
  const { fleet, mailbox, models } = pool.core;
  for (const cell of fleet.list) {
    if (!fleet.serves(cell) || models === undefined) continue;
    const held = models.holdings.of(cell);
    const all = held.count === 0 ? [] : [...held.leastRecent()];
    const bytes = all.reduce((sum, model) => sum + model.bytes, 0);
    if (bytes > maxBytes) throw new Error(`replica ${cell.id} holds ${bytes} bytes of ${maxBytes}`);
    if (all.filter(({ state }) => state === 'loading').length > 1) throw new Error('two loads at once');
    for (const model of all) {
      const mustStay = models.isPinned(model.key) || isWith(cell.flights, model.key);
      if (model.state === 'unloading' && mustStay) throw new Error(`${model.key} is unloaded while it must stay`);
    }
    if (cell.flights.length > 0 || pool.core.batcher.limits.maxDelayMs > 0) continue;
    for (const bucket of mailbox.buckets)
      if (held.mayRun(bucket.model)) throw new Error(`replica ${cell.id} is idle while ${bucket.model} waits`);
  }
}

test('whatever happens, no limit is passed, no replica idles beside work it could do, and every record settles', (t) => {
  fc.assert(
    fc.property(settings, fc.array(step, { maxLength: 120 }), (how, steps) => {
      const { maxBytes, ttlMs, pinned, ...plain } = how;
      const pool = poolOf({
        ...plain,
        models: { maxBytes, ttlMs, loadTimeoutMs: 500 },
        restart: { max: 1000 },
        bytesOf: (key) => BYTES[key] ?? 1,
      });
      if (pinned) pool.core.models?.pin('a');
      pool.pump();
      const refused = new Set<number>();
      for (const one of steps) {
        switch (one.kind) {
          case 'offer': {
            const said = pool.offer({ ...of(MODELS[one.model] as string), deadlineAt: pool.now + 50 + one.ms });
            if (said !== 'accepted') refused.add(pool.requests.length);
            pool.pump();
            break;
          }
          case 'reply': {
            const batch = pool.sent[one.at % Math.max(1, pool.sent.length)];
            if (batch === undefined) break;
            if (one.ok === 0) pool.fail(batch);
            else pool.reply(batch);
            break;
          }
          case 'change': {
            const change = pool.changes[one.at % Math.max(1, pool.changes.length)];
            if (change === undefined) break;
            const fails = one.how === 0 && change.kind === 'load-model';
            pool.change(change, fails ? { error: broken } : {});
            break;
          }
          case 'wait':
            pool.advanceTo(pool.now + one.ms);
            break;
          case 'die': {
            const cell = [...pool.alive.keys()][one.at];
            if (cell !== undefined) pool.crash(cell, one.outside ? { cause: 'killed', signal: 'SIGKILL' } : undefined);
            break;
          }
          case 'cancel': {
            const request = pool.requests[one.at];
            if (request !== undefined && request.place !== 'nowhere') pool.core.cancel(request, 'enough');
            pool.pump();
          }
        }
        check(pool, maxBytes);
      }
      // Everything begun comes to its end, and what can be answered is.
      for (let n = 0; n < 2000 && (pool.sent.length > 0 || pool.changes.length > 0); n++) {
        if (pool.changes.length > 0) pool.change();
        if (pool.sent.length > 0) pool.reply();
        check(pool, maxBytes);
      }
      pool.advanceTo(pool.now + 10_000);
      for (let n = 0; n < 200 && pool.changes.length > 0; n++) pool.change();
      for (let id = 1; id <= pool.requests.length; id++)
        if (!refused.has(id) && pool.outcome(id) === undefined) throw new Error(`record ${id} has no outcome`);
    }),
    { numRuns: 400 },
  );
  t.pass();
});

test('with time enough every record gets its result, however little room there is', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 5, max: 9 }),
      fc.array(fc.nat(4), { minLength: 1, maxLength: 60 }),
      (replicas, maxBytes, models) => {
        const pool = poolOf({ replicas, models: { maxBytes }, maxSize: 2, bytesOf: (key) => BYTES[key] ?? 1 });
        for (const model of models) pool.offer(of(MODELS[model] as string));
        pool.pump();
        for (let n = 0; n < 10_000 && pool.core.heldCount > 0; n++) {
          if (pool.changes.length > 0) {
            pool.advanceTo(pool.now + 3);
            if (pool.changes.length > 0) pool.change();
          } else if (pool.sent.length > 0) {
            pool.advanceTo(pool.now + 1);
            pool.reply();
          } else {
            const wakeAt = pool.core.nextWakeAt();
            if (wakeAt === Infinity) throw new Error(`nothing happens any more, and ${pool.core.heldCount} wait`);
            pool.advanceTo(wakeAt);
          }
          check(pool, maxBytes);
        }
        t.deepEqual(pool.tally(), { ok: models.length });
      },
    ),
    { numRuns: 200 },
  );
});

test('a model is not unloaded while its token streams run, and goes at the end of the last', (t) => {
  const pool = poolOf({ models: { maxBytes: 1 } });
  pool.offerMany(1, of('a'));
  pool.change();
  const { cell, incarnation } = pool.sent[0] ?? t.fail();
  pool.core.streamsBegan(cell, incarnation, 2, 'a');
  pool.reply();
  pool.offerMany(1, of('b'));
  t.deepEqual(heldBy(pool), ['a closing']);
  t.is(pool.changes.length, 0);
  pool.core.streamEnded(cell, incarnation, 'a', pool.now);
  pool.pump();
  t.is(pool.changes.length, 0);
  pool.core.streamEnded(cell, incarnation, 'a', pool.now);
  pool.pump();
  t.deepEqual(heldBy(pool), ['a unloading']);
  pool.change();
  pool.change();
  pool.reply();
  t.deepEqual(pool.tally(), { ok: 2 });
});

test('what has no running token streams goes before what has', (t) => {
  const pool = poolOf({ models: { maxBytes: 2 } });
  for (const key of ['a', 'b']) {
    pool.offerMany(1, of(key));
    pool.change();
    const { cell, incarnation } = pool.sent[0] ?? t.fail();
    if (key === 'a') pool.core.streamsBegan(cell, incarnation, 1, key);
    pool.reply();
  }
  pool.offerMany(1, of('c'));
  t.deepEqual(heldBy(pool), ['a', 'b unloading']);
});
