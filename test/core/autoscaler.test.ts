import test from 'ava';
import fc from 'fast-check';
import { Autoscaler, type ScaleDecision, type ScalingLimits } from '../../src/core/autoscaler.js';

const LIMITS: ScalingLimits = {
  min: 1,
  max: 8,
  targetWaitMs: 100,
  targetUtilization: 0.8,
  upAfterMs: 800,
  downAfterMs: 5000,
  idleAfterMs: 20_000,
};
const STEP_MS = 10;

type Change = ScaleDecision & { readonly at: number; readonly from: number };

/**
 * A pool as a flow: `load` is the work that arrives, in replicas that it would keep busy. Replicas take `loadMs` to come up.
 * Work that finds none free waits, first come first served.
 */
class Flow {
  now = 0;
  replicas: number;
  ready: number;
  /** Replicas are down for a reason of their own. */
  isBroken = false;
  load = 0;
  readonly changes: Change[] = [];
  readonly scaler: Autoscaler;
  readonly #loadMs: number;
  #busyMs = 0;
  #backlog = 0;
  #readyAt = Infinity;

  constructor(limits: Partial<ScalingLimits> = {}, loadMs = 100, replicas?: number) {
    this.scaler = new Autoscaler({ ...LIMITS, ...limits });
    this.#loadMs = loadMs;
    this.replicas = this.ready = replicas ?? this.scaler.least;
    this.scaler.begin(0);
  }

  run(ms: number): void {
    for (const until = this.now + ms; this.now < until; ) this.#step();
  }

  #step(): void {
    this.now += STEP_MS;
    if (this.now >= this.#readyAt && !this.isBroken) {
      this.#readyAt = Infinity;
      this.ready = this.replicas;
      this.scaler.begin(this.now);
    }
    if (this.load > 0) this.scaler.touched(this.now);
    this.#backlog += this.load * STEP_MS;
    const room = (this.isBroken ? Math.max(0, this.ready - 1) : this.ready) * STEP_MS;
    const done = Math.min(room, this.#backlog);
    this.#busyMs += done;
    this.#backlog -= done;
    if (this.now < this.scaler.lookAt) return;
    const decision = this.scaler.look(
      {
        replicas: this.replicas,
        ready: this.isBroken ? Math.max(0, this.ready - 1) : this.ready,
        busyMs: this.#busyMs,
        waitedMs: this.#backlog > 1e-6 ? (this.#backlog * STEP_MS) / Math.max(1, room) : 0,
        hasWork: done > 0,
      },
      this.now,
    );
    if (!(this.scaler.lookAt > this.now)) throw new Error('asks for another look at once');
    if (decision === undefined) return;
    this.changes.push({ ...decision, at: this.now, from: this.replicas });
    if (decision.replicas > this.replicas) this.#readyAt = this.now + this.#loadMs;
    this.replicas = decision.replicas;
    this.ready = Math.min(this.ready, this.replicas);
  }
}

test('under a queue that stands, the number doubles every upAfterMs until there are max', (t) => {
  const flow = new Flow();
  flow.load = 100;
  flow.run(4000);
  t.deepEqual(
    flow.changes.map(({ from, replicas, reason }) => [from, replicas, reason]),
    [
      [1, 2, 'queue-age'],
      [2, 4, 'queue-age'],
      [4, 8, 'queue-age'],
    ],
  );
});

test('no load keeps a pool that grows longer than a doubling every upAfterMs plus the load of the model', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 64 }),
      fc.integer({ min: 0, max: 3000 }),
      fc.integer({ min: 100, max: 3000 }),
      fc.double({ min: 1.5, max: 50, noNaN: true }),
      (max, loadMs, upAfterMs, times) => {
        const flow = new Flow({ max, upAfterMs }, loadMs);
        flow.load = max * times;
        const doublings = Math.ceil(Math.log2(max));
        flow.run((doublings + 1) * (upAfterMs * 1.4 + loadMs + 4 * STEP_MS));
        return flow.replicas === max;
      },
    ),
  );
  t.pass();
});

test('no load moves the number out of its bounds, nor faster than the delays allow', (t) => {
  let changes = 0;
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 4 }),
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 0, max: 2000 }),
      fc.array(fc.tuple(fc.integer({ min: -20, max: 60 }), fc.integer({ min: 10, max: 30_000 })), {
        minLength: 4,
        maxLength: 12,
      }),
      (min, extra, loadMs, phases) => {
        const flow = new Flow({ min, max: min + extra }, loadMs);
        for (const [load, ms] of phases) {
          flow.load = Math.max(0, load / 4);
          flow.run(ms);
        }
        changes += flow.changes.length;
        let before = { at: 0, isUp: false };
        for (const { at, from, replicas, reason } of flow.changes) {
          if (replicas < min || replicas > min + extra || replicas === from) return false;
          const isUp = replicas > from;
          const quietMs = at - before.at - (before.isUp ? loadMs : 0);
          // How long there was no work is counted from the work, not from the change before.
          const leastMs = isUp ? LIMITS.upAfterMs : reason === 'idle' ? 0 : LIMITS.downAfterMs;
          if (quietMs < leastMs) return false;
          if (replicas === 0 && reason !== 'idle') return false;
          // This flow has nobody who wakes it.
          if (replicas === 0) break;
          before = { at, isUp };
        }
        return true;
      },
    ),
  );
  t.true(changes > 100, `${changes} changes seen`);
});

test('no steady load makes the number flap: it settles, and stays', (t) => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.05, max: 12, noNaN: true }),
      fc.integer({ min: 1, max: 8 }),
      fc.double({ min: 0.3, max: 1, noNaN: true }),
      fc.integer({ min: 0, max: 1000 }),
      (load, from, targetUtilization, loadMs) => {
        const flow = new Flow({ targetUtilization }, loadMs, from);
        flow.load = load;
        flow.run(60_000);
        const settled = flow.changes.length;
        const { replicas } = flow;
        flow.run(20 * LIMITS.downAfterMs);
        const isEnough = replicas === LIMITS.max || load <= replicas * Math.min(1, 1.1 * targetUtilization) + 0.01;
        const isLeast = replicas === 1 || load > (replicas - 1) * targetUtilization - 0.01;
        return flow.changes.length === settled && isEnough && isLeast;
      },
    ),
  );
  t.pass();
});

test('a burst that is over before upAfterMs changes nothing', (t) => {
  const flow = new Flow();
  for (let n = 0; n < 50; n++) {
    flow.load = 1.4;
    flow.run(400);
    flow.load = 0;
    flow.run(2000);
  }
  t.deepEqual(flow.changes, []);
});

test('a load above its target without a queue adds what it lacks, not twice as many', (t) => {
  const flow = new Flow({}, 100, 4);
  flow.load = 3.8;
  flow.run(5000);
  t.deepEqual(
    flow.changes.map(({ from, replicas, reason }) => [from, replicas, reason]),
    [[4, 5, 'busy']],
  );
});

test('while a replica is down nothing is changed, however long records wait', (t) => {
  const flow = new Flow();
  flow.isBroken = true;
  flow.load = 50;
  flow.run(60_000);
  t.deepEqual(flow.changes, []);
  flow.isBroken = false;
  flow.run(1200);
  t.is(flow.replicas, 2);
});

test('the most that was needed within downAfterMs is kept', (t) => {
  const flow = new Flow({}, 100, 8);
  flow.load = 3;
  flow.run(2500);
  flow.load = 0.5;
  flow.run(3600);
  t.deepEqual(
    flow.changes.map(({ from, replicas, reason }) => [from, replicas, reason]),
    [[8, 4, 'calm']],
  );
  flow.run(6200);
  t.is(flow.replicas, 1);
});

test('without work the number sinks to min and nothing asks for a look any more; with min 0 to 0, after idleAfterMs', (t) => {
  const one = new Flow({}, 100, 5);
  one.run(10_000);
  t.is(one.replicas, 1);
  t.is(one.scaler.lookAt, Infinity);
  const none = new Flow({ min: 0 }, 100, 5);
  none.run(19_000);
  t.is(none.replicas, 1);
  none.run(1500);
  t.is(none.replicas, 0);
  t.is(none.changes.at(-1)?.reason, 'idle');
  t.is(none.scaler.lookAt, Infinity);
});

test('what waits where replicas have time to spare is no reason for more of them', (t) => {
  const scaler = new Autoscaler(LIMITS);
  scaler.begin(0);
  for (let n = 0; n < 100; n++) {
    const now = scaler.lookAt;
    t.is(scaler.look({ replicas: 2, ready: 2, busyMs: now, waitedMs: 5000, hasWork: true }, now), undefined);
  }
});

test('what waited while the host itself stood still is no queue', (t) => {
  const scaler = new Autoscaler(LIMITS);
  scaler.begin(0);
  let now = 0;
  for (let n = 0; n < 40; n++) {
    // Every fourth look comes two seconds late.
    now = scaler.lookAt + (n % 4 === 3 ? 2000 : 0);
    t.is(scaler.look({ replicas: 1, ready: 1, busyMs: now, waitedMs: 2000, hasWork: true }, now), undefined);
  }
});
