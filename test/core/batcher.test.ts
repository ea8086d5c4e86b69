import test from 'ava';
import fc from 'fast-check';
import { Batcher, type BatchLimits, TRIGGERS, type Trigger } from '../../src/core/batcher.js';
import { Mailbox } from '../../src/core/mailbox.js';
import type { RequestRules } from '../../src/core/request.js';
import { ids, requestMaker } from './make-request.js';

function open(limits: Partial<BatchLimits> = {}) {
  const mailbox = new Mailbox({ capacity: 1000, capacityBytes: 1e9, ageingMs: 0 });
  const batcher = new Batcher({
    adaptive: true,
    maxSize: 4,
    maxBytes: 1000,
    maxWeight: Infinity,
    maxDelayMs: 0,
    targetLatencyMs: Infinity,
    ...limits,
  });
  const make = requestMaker();
  return {
    mailbox,
    batcher,
    offer: (rules: Partial<RequestRules> = {}, count = 1): void => {
      for (let n = 0; n < count; n += 1) mailbox.offer(make(rules), 'reject', []);
    },
    /** Trigger and ids of the next batch for an idle replica. */
    form: (now: number, replicaIsIdle = true): [Trigger, ...number[]] | undefined => {
      const formed = batcher.form(mailbox, replicaIsIdle ? 1 : 0, Infinity, now);
      return formed && [formed.trigger, ...ids(formed.requests)];
    },
    wakeAt: () => batcher.wakeAt(mailbox),
  };
}

test('with nothing waiting there is no batch and nothing to wake for', (t) => {
  for (const maxDelayMs of [0, 50]) {
    const { form, wakeAt } = open({ maxDelayMs });
    t.is(form(0), undefined);
    t.is(wakeAt(), Infinity);
  }
});

test('with maxDelayMs 0 an idle replica gets at once what is there: trigger idle', (t) => {
  const { offer, form, wakeAt } = open();
  offer({ offeredAt: 7 });
  t.is(wakeAt(), Infinity, 'nothing is ever held, so nothing is woken for');
  t.deepEqual(form(7), ['idle', 1]);
});

test('as many records as maxSize go at once: trigger size, and the rest waits', (t) => {
  const { offer, form } = open({ maxDelayMs: 50 });
  offer({}, 5);
  t.deepEqual(form(0), ['size', 1, 2, 3, 4]);
  t.is(form(0), undefined);
});

test('as many bytes as maxBytes go at once: trigger bytes', (t) => {
  const { offer, form } = open({ maxDelayMs: 50, maxBytes: 100 });
  offer({ bytes: 50 });
  t.is(form(0), undefined);
  offer({ bytes: 50 });
  t.deepEqual(form(0), ['bytes', 1, 2]);
  offer({ bytes: 500 });
  t.deepEqual(form(0), ['bytes', 3], 'a single larger record goes alone');
});

test('as much weight as maxWeight goes at once: trigger weight', (t) => {
  const { offer, form } = open({ maxDelayMs: 50, maxWeight: 10 });
  offer({ weight: 9 });
  t.is(form(0), undefined);
  offer({ weight: 2 });
  t.deepEqual(form(0), ['weight', 1]);
  t.is(form(0), undefined);
});

test('an incomplete batch goes when its oldest record has waited for maxDelayMs: trigger delay', (t) => {
  const { offer, form, wakeAt } = open({ maxDelayMs: 50 });
  offer({ offeredAt: 100 });
  offer({ offeredAt: 120 });
  t.is(wakeAt(), 150);
  t.is(form(149), undefined);
  t.deepEqual(form(150), ['delay', 1, 2]);
});

test('an incomplete batch goes early enough for its earliest deadline: trigger deadline', (t) => {
  const { offer, form, wakeAt, batcher } = open({ maxDelayMs: 50 });
  batcher.observe(10);
  offer({ offeredAt: 0 });
  offer({ offeredAt: 1, deadlineAt: 40 });
  t.is(wakeAt(), 29, 'deadline less the cost of a batch less a timer of 1 ms');
  t.is(form(28), undefined);
  t.deepEqual(form(29), ['deadline', 1, 2]);
});

test('targetLatencyMs sends a batch no later than that after its oldest record, less the cost of a batch', (t) => {
  const { offer, form, wakeAt, batcher } = open({ maxDelayMs: 500, targetLatencyMs: 100 });
  batcher.observe(30);
  offer({ offeredAt: 1000 });
  t.is(wakeAt(), 1070);
  t.is(form(1069), undefined);
  t.deepEqual(form(1070), ['deadline', 1]);
});

test('a flush sends what waits without company, and not what comes later: trigger flush', (t) => {
  const { offer, form, batcher, mailbox } = open({ maxDelayMs: 50 });
  offer({ offeredAt: 0 }, 2);
  t.is(form(10), undefined);
  batcher.flush(mailbox, 10);
  t.deepEqual(form(10), ['flush', 1, 2]);
  offer({ offeredAt: 11 });
  t.is(form(11), undefined);
});

test('what arrives after a flush is not flushed with the rest of its shape', (t) => {
  const { offer, form, batcher, mailbox } = open({ maxDelayMs: 50, maxSize: 4 });
  offer({ offeredAt: 0 }, 4);
  batcher.flush(mailbox, 10);
  offer({ offeredAt: 11 });
  t.deepEqual(form(11), ['size', 1, 2, 3, 4]);
  t.is(form(11), undefined);
});

test('a batch that went by size or flush leaves no timer behind for the one that follows', (t) => {
  for (const way of ['size', 'flush'] as const) {
    const { offer, form, wakeAt, batcher, mailbox } = open({ maxDelayMs: 50, maxSize: 2 });
    offer({ offeredAt: 0 });
    t.is(wakeAt(), 50);
    if (way === 'size') offer({ offeredAt: 1 });
    else batcher.flush(mailbox, 1);
    t.is(form(1)?.[0], way);
    t.is(wakeAt(), Infinity);
    offer({ offeredAt: 40 });
    t.is(wakeAt(), 90);
    t.is(form(50), undefined, 'the instant of the first batch means nothing to the second');
    t.is(form(90)?.[0], 'delay');
  }
});

test('a busy replica is given only full batches', (t) => {
  const { offer, form, batcher, mailbox } = open();
  offer({}, 3);
  t.is(form(0, false), undefined);
  batcher.flush(mailbox, 0);
  t.is(form(0, false), undefined);
  offer({}, 1);
  t.deepEqual(form(0, false), ['size', 1, 2, 3, 4]);
});

test('records of different shapes never share a batch; the older shape goes first', (t) => {
  const { offer, form } = open();
  offer({ bucket: '[2]', offeredAt: 0 });
  offer({ bucket: '[3]', offeredAt: 1 });
  offer({ bucket: '[2]', offeredAt: 2 });
  t.deepEqual(form(5), ['idle', 1, 3]);
  t.deepEqual(form(5), ['idle', 2]);
});

test('alternating shapes still fill their batches', (t) => {
  const { offer, form } = open({ maxDelayMs: 50 });
  for (let n = 0; n < 8; n += 1) offer({ bucket: n % 2 === 0 ? 'even' : 'odd', offeredAt: n });
  t.deepEqual(form(8), ['size', 1, 3, 5, 7]);
  t.deepEqual(form(8), ['size', 2, 4, 6, 8]);
});

test('the shape with the record of highest priority goes first', (t) => {
  const { offer, form } = open();
  offer({ bucket: 'a', offeredAt: 0 });
  offer({ bucket: 'b', offeredAt: 1, priority: 1 });
  t.deepEqual(form(5), ['idle', 2]);
});

test('a rare shape is not starved by full batches of a common one, not even at a replica that is always busy', (t) => {
  const { offer, form } = open();
  offer({ bucket: 'rare', offeredAt: 0 });
  for (let now = 1; now < 50; now += 1) {
    offer({ bucket: 'common', offeredAt: now }, 4);
    if (form(now, false)?.includes(1)) {
      t.pass();
      return;
    }
  }
  t.fail('50 full batches went before the one record that was there first');
});

test('the expected cost of a batch follows what batches cost', (t) => {
  const { batcher } = open();
  t.is(batcher.expectedMs, 0);
  batcher.observe(10);
  t.is(batcher.expectedMs, 10, 'the first one is believed');
  batcher.observe(20);
  t.is(batcher.expectedMs, 12);
  for (let n = 0; n < 100; n += 1) batcher.observe(5);
  t.true(Math.abs(batcher.expectedMs - 5) < 0.001);
});

// Model: the waiting records as plain objects.
const arrival = fc.record({
  bucket: fc.constantFrom('a', 'b'),
  bytes: fc.integer({ min: 1, max: 60 }),
  weight: fc.integer({ min: 1, max: 4 }),
  ttlMs: fc.option(fc.integer({ min: 1, max: 80 }), { nil: Infinity }),
  gapMs: fc.nat(30),
});
const limits = fc.record({
  maxSize: fc.integer({ min: 1, max: 5 }),
  maxBytes: fc.integer({ min: 20, max: 100 }),
  maxWeight: fc.constantFrom(3, 8, Infinity),
  maxDelayMs: fc.constantFrom(0, 10, 40),
  targetLatencyMs: fc.constantFrom(20, Infinity),
});

test('whatever arrives, an idle replica woken at wakeAt leaves no record beyond its delay, and no batch beyond its limits', (t) => {
  const seen = new Map<Trigger, number>();
  fc.assert(
    fc.property(limits, fc.array(arrival, { maxLength: 40, size: 'max' }), (limits, arrivals) => {
      const { mailbox, batcher } = open(limits);
      const make = requestMaker();
      batcher.observe(3);
      let now = 0;
      let left = arrivals.length;
      const drain = (): void => {
        for (
          let formed = batcher.form(mailbox, 1, Infinity, now);
          formed;
          formed = batcher.form(mailbox, 1, Infinity, now)
        ) {
          const { requests, trigger } = formed;
          left -= requests.length;
          seen.set(trigger, (seen.get(trigger) ?? 0) + 1);
          if (requests.length < 1 || requests.length > limits.maxSize) throw new Error(`${requests.length} records`);
          if (new Set(requests.map((request) => request.bucket)).size > 1) throw new Error('mixed shapes');
          const bytes = requests.reduce((sum, request) => sum + request.bytes, 0);
          const weight = requests.reduce((sum, request) => sum + request.weight, 0);
          if (requests.length > 1 && (bytes > limits.maxBytes || weight > limits.maxWeight)) throw new Error('too big');
          if (
            trigger === 'size' &&
            requests.length < limits.maxSize &&
            bytes + 60 <= limits.maxBytes &&
            limits.maxWeight === Infinity
          ) {
            throw new Error('a full batch that is not full');
          }
          for (const request of requests) {
            if (now > request.offeredAt + limits.maxDelayMs) throw new Error('held beyond maxDelayMs');
          }
        }
        const wakeAt = batcher.wakeAt(mailbox);
        if (mailbox.held > 0 && !(wakeAt > now && wakeAt < Infinity))
          throw new Error(`held at ${now}, woken at ${wakeAt}`);
        if (mailbox.held === 0 && wakeAt !== Infinity) throw new Error('a stale timer');
      };
      for (const { gapMs, ttlMs, ...rules } of arrivals) {
        const until = now + gapMs;
        while (batcher.wakeAt(mailbox) <= until) {
          now = batcher.wakeAt(mailbox);
          drain();
        }
        now = until;
        mailbox.offer(make({ ...rules, offeredAt: now, deadlineAt: now + ttlMs }), 'reject', []);
        drain();
      }
      while (mailbox.held > 0) {
        now = batcher.wakeAt(mailbox);
        drain();
      }
      if (left !== 0) throw new Error(`${left} records lost`);
    }),
    { numRuns: 1000 },
  );
  const formedHere: Trigger[] = ['size', 'bytes', 'weight', 'delay', 'idle', 'deadline'];
  for (const trigger of formedHere) t.true((seen.get(trigger) ?? 0) > 20, trigger);
  t.true(formedHere.every((trigger) => TRIGGERS.includes(trigger)));
});
