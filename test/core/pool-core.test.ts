import test from 'ava';
import fc from 'fast-check';
import type { DeathNotice } from '../../src/core/effects.js';
import { TroupeError } from '../../src/kernel/errors.js';
import type { Request } from '../../src/core/request.js';
import { PoolDriver, type Verdict } from './pool-driver.js';

const range = (count: number): number[] => Array.from({ length: count }, (_, at) => at + 1);

// ------------------------------------------------------------------ one outcome

test('a record that is answered settles with its value and the version that made it', (t) => {
  const p = new PoolDriver({ version: '3' });
  p.offerMany(2);
  p.reply();
  t.deepEqual(p.tally(), { ok: 2 });
  t.is(p.requests[0]?.version, '3');
  t.is(p.core.heldCount, 0);
});

test('an error in the place of one record fails that record alone', (t) => {
  const p = new PoolDriver();
  p.offerMany(3);
  const error = new TroupeError('PREDICT_FAILED', 'bad record');
  p.reply(p.batch(), [
    { ok: true, value: 'y1' },
    { ok: false, error },
    { ok: true, value: 'y3' },
  ]);
  t.deepEqual([p.outcome(1), p.outcome(2), p.outcome(3)], ['y1', 'PREDICT_FAILED', 'y3']);
  t.like(p.requests[1]?.error, { actor: 'p', replica: 0, incarnation: 1, attempt: 1, recordIds: [2], ran: 'failed' });
});

test('a second reply, a reply of a dead incarnation and one to nothing ever asked are counted and change nothing', (t) => {
  const p = new PoolDriver();
  p.offerMany(1);
  const batch = p.batch();
  p.reply(batch);
  p.reply(batch);
  p.reply({ ...batch, batchId: 99 });
  p.offerMany(1);
  const lost = p.batch();
  p.crash(lost.cell, { cause: 'killed', signal: 'SIGKILL' });
  t.is(p.outcome(2), undefined);
  p.reply(lost);
  t.is(p.core.ledger.staleReplyCount, 3);
  t.is(p.outcome(2), undefined, 'the reply of a replica that is dead does not count');
  p.reply();
  t.deepEqual(p.tally(), { ok: 2 });
});

test('a full mailbox refuses without a trace, and each drop rule names its victim', (t) => {
  const p = new PoolDriver({ mailbox: { capacity: 2 }, obedient: false });
  t.deepEqual([p.offer(), p.offer(), p.offer()], ['accepted', 'accepted', 'full']);
  t.is(p.core.counts.refused, 1);
  t.is(p.offer({}, 'drop-newest'), 'dropped');
  t.is(p.offer({}, 'drop-oldest'), 'accepted');
  p.pump();
  t.deepEqual(
    [...p.outcomes],
    [
      [4, 'MAILBOX_DROPPED'],
      [1, 'MAILBOX_DROPPED'],
    ],
  );
  t.is(p.core.counts.accepted, p.core.counts.settled + p.core.heldCount);
});

// -------------------------------------------------------------------- dispatch

test('a batch grows while every replica is busy, and goes as soon as one is free', (t) => {
  const p = new PoolDriver({ maxSize: 8 });
  p.offerMany(1);
  p.offerMany(3);
  p.offerMany(2);
  p.reply();
  t.deepEqual(p.calls, [[1], [2, 3, 4, 5, 6]]);
});

test('no replica is given a second batch while another has none', (t) => {
  const p = new PoolDriver({ replicas: 2, maxInFlight: 2, maxSize: 2 });
  p.offerMany(8);
  t.deepEqual(
    p.sent.map((batch) => [batch.cell, ...batch.ids]),
    [
      [1, 1, 2],
      [2, 3, 4],
      [1, 5, 6],
      [2, 7, 8],
    ],
  );
});

test('a replica never holds more than maxInFlight batches', (t) => {
  const p = new PoolDriver({ maxInFlight: 2, maxSize: 2 });
  p.offerMany(10);
  t.is(p.sent.length, 2);
  p.reply();
  t.is(p.sent.length, 2);
});

test('with maxDelayMs a partial batch leaves when its time has come', (t) => {
  const p = new PoolDriver({ maxDelayMs: 50 });
  p.offerMany(2);
  t.is(p.sent.length, 0);
  p.advanceTo(49);
  t.is(p.sent.length, 0);
  p.advanceTo(50);
  t.deepEqual(p.calls, [[1, 2]]);
  t.is(p.core.counts.triggers.delay, 1);
});

// ------------------------------------------------------- deadline, cancellation

test('a record whose deadline passes while it waits never runs', (t) => {
  const p = new PoolDriver({ maxSize: 1 });
  p.offerMany(1);
  p.offer({ deadlineAt: 100 });
  p.pump();
  p.advanceTo(100);
  t.is(p.outcome(2), 'DEADLINE_PASSED');
  t.is(p.requests[1]?.error?.ran, 'not-started');
  p.reply();
  t.deepEqual(p.calls, [[1]]);
});

test('a record whose deadline has come is not sent in the very turn in which a replica gets free', (t) => {
  const p = new PoolDriver({ maxSize: 1 });
  p.offerMany(1);
  p.offer({ deadlineAt: 100 });
  p.pump();
  p.now = 100;
  p.reply();
  t.deepEqual(p.calls, [[1]]);
  t.is(p.outcome(2), 'DEADLINE_PASSED');
});

test('a record that has waited for as long as it may never runs; one that was sent has its whole deadline', (t) => {
  const p = new PoolDriver({ maxSize: 1, mailbox: { maxWaitMs: 40 } });
  p.offer({ deadlineAt: 1000 });
  p.offer({ deadlineAt: 1000 });
  p.offer({ deadlineAt: 20 });
  p.offer({});
  p.pump();
  p.advanceTo(39);
  t.deepEqual([p.outcome(1), p.outcome(2), p.outcome(3)], [undefined, undefined, 'DEADLINE_PASSED']);
  p.advanceTo(40);
  t.is(p.outcome(2), 'DEADLINE_PASSED');
  t.regex(p.requests[1]?.error?.message ?? '', /No replica took the record within 40 ms: mailbox.maxWaitMs passed/);
  t.is(p.requests[1]?.error?.ran, 'not-started');
  p.advanceTo(500);
  p.reply(p.batch(0));
  p.pump();
  t.is(p.outcome(1), 'y1', 'it was under way');
  t.is(p.outcome(4), undefined, 'without a deadline it waits as long as it must, and is under way now');
  p.reply(p.batch(0));
  t.is(p.outcome(4), 'y4');
});

test('a record that comes back from a replica that died does not wait for its first time', (t) => {
  const p = new PoolDriver({ maxSize: 1, mailbox: { maxWaitMs: 40 } });
  p.offer({ deadlineAt: 1000 });
  p.pump();
  p.advanceTo(100);
  p.crash(p.batch(0).cell);
  p.advanceTo(900);
  t.is(p.outcome(1), undefined);
  p.reply(p.batch(0));
  t.is(p.outcome(1), 'y1');
});

test('a record offered after its deadline settles at once and never runs', (t) => {
  const p = new PoolDriver();
  p.now = 50;
  t.is(p.offer({ deadlineAt: 50 }), 'accepted');
  p.pump();
  t.is(p.outcome(1), 'DEADLINE_PASSED');
  t.deepEqual(p.calls, []);
});

test('a deadline that passes in flight settles the record, frees nothing else, and the late result is dropped', (t) => {
  const p = new PoolDriver();
  p.offer({ deadlineAt: 100 });
  p.offer();
  p.pump();
  p.advanceTo(100);
  t.is(p.requests[0]?.error?.ran, 'interrupted');
  t.false(p.log.includes('abandon 1'), 'the other record of the batch is still waited for');
  p.reply();
  t.deepEqual([p.outcome(1), p.outcome(2)], ['DEADLINE_PASSED', 'y2']);
  t.is(p.core.counts.lateResults, 1);
});

test('records of one key run one after another, in the order of asking, and are free across keys', (t) => {
  const p = new PoolDriver({ replicas: 2, maxSize: 4 });
  for (const key of ['k', 'k', 'l', 'k', 'l']) p.offer({ key });
  p.offer();
  p.pump();
  t.deepEqual(p.calls, [[1, 3, 6]]);
  p.reply();
  t.deepEqual(p.calls.at(-1), [2, 5]);
  p.reply();
  t.deepEqual(p.calls.at(-1), [4]);
  p.reply();
  t.is(p.core.heldCount, 0);
});

test('a record that is tried again holds those of its key that came after it', (t) => {
  const p = new PoolDriver({ replicas: 2, maxSize: 4 });
  p.offer({ key: 'k' });
  p.offer();
  p.offer({ key: 'k' });
  p.pump();
  p.fail();
  t.deepEqual(p.calls, [[1, 2], [1], [2]], 'the halves run, the third record waits for the first');
  p.crash(p.batch(0).cell);
  t.deepEqual(p.calls.at(-1), [1], 'replayed alone');
  p.fail(p.batch(1));
  t.is(p.outcome(1), 'PREDICT_FAILED');
  t.deepEqual(p.calls.at(-1), [3], 'a failure lets the next go');
});

test('those held back by their key fill the mailbox, and leave it when cancelled or expired', (t) => {
  const p = new PoolDriver({ maxSize: 1, mailbox: { capacity: 2 } });
  p.offer({ key: 'k' });
  p.pump();
  p.offer({ key: 'k', deadlineAt: 50 });
  p.offer({ key: 'k' });
  t.is(p.offer({ key: 'l' }), 'full');
  p.advanceTo(50);
  t.is(p.outcome(2), 'DEADLINE_PASSED');
  t.is(p.offer({ key: 'l' }), 'accepted');
  p.core.cancel(p.requests[2] as Request, undefined);
  p.pump();
  p.reply();
  t.deepEqual(p.calls, [[1], [5]]);
  t.is(p.core.mailbox.held, 0);
});

test('the oldest that is dropped for a newer record may be one held back by its key', (t) => {
  const p = new PoolDriver({ maxSize: 1, mailbox: { capacity: 2 } });
  p.offer({ key: 'k' });
  p.pump();
  p.now = 1;
  p.offer({ key: 'k' });
  p.now = 2;
  p.offer({ key: 'k' });
  t.is(p.offer({ key: 'k' }, 'drop-oldest'), 'accepted');
  p.pump();
  t.is(p.outcome(2), 'MAILBOX_DROPPED');
  p.reply();
  p.reply();
  p.reply();
  t.deepEqual(p.calls, [[1], [3], [4]]);
});

test('stopping settles those held back by their key too', (t) => {
  const p = new PoolDriver({ maxSize: 1 });
  p.offerMany(3, { key: 'k' });
  p.core.stop(true);
  p.pump();
  t.deepEqual(
    [1, 2, 3].map((id) => p.outcome(id)),
    ['POOL_STOPPED', 'POOL_STOPPED', 'POOL_STOPPED'],
  );
});

test('with cancellation replace, a replica whose batch nobody waits for ends at once and starts again, blamed on nobody', (t) => {
  const p = new PoolDriver({ cancellation: 'replace', maxSize: 2, restart: { max: 0 } });
  p.offerMany(2);
  p.core.cancel(p.requests[0] as Request, undefined);
  p.pump();
  t.false(p.log.includes('stop 1'), 'one of the batch is still waited for');
  p.core.cancel(p.requests[1] as Request, undefined);
  p.pump();
  t.deepEqual(p.log.slice(-2), ['stop 1', 'start 1.2']);
  t.false(p.log.includes('abandon 1'));
  t.is(p.core.state, 'running');
  t.is(p.core.fleet.replacedCount, 1);
  t.deepEqual(p.core.fleet.deathCounts, { init: 0, crash: 0, hang: 0, oom: 0, quarantine: 0 });
  p.offer();
  p.pump();
  p.reply();
  t.is(p.outcome(3), 'y3');
});

test('what waits behind a replaced batch goes again as it stands, and has lost no attempt', (t) => {
  const p = new PoolDriver({ cancellation: 'replace', maxSize: 1, maxInFlight: 2, attempts: 1 });
  p.offer({ deadlineAt: 10 });
  p.offer();
  p.pump();
  t.deepEqual(p.calls, [[1], [2]]);
  p.advanceTo(10);
  t.is(p.outcome(1), 'DEADLINE_PASSED');
  t.deepEqual(p.calls, [[1], [2], [2]]);
  p.reply();
  t.is(p.outcome(2), 'y2');
});

test('with cancellation replace, a staged batch that was given up costs no replica: it never runs', (t) => {
  const p = new PoolDriver({ cancellation: 'replace', maxSize: 1, maxInFlight: 2 });
  p.offerMany(2);
  p.core.cancel(p.requests[1] as Request, undefined);
  p.pump();
  t.is(p.log.at(-1), 'abandon 1');
  p.reply();
  t.is(p.outcome(1), 'y1');
  t.is(p.core.fleet.replacedCount, 0);
});

test('replicas that are replaced do not wait for each other', (t) => {
  const p = new PoolDriver({ cancellation: 'replace', maxSize: 1, replicas: 2, obedient: false });
  p.ready(1);
  p.ready(2);
  p.offerMany(2);
  for (const request of p.requests) p.core.cancel(request, undefined);
  p.pump();
  p.crash(1, { cause: 'stopped' });
  t.is(p.log.at(-1), 'start 1.2', 'the other has not ended yet');
});

test('a replica that drains, and whose last batch nobody waits for, ends at once and for good', (t) => {
  const p = new PoolDriver({ cancellation: 'replace', version: '1' });
  p.offer();
  p.pump();
  p.core.rollOut('2', 1, p.now);
  p.pump();
  t.is(p.core.fleet.version, '2');
  p.core.cancel(p.requests[0] as Request, undefined);
  p.pump();
  t.deepEqual([...p.alive.keys()], [2]);
  t.is(p.core.fleet.cells.size, 1);
});

test('each try of a record with callTimeoutMs has its own end; between tries only the deadline counts', (t) => {
  const p = new PoolDriver({ maxSize: 2 });
  p.offerMany(2, { callTimeoutMs: 100, deadlineAt: 1000 });
  p.advanceTo(90);
  p.fail();
  p.advanceTo(180);
  t.deepEqual(p.calls, [[1, 2], [1]]);
  p.reply();
  t.deepEqual(p.calls.at(-1), [2]);
  p.advanceTo(279);
  t.is(p.outcome(2), undefined);
  p.advanceTo(280);
  t.is(p.outcome(2), 'DEADLINE_PASSED');
  t.regex(p.requests[1]?.error?.message ?? '', /within 100 ms of the send/);
});

test('a record is due at its deadline when that comes before the end of the try', (t) => {
  const p = new PoolDriver();
  p.offer({ callTimeoutMs: 100, deadlineAt: 60 });
  p.pump();
  p.advanceTo(59);
  t.is(p.outcome(1), undefined);
  p.advanceTo(60);
  t.is(p.outcome(1), 'DEADLINE_PASSED');
});

test('cancellation works at the door, in the mailbox, in flight, before a retry, and does nothing afterwards', (t) => {
  const p = new PoolDriver({ mailbox: { capacity: 1 }, maxSize: 1 });
  p.offerMany(1);
  p.offer();
  p.offer({}, 'wait');
  p.pump();
  const [inFlight, inMailbox, atDoor] = p.requests;
  t.deepEqual([inFlight?.place, inMailbox?.place, atDoor?.place], ['in-flight', 'mailbox', 'door']);
  for (const request of [atDoor, inMailbox, inFlight]) if (request !== undefined) p.core.cancel(request, 'enough');
  p.pump();
  t.deepEqual(p.tally(), { CANCELLED: 3 });
  t.deepEqual(
    p.requests.map((request) => request.error?.ran),
    ['interrupted', 'not-started', 'not-started'],
  );
  t.true(p.log.includes('abandon 1'), 'nobody waits for the batch any more');
  t.deepEqual(p.newsOf('died'), [], 'the replica is not killed for it');
  p.reply();
  t.is(p.core.counts.lateResults, 1);
  p.core.cancel(inFlight as never, 'again');
  p.pump();
  t.deepEqual(p.tally(), { CANCELLED: 3 });

  const q = new PoolDriver({ restart: { max: 5 } });
  q.offerMany(2);
  q.crash(1);
  q.crash(1, { cause: 'killed', signal: 'SIGKILL' });
  t.is(q.requests[1]?.place, 'retry');
  q.core.cancel(q.requests[1] as never, 'enough');
  q.pump();
  t.is(q.outcome(2), 'CANCELLED');
  q.serve(() => 'ok');
  t.deepEqual(q.tally(), { ok: 1, CANCELLED: 1 });
});

// ------------------------------------------------------- throws, bisecting

test('a batch of eight that throws is halved until the culprit is alone, and the others succeed', (t) => {
  const p = new PoolDriver();
  p.offerMany(8);
  p.serve((batch) => (batch.includes(6) ? 'throw' : 'ok'));
  t.deepEqual(p.tally(), { ok: 7, PREDICT_FAILED: 1 });
  t.is(p.outcome(6), 'PREDICT_FAILED');
  t.deepEqual(p.calls, [range(8), [1, 2, 3, 4], [5, 6, 7, 8], [5, 6], [5], [6], [7, 8]]);
});

test('whatever records are bad, exactly those fail, with at most 2k*ceil(log2 n) extra calls', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 64 }),
      fc.uniqueArray(fc.integer({ min: 1, max: 64 }), { maxLength: 5 }),
      (n, picks) => {
        const bad = new Set(picks.filter((id) => id <= n));
        const p = new PoolDriver({ maxSize: 64 });
        p.offerMany(n);
        p.serve((batch) => (batch.some((id) => bad.has(id)) ? 'throw' : 'ok'));
        for (const id of range(n)) {
          if (p.outcome(id) !== (bad.has(id) ? 'PREDICT_FAILED' : `y${id}`)) throw new Error(`${id}: ${p.outcome(id)}`);
        }
        const extra = p.calls.length - 1;
        if (extra > 2 * bad.size * Math.ceil(Math.log2(n))) throw new Error(`${extra} extra calls`);
      },
    ),
    { numRuns: 300 },
  );
  t.pass();
});

test('a batch that breaks the contract fails as a whole and is not repeated', (t) => {
  const p = new PoolDriver();
  p.offerMany(4);
  p.fail(p.batch(), new TroupeError('PROTOCOL_VIOLATION', '3 outputs for 4 records'));
  t.deepEqual(p.tally(), { PROTOCOL_VIOLATION: 4 });
  t.is(p.calls.length, 1);
});

test('a definition that is not repeatable has nothing split and nothing retried', (t) => {
  const p = new PoolDriver();
  p.core.setRepeatable(false);
  p.offerMany(2);
  p.fail();
  p.offerMany(2);
  p.crash(1);
  t.deepEqual(p.tally(), { PREDICT_FAILED: 2, ACTOR_CRASHED: 2 });
  t.is(p.requests[2]?.error?.ran, 'interrupted');
  t.is(p.calls.length, 2);
});

// ------------------------------------------------------- deaths and quarantine

test('queued records survive the death of the replica, in order', (t) => {
  const p = new PoolDriver({ maxSize: 2 });
  p.offerMany(6);
  p.crash(1, { cause: 'killed', signal: 'SIGKILL' });
  p.serve(() => 'ok');
  t.deepEqual(p.calls, [
    [1, 2],
    [1, 2],
    [3, 4],
    [5, 6],
  ]);
  t.deepEqual(p.tally(), { ok: 6 });
});

test('a crash of a batch of eight is replayed one by one in order, and costs the culprit alone', (t) => {
  const p = new PoolDriver();
  p.offerMany(8);
  p.offerMany(3);
  p.serve((batch) => (batch.includes(5) ? 'crash' : 'ok'));
  t.deepEqual(p.tally(), { ok: 10, ACTOR_CRASHED: 1 });
  t.is(p.outcome(5), 'ACTOR_CRASHED');
  t.deepEqual(p.calls, [range(8), ...range(8).map((id) => [id]), [9, 10, 11]]);
  t.is(p.newsOf('died').length, 2, 'one death, and one for the culprit');
  t.like(p.requests[4]?.error, { ran: 'interrupted', retryable: true, attempt: 2, incarnation: 2 });
});

test('deaths in quarantine do not use up the restarts of the pool', (t) => {
  const p = new PoolDriver({ restart: { max: 2, quarantineMax: 20 } });
  const bad = new Set([2, 3, 5, 8]);
  p.offerMany(8);
  p.serve((batch) => (batch.some((id) => bad.has(id)) ? 'crash' : 'ok'));
  t.deepEqual(p.tally(), { ok: 4, ACTOR_CRASHED: 4 });
  t.is(p.core.state, 'running');
  t.deepEqual(p.core.fleet.deathCounts, { init: 0, crash: 1, hang: 0, oom: 0, quarantine: 4 });
  p.crash(1);
  t.is(p.core.state, 'running', 'one of two restarts was left');
});

test('a kill from outside is on the budget of the replica, even where it hits a suspect', (t) => {
  const p = new PoolDriver();
  p.offerMany(1);
  p.crash(1);
  p.crash(1, { cause: 'killed', signal: 'SIGKILL' });
  t.deepEqual(p.core.fleet.deathCounts, { init: 0, crash: 2, hang: 0, oom: 0, quarantine: 0 });
  p.serve(() => 'ok');
  t.is(p.outcome(1), 'y1');
});

test('a replica that dies on our word to end blames no record', (t) => {
  const p = new PoolDriver({ replicas: 2, strategy: 'one-for-all', maxSize: 1, attempts: 1, obedient: false });
  p.ready(1);
  p.ready(2);
  p.offer();
  p.pump();
  p.crash(2);
  t.true(p.log.includes('stop 1'));
  p.crash(1, { cause: 'crash', signal: 'SIGABRT' });
  t.is(p.requests[0]?.deathCount, 0);
  p.ready(1);
  p.ready(2);
  p.serve(() => 'ok');
  t.is(p.outcome(1), 'y1');
  t.is(p.core.counts.triggers.quarantine, 0);
});

test('a suspect whose replica is ended for the sake of a sibling stays a suspect', (t) => {
  const p = new PoolDriver({ replicas: 2, strategy: 'one-for-all', maxSize: 1, obedient: false });
  p.ready(1);
  p.ready(2);
  p.offer();
  p.pump();
  const crashWithSibling = (cell: number, sibling: number): void => {
    p.crash(cell);
    p.crash(sibling, { cause: 'stopped' });
    p.ready(1);
    p.ready(2);
  };
  crashWithSibling(1, 2);
  t.is(p.core.counts.triggers.quarantine, 1);
  const { cell } = p.batch();
  crashWithSibling(3 - cell, cell);
  t.is(p.core.counts.triggers.quarantine, 2, 'it was not cleared, so it runs alone again');
  t.is(p.requests[0]?.deathCount, 1);
  p.serve(() => 'ok');
  t.is(p.outcome(1), 'y1');
});

test('a used-up quarantine budget fails the suspects that are left, and the replica lives', (t) => {
  const p = new PoolDriver({ restart: { quarantineMax: 1 } });
  p.offerMany(8);
  p.serve(() => 'crash');
  t.deepEqual(p.tally(), { ACTOR_CRASHED: 8 });
  t.is(p.core.fleet.deathCounts.quarantine, 2);
  t.is(p.core.state, 'running');
  p.offerMany(1);
  p.serve(() => 'ok');
  t.is(p.outcome(9), 'y9');
});

test('a replica killed from outside blames nobody the first time: the batch goes again as it was', (t) => {
  const p = new PoolDriver();
  p.offerMany(4);
  p.crash(1, { cause: 'killed', signal: 'SIGKILL' });
  p.serve(() => 'ok');
  t.deepEqual(p.calls, [
    [1, 2, 3, 4],
    [1, 2, 3, 4],
  ]);
});

test('a record is sent at most as often as attempts say, whoever kills the replica', (t) => {
  const p = new PoolDriver({ attempts: 3, restart: { max: 100 } });
  p.offerMany(1);
  p.serve(() => 'killed');
  t.deepEqual(p.calls, [[1], [1], [1]]);
  t.is(p.outcome(1), 'ACTOR_CRASHED');
});

test('only the batch that ran is suspect: one that was staged behind it goes again as it is', (t) => {
  const p = new PoolDriver({ maxSize: 2, maxInFlight: 2 });
  p.offerMany(4);
  t.is(p.sent.length, 2);
  p.crash(1);
  p.serve(() => 'ok');
  t.deepEqual(p.calls, [[1, 2], [3, 4], [1], [2], [3, 4]]);
  t.is(p.requests[2]?.deathCount, 0);
});

test('a record in quarantine is alone on its replica', (t) => {
  const p = new PoolDriver({ maxSize: 2, maxInFlight: 2 });
  p.offerMany(2);
  p.crash(1);
  p.offerMany(8);
  t.deepEqual(
    p.sent.map((batch) => batch.ids),
    [[1]],
  );
  p.reply();
  t.deepEqual(
    p.sent.map((batch) => batch.ids),
    [[2]],
  );
});

test('suspects are not starved by full batches at replicas that are always busy', (t) => {
  const p = new PoolDriver({ replicas: 2, maxSize: 2, maxInFlight: 2 });
  p.offerMany(8);
  p.crash(1);
  p.crash(1, { cause: 'killed', signal: 'SIGKILL' });
  // Replica 1 waits for its restart; replica 2 always has a batch staged.
  for (let n = 0; n < 20 && p.outcome(1) === undefined; n += 1) {
    p.offerMany(4);
    p.reply();
  }
  t.is(p.outcome(1), 'y1');
});

test('a batch that is not answered in time condemns its replica, and its records are suspects', (t) => {
  const p = new PoolDriver({ batchTimeoutMs: 500 });
  p.offerMany(2);
  p.advanceTo(499);
  t.false(p.log.includes('kill 1'));
  p.advanceTo(500);
  t.true(p.log.includes('kill 1'));
  p.serve((batch) => (batch.includes(2) ? 'hang' : 'ok'));
  t.deepEqual([p.outcome(1), p.outcome(2)], ['y1', 'ACTOR_HUNG']);
});

test('after a stall of the host a batch has a moment more, once, before it counts as hung', (t) => {
  const p = new PoolDriver({ batchTimeoutMs: 5000 });
  p.offerMany(1);
  const stalled = (until: number): void => {
    p.now = until;
    p.core.tick(p.now);
    p.pump();
  };
  stalled(20_000);
  t.deepEqual(p.newsOf('died'), [], 'the answer may wait unread');
  t.is(p.core.nextWakeAt(), 25_000);
  p.reply();
  t.is(p.outcome(1), 'y1');

  p.offerMany(1);
  stalled(60_000);
  t.is(p.outcome(2), undefined);
  stalled(70_000);
  t.is(p.newsOf('died')[0]?.death.cause, 'hung', 'never for ever');
  p.serve(() => 'ok');
});

test('the clock of a staged batch starts when the one before it is answered', (t) => {
  const p = new PoolDriver({ maxSize: 1, maxInFlight: 2, batchTimeoutMs: 500 });
  p.offerMany(2);
  p.advanceTo(400);
  p.reply();
  p.advanceTo(899);
  t.false(p.log.includes('kill 1'));
  p.advanceTo(900);
  t.true(p.log.includes('kill 1'));
});

test('a replica that is to restart with its sibling and hangs does not make the pool spin', (t) => {
  const p = new PoolDriver({ replicas: 2, strategy: 'one-for-all', maxSize: 1, batchTimeoutMs: 500, obedient: false });
  p.ready(1);
  p.ready(2);
  p.offerMany(2);
  p.crash(1);
  t.true(p.log.includes('stop 2'));
  p.advanceTo(5000);
  t.is(p.log.filter((line) => line === 'start 1.2').length, 0, 'the first waits for the second to end');
  p.crash(2, { cause: 'stopped' });
  t.deepEqual(p.log.slice(-2), ['start 1.2', 'start 2.2']);
});

test('a dead replica restarts at once the first time, then later and later', (t) => {
  const p = new PoolDriver({ restart: { max: 10 } });
  const starts: number[] = [];
  for (let n = 0; n < 4; n += 1) {
    p.crash(1);
    p.advanceTo(Math.min(p.core.nextWakeAt(), p.now + 1e6));
    starts.push(p.now);
  }
  t.deepEqual(
    p.newsOf('restarting').map((one) => one.delayMs),
    [0, 100, 200, 400],
  );
  t.is(p.core.fleet.restartCount, 4);
});

test('a finished batch makes the next restart immediate again', (t) => {
  const p = new PoolDriver({ restart: { max: 10 } });
  for (let n = 0; n < 3; n += 1) {
    p.crash(1);
    p.offerMany(1);
    p.serve(() => 'ok');
  }
  t.deepEqual(
    p.newsOf('restarting').map((one) => one.delayMs),
    [0, 0, 0],
  );
});

test('more deaths than the intensity forgives fail the pool, and everything held fails with the cause', (t) => {
  const p = new PoolDriver({ restart: { max: 1 } });
  p.crash(1);
  p.offerMany(2);
  p.crash(1, { cause: 'exit', exitCode: 3 });
  t.is(p.core.state, 'failed');
  t.deepEqual(p.tally(), { NO_REPLICA: 2 });
  t.regex(p.requests[0]?.error?.message ?? '', /exited with code 3/);
  t.is(p.offer(), 'failed');
});

test('while one replica is left the pool goes on', (t) => {
  const p = new PoolDriver({ replicas: 2, restart: { max: 0 } });
  p.crash(1);
  t.is(p.newsOf('replica-failed').length, 1);
  t.is(p.core.state, 'running');
  p.offerMany(1);
  p.serve(() => 'ok');
  t.is(p.outcome(1), 'y1');
  p.crash(2);
  t.is(p.core.state, 'failed');
});

test('a failed pool that is restarted has fresh budgets and serves again', (t) => {
  const p = new PoolDriver({ replicas: 2, restart: { max: 0 } });
  p.crash(1);
  p.crash(2);
  p.core.release(p.now);
  p.pump();
  t.is(p.core.state, 'running');
  p.offerMany(1);
  p.serve(() => 'ok');
  t.is(p.outcome(1), 'y1');
});

test('a replica that ends by itself is restarted as its type says', (t) => {
  const idleExit: DeathNotice = { cause: 'exit', exitCode: 0 };
  const states = (['permanent', 'transient', 'temporary'] as const).map((restartType) => {
    const p = new PoolDriver({ replicas: 2, restartType });
    p.crash(1, idleExit);
    const afterNormal = p.log.includes('start 1.2');
    p.crash(2);
    const q = new PoolDriver({ replicas: 2, restartType });
    q.crash(1, { cause: 'killed', signal: 'SIGTERM' });
    q.crash(2, { cause: 'killed', signal: 'SIGKILL' });
    return [afterNormal, p.log.includes('start 2.2'), q.log.includes('start 1.2'), q.log.includes('start 2.2')];
  });
  t.deepEqual(states, [
    [true, true, true, true],
    [false, true, false, true],
    [false, false, false, false],
  ]);
});

test('under one-for-all the siblings of a dead replica finish their batch, then all start together', (t) => {
  const p = new PoolDriver({ replicas: 2, strategy: 'one-for-all', maxSize: 1 });
  p.offerMany(2);
  p.crash(1);
  t.deepEqual(p.log.slice(-1), ['stop 2']);
  p.reply();
  t.is(p.outcome(2), 'y2');
  p.serve(() => 'ok');
  t.deepEqual(p.tally(), { ok: 2 });
  t.deepEqual([p.alive.get(1), p.alive.get(2)], [2, 2]);
});

// ------------------------------------------------------------ load, swap, scale

test('a pool whose first replicas cannot load fails with what load said, and keeps nobody waiting', (t) => {
  const p = new PoolDriver({ replicas: 2, obedient: false });
  p.offerMany(1);
  p.ready(1);
  const error = new TroupeError('ACTOR_LOAD_FAILED', 'no weights');
  p.crash(2, { cause: 'load-failed', error });
  t.is(p.core.state, 'failed');
  t.is(p.core.failure, error);
  t.deepEqual(p.tally(), { NO_REPLICA: 1 });
  t.true(p.log.includes('stop 1'), 'the one that did load is ended');
});

test('a swap loads the new version beside the old, switches, drains and frees, and loses nothing', (t) => {
  const p = new PoolDriver({ version: '1', maxSize: 1, obedient: false });
  p.ready(1);
  p.offerMany(3);
  p.core.rollOut('2', 1, p.now);
  p.pump();
  p.reply();
  t.is(p.core.fleet.version, '1', 'the old one serves while the new one loads');
  t.deepEqual(
    p.sent.map((batch) => batch.cell),
    [1],
  );
  p.ready(2);
  t.is(p.core.fleet.version, '2');
  t.deepEqual(
    p.sent.map((batch) => [batch.cell, ...batch.ids]),
    [
      [1, 2],
      [2, 3],
    ],
  );
  t.false(p.log.includes('stop 1'), 'the old one finishes what it holds');
  p.reply();
  t.true(p.log.includes('stop 1'));
  p.crash(1, { cause: 'stopped' });
  t.deepEqual(
    p.newsOf('freed').map((one) => one.version),
    ['1'],
  );
  p.reply();
  t.deepEqual(
    p.requests.map((request) => request.version),
    ['1', '1', '2'],
  );
  t.deepEqual(p.tally(), { ok: 3 });
});

test('a version that cannot load, crashes or dies while it loads changes nothing', (t) => {
  for (const cause of ['load-failed', 'crash', 'exit', 'oom', 'hung'] as const) {
    const p = new PoolDriver({ version: '1', obedient: false });
    p.ready(1);
    p.offerMany(1);
    p.core.rollOut('2', 2, p.now);
    p.pump();
    p.ready(2);
    p.crash(3, { cause });
    t.is(p.newsOf('rollout-failed').length, 1, cause);
    t.is(p.core.fleet.version, '1');
    t.is(p.core.state, 'running');
    t.true(p.log.includes('stop 2'));
    p.crash(2, { cause: 'stopped' });
    p.reply();
    t.is(p.requests[0]?.version, '1');
    p.core.rollOut('3', 1, p.now);
    p.pump();
    p.ready(4);
    t.is(p.core.fleet.version, '3', 'the next roll-out is free to go');
  }
});

test('a kill from outside says nothing about the version that loads: it is loaded again', (t) => {
  const p = new PoolDriver({ version: '1', obedient: false });
  p.ready(1);
  p.core.rollOut('2', 1, p.now);
  p.pump();
  p.crash(2, { cause: 'killed', signal: 'SIGKILL' });
  t.deepEqual(p.newsOf('rollout-failed'), []);
  p.ready(2);
  t.is(p.core.fleet.version, '2');
});

test('records of an old version that dies while it drains run on the new one', (t) => {
  const p = new PoolDriver({ version: '1', obedient: false });
  p.ready(1);
  p.offerMany(2);
  p.core.rollOut('2', 1, p.now);
  p.pump();
  p.ready(2);
  p.crash(1, { cause: 'killed', signal: 'SIGKILL' });
  p.reply();
  t.deepEqual(
    p.requests.map((request) => request.version),
    ['2', '2'],
  );
});

test('a pool whose last old replica gives up while a new version loads keeps its records for the new one', (t) => {
  const p = new PoolDriver({ version: '1', obedient: false, restart: { max: 0 } });
  p.ready(1);
  p.offerMany(1);
  p.core.rollOut('2', 1, p.now);
  p.pump();
  p.crash(1, { cause: 'killed', signal: 'SIGKILL' });
  t.is(p.core.state, 'running');
  t.is(p.offer(), 'accepted');
  p.pump();
  p.ready(2);
  p.serve(() => 'ok');
  t.deepEqual(
    p.requests.map((request) => request.version),
    ['2', '2'],
  );
  t.is(p.core.fleet.cells.size, 1);
});

test('a pool whose last old replica has given up fails with the new version that fails too', (t) => {
  const p = new PoolDriver({ version: '1', obedient: false, restart: { max: 0 } });
  p.ready(1);
  p.offerMany(1);
  p.core.rollOut('2', 1, p.now);
  p.pump();
  p.crash(1, { cause: 'killed', signal: 'SIGKILL' });
  p.crash(2, { cause: 'load-failed' });
  t.is(p.core.state, 'failed');
  t.deepEqual(p.tally(), { NO_REPLICA: 1 });
});

test('a replica of a new version that waits for its siblings neither serves nor wakes the pool', (t) => {
  const p = new PoolDriver({ version: '1', obedient: false, maxDelayMs: 50, maxSize: 4 });
  p.ready(1);
  p.offerMany(4);
  p.core.rollOut('2', 2, p.now);
  p.pump();
  p.ready(2);
  p.offerMany(1);
  p.advanceTo(500);
  t.deepEqual(
    p.sent.map((batch) => batch.cell),
    [1],
  );
  p.reply();
  t.deepEqual(
    p.sent.map((batch) => [batch.cell, ...batch.ids]),
    [[1, 5]],
  );
});

test('scaling up starts what is missing, scaling down drains what is too much', (t) => {
  const p = new PoolDriver({ replicas: 1, maxSize: 1 });
  p.offerMany(1);
  p.core.scale(3, p.now);
  p.pump();
  p.offerMany(2);
  t.deepEqual(
    p.sent.map((batch) => batch.cell),
    [1, 2, 3],
  );
  p.core.scale(1, p.now);
  p.pump();
  t.false(p.log.includes('stop 2'), 'it finishes its batch first');
  p.serve(() => 'ok');
  t.deepEqual([...p.alive.keys()], [1]);
  t.deepEqual(p.tally(), { ok: 3 });
});

test('scaling up again while the surplus still drains ends with as many replicas as asked for', (t) => {
  const p = new PoolDriver({ replicas: 2, maxSize: 1 });
  p.offerMany(2);
  p.core.scale(1, p.now);
  p.pump();
  p.core.scale(2, p.now);
  p.pump();
  p.serve(() => 'ok');
  t.is(p.alive.size, 2);
  t.is(p.core.fleet.readyCount, 2);
});

// ----------------------------------------------------------- hold, drain, stop

test('a held pool keeps its records and runs them after its release', (t) => {
  const p = new PoolDriver({ replicas: 2, maxSize: 1 });
  p.offerMany(4);
  p.core.hold();
  p.pump();
  t.is(p.newsOf('held').length, 0, 'what runs is finished first');
  p.reply();
  p.reply();
  t.is(p.newsOf('held').length, 1);
  t.is(p.alive.size, 0);
  t.is(p.offer(), 'accepted');
  p.advanceTo(10_000);
  t.is(p.alive.size, 0);
  const ups = p.newsOf('up').length;
  p.core.release(p.now);
  p.pump();
  t.is(p.newsOf('up').length, ups + 1);
  p.serve(() => 'ok');
  t.deepEqual(p.tally(), { ok: 5 });
});

test('releasing a pool brings back replicas that had given up, with fresh budgets', (t) => {
  const p = new PoolDriver({ replicas: 2, restart: { max: 0 } });
  p.crash(1);
  t.is(p.core.fleet.readyCount, 1);
  p.core.hold();
  p.pump();
  t.is(p.newsOf('held').length, 1);
  const ups = p.newsOf('up').length;
  p.core.release(p.now);
  p.pump();
  t.is(p.core.fleet.readyCount, 2);
  t.is(p.newsOf('up').length, ups + 1);
});

test('a pool that drains takes nothing more and tells when the last record is settled', (t) => {
  const p = new PoolDriver({ maxSize: 2 });
  p.offerMany(5);
  p.core.drain();
  t.is(p.offer(), 'closed');
  p.pump();
  t.is(p.newsOf('drained').length, 0);
  p.serve(() => 'ok');
  t.deepEqual(p.tally(), { ok: 5 });
  t.is(p.newsOf('drained').length, 1);
});

test('a drain goes on over the death of its replica', (t) => {
  const p = new PoolDriver({ maxSize: 2 });
  p.offerMany(5);
  p.core.drain();
  p.serve((batch) => (batch.includes(3) ? 'crash' : 'ok'));
  t.deepEqual(p.tally(), { ok: 4, ACTOR_CRASHED: 1 });
  t.is(p.newsOf('drained').length, 1);
});

test('stop settles everything held, says what may have run, and ends every replica', (t) => {
  const p = new PoolDriver({ replicas: 2, maxSize: 1, mailbox: { capacity: 1 } });
  p.offerMany(1);
  p.offerMany(1);
  p.offer();
  p.offer({}, 'wait');
  p.pump();
  p.core.stop(true);
  p.pump();
  t.deepEqual(p.tally(), { POOL_STOPPED: 4 });
  t.deepEqual(
    p.requests.map((request) => request.error?.ran),
    ['interrupted', 'interrupted', 'not-started', 'not-started'],
  );
  t.is(p.core.state, 'stopped');
  t.is(p.newsOf('stopped').length, 1);
  t.is(p.alive.size, 0);
  t.is(p.offer(), 'closed');
});

test('stop works in every state, again and again', (t) => {
  const situations: ((p: PoolDriver) => void)[] = [
    () => {},
    (p) => p.core.drain(),
    (p) => p.crash(1),
    (p) => p.core.hold(),
    (p) => p.core.rollOut('2', 1, p.now),
    (p) => {
      p.crash(1);
      p.crash(1);
      p.crash(1);
    },
  ];
  for (const [at, situation] of situations.entries()) {
    const p = new PoolDriver({ version: '1', restart: { max: 2, backoffMs: 0 } });
    p.offerMany(3);
    situation(p);
    p.core.stop(false);
    p.core.stop(true);
    p.pump();
    t.is(p.core.state, 'stopped', `situation ${at}`);
    t.is(p.alive.size, 0);
    t.is(p.outcomes.size, 3);
    p.core.stop(true);
    p.pump();
    t.is(p.newsOf('stopped').length, 1);
  }
});

// ------------------------------------------------------------------------ laws

type Command =
  | {
      kind: 'offer';
      key: string | undefined;
      count: number;
      ttlMs: number;
      overflow: 'reject' | 'wait' | 'drop-oldest' | 'drop-newest';
      sender: number;
    }
  | { kind: 'answer'; pick: number; verdict: Verdict | 'late' }
  | { kind: 'idle-death' | 'cancel'; pick: number }
  | { kind: 'load'; pick: number; well: boolean }
  | { kind: 'wait'; ms: number }
  | { kind: 'scale'; count: number }
  | { kind: 'swap' }
  | { kind: 'hold' | 'release' | 'flush' | 'drain' | 'stop' };
const pick = fc.nat(1000);
const command = fc.oneof<fc.WeightedArbitrary<Command>[]>(
  {
    weight: 30,
    arbitrary: fc.record({
      kind: fc.constant('offer' as const),
      key: fc.constantFrom(undefined, undefined, 'k', 'l'),
      count: fc.integer({ min: 1, max: 6 }),
      ttlMs: fc.constantFrom(Infinity, Infinity, 0, 40, 300),
      overflow: fc.constantFrom('reject' as const, 'wait' as const, 'drop-oldest' as const, 'drop-newest' as const),
      sender: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 40,
    arbitrary: fc.record({
      kind: fc.constant('answer' as const),
      pick,
      verdict: fc.constantFrom<Verdict | 'late'>('ok', 'ok', 'ok', 'throw', 'crash', 'killed', 'late'),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('idle-death' as const), pick }) },
  {
    weight: 12,
    arbitrary: fc.record({ kind: fc.constant('load' as const), pick, well: fc.constantFrom(true, true, true, false) }),
  },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('cancel' as const), pick }) },
  { weight: 15, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(200) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('scale' as const), count: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('swap' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom('hold' as const, 'release' as const, 'release' as const, 'flush' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('drain' as const, 'stop' as const) }) },
);
const settings = fc.record({
  replicas: fc.integer({ min: 1, max: 3 }),
  slowLoads: fc.boolean(),
  maxSize: fc.integer({ min: 1, max: 4 }),
  maxInFlight: fc.integer({ min: 1, max: 2 }),
  maxDelayMs: fc.constantFrom(0, 30),
  batchTimeoutMs: fc.constantFrom(150, 10_000),
  attempts: fc.integer({ min: 1, max: 3 }),
  mailbox: fc.record({
    capacity: fc.integer({ min: 1, max: 8 }),
    ageingMs: fc.constantFrom(0, 50),
    maxWaitMs: fc.constantFrom(Infinity, 40),
  }),
  restart: fc.record({
    max: fc.constantFrom(2, 1000),
    quarantineMax: fc.constantFrom(0, 3),
    withinMs: fc.constant(500),
  }),
  strategy: fc.constantFrom('one-for-one' as const, 'rest-for-one' as const, 'one-for-all' as const),
  restartType: fc.constantFrom('permanent' as const, 'permanent' as const, 'transient' as const, 'temporary' as const),
});

test('no order of offers, answers, throws, deaths, swaps and stops loses a record or settles it twice', (t) => {
  const outcomes = new Set<string>();
  const states = new Set<string>();
  fc.assert(
    fc.property(settings, fc.array(command, { maxLength: 80, size: 'max' }), (settings, commands) => {
      const p = new PoolDriver({ ...settings, version: '1' });
      const accepted = new Set<number>();
      let version = 1;
      let held = false;
      let rollingOut = false;
      for (const c of commands) {
        const state = p.core.state;
        if (c.kind === 'offer') {
          for (let n = 0; n < c.count; n += 1) {
            const how = p.offer({ deadlineAt: p.now + c.ttlMs, sender: c.sender, key: c.key }, c.overflow);
            if (['accepted', 'door', 'dropped'].includes(how)) accepted.add(p.requests.length);
          }
        } else if (c.kind === 'answer' && p.sent.length > 0) {
          const batch = p.batch(c.pick % p.sent.length);
          if (c.verdict === 'ok') p.reply(batch);
          else if (c.verdict === 'throw') p.fail(batch);
          else if (c.verdict === 'late') {
            // The replica dies, and its reply arrives afterwards.
            p.crash(batch.cell);
            p.reply(batch);
          } else p.crash(batch.cell, { cause: c.verdict === 'killed' ? 'killed' : 'crash', signal: 'SIGKILL' });
        } else if (c.kind === 'idle-death' && p.alive.size > 0) {
          p.crash([...p.alive.keys()][c.pick % p.alive.size] as number, { cause: 'exit', exitCode: c.pick % 2 });
        } else if (c.kind === 'load') {
          const starting = [...p.core.fleet.cells.values()].filter((cell) => cell.state === 'starting');
          const cell = starting[c.pick % Math.max(1, starting.length)];
          if (cell !== undefined && c.well) p.ready(cell.id);
          else if (cell !== undefined) p.crash(cell.id, { cause: 'load-failed' });
        } else if (c.kind === 'cancel' && p.requests.length > 0) {
          const request = p.requests[c.pick % p.requests.length];
          if (request !== undefined) p.core.cancel(request, undefined);
        } else if (c.kind === 'wait') p.advanceTo(p.now + c.ms);
        else if (c.kind === 'scale' && state === 'running' && !rollingOut && !held) p.core.scale(c.count, p.now);
        else if (c.kind === 'swap' && state === 'running' && !rollingOut && !held) {
          version += 1;
          p.core.rollOut(String(version), settings.replicas, p.now);
        } else if (c.kind === 'hold' && state === 'running' && !held) {
          held = true;
          p.core.hold();
        } else if (c.kind === 'release' && held) {
          held = false;
          if (state === 'running' || state === 'failed') p.core.release(p.now);
        } else if (c.kind === 'flush') p.core.flush(p.now);
        else if (c.kind === 'drain' && state === 'running') p.core.drain();
        else if (c.kind === 'stop') p.core.stop(false);
        p.pump();
        const { cells, version: serving } = p.core.fleet;
        rollingOut =
          serving !== String(version) && [...cells.values()].some((cell) => cell.version === String(version));
        states.add(p.core.state);
        const { core } = p;
        if (core.counts.accepted !== accepted.size) throw new Error('miscounted what was accepted');
        if (core.counts.accepted !== core.counts.settled + core.heldCount)
          throw new Error('accepted is not settled + held');
        if (core.counts.settled !== p.outcomes.size) throw new Error('settled without telling');
        for (const batch of p.sent) {
          const mine = p.sent.filter((other) => other.cell === batch.cell);
          if (mine.length > settings.maxInFlight) throw new Error('more than maxInFlight');
          if (batch.ids.length > settings.maxSize) throw new Error('a batch beyond maxSize');
        }
      }
      for (const id of p.outcomes.keys()) if (!accepted.has(id)) throw new Error(`${id} settled, but was refused`);
      p.core.stop(true);
      p.pump();
      if (p.core.state !== 'stopped') throw new Error(`stop left it ${p.core.state}`);
      if (p.alive.size > 0) throw new Error('a replica outlived its pool');
      for (const id of accepted) if (!p.outcomes.has(id)) throw new Error(`${id} was lost`);
      for (const [id, outcome] of p.outcomes) outcomes.add(outcome === `y${id}` ? 'ok' : outcome);
    }),
    { numRuns: 700 },
  );
  for (const outcome of [
    'ok',
    'PREDICT_FAILED',
    'ACTOR_CRASHED',
    'DEADLINE_PASSED',
    'CANCELLED',
    'MAILBOX_DROPPED',
    'NO_REPLICA',
  ]) {
    t.true(outcomes.has(outcome), outcome);
  }
  for (const state of ['running', 'failed', 'draining', 'stopped']) t.true(states.has(state), state);
});

test('with restarts left, whatever crashes, every record that is not at fault is answered', (t) => {
  const work = fc.record({
    n: fc.integer({ min: 1, max: 40 }),
    maxSize: fc.integer({ min: 1, max: 8 }),
    maxInFlight: fc.integer({ min: 1, max: 2 }),
    replicas: fc.integer({ min: 1, max: 3 }),
    killers: fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { maxLength: 4 }),
    throwers: fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { maxLength: 4 }),
    kills: fc.integer({ min: 0, max: 3 }),
  });
  fc.assert(
    fc.property(work, ({ n, maxSize, maxInFlight, replicas, killers, throwers, kills }) => {
      const kill = new Set(killers);
      const fail = new Set(throwers.filter((id) => !kill.has(id)));
      const p = new PoolDriver({
        maxSize,
        maxInFlight,
        replicas,
        attempts: 10,
        restart: { max: 1000, quarantineMax: 1000 },
      });
      p.offerMany(n);
      let left = kills;
      p.serve((batch) => {
        if (batch.some((id) => kill.has(id))) return 'crash';
        if (batch.some((id) => fail.has(id))) return 'throw';
        left -= 1;
        return left >= 0 ? 'killed' : 'ok';
      });
      for (const id of range(n)) {
        const expected = kill.has(id) ? 'ACTOR_CRASHED' : fail.has(id) ? 'PREDICT_FAILED' : `y${id}`;
        if (p.outcome(id) !== expected) throw new Error(`${id}: ${p.outcome(id)}, expected ${expected}`);
      }
      if (p.core.state !== 'running') throw new Error(p.core.state);
    }),
    { numRuns: 500 },
  );
  t.pass();
});
