import test from 'ava';
import { createSystem, defineActor, silentLog } from 'troupe';
import { virtualPool } from './virtual-pool.js';

/** The pool has looked at what it was offered. */
const turn = (): Promise<void> => new Promise(setImmediate);

test('mailbox.maxWaitMs ends what waits for a replica, and neither what runs nor what has no deadline', async (t) => {
  const { pool, clock, next } = await virtualPool({ batching: { maxSize: 1 }, mailbox: { maxWaitMs: 20 } });
  const first = pool.ask('runs');
  const running = await next();
  const second = t.throwsAsync(pool.ask('waits'), {
    code: 'DEADLINE_PASSED',
    message: 'No replica took the record within 20 ms: mailbox.maxWaitMs passed',
  });
  let endless: unknown;
  const sender = pool.openSender('stream');
  const submission = { input: 'of a stream', sender, priority: 0, deadlineAt: Infinity };
  pool.offer({ ...submission, settled: (outcome) => (endless = outcome) });
  await turn();
  clock.advance(25);
  await second;
  t.is(endless, undefined);
  clock.advance(1000);
  running.answer(['done']);
  t.is(await first, 'done');
  const last = await next();
  t.deepEqual(last.records, ['of a stream']);
  last.answer(['too']);
  await pool.stop();
  t.like(endless, { ok: true, value: 'too' });
});

test('what is held back for company goes when half of the time that it may wait has passed', async (t) => {
  const batching = { maxSize: 8, maxDelayMs: 600_000 };
  const { pool, clock, next } = await virtualPool({ batching, mailbox: { maxWaitMs: 4000 } });
  const asked = pool.ask('alone');
  await turn();
  clock.advance(2000);
  const batch = await next();
  batch.answer(['sent']);
  t.is(await asked, 'sent');
  await pool.stop();
});

test('levels of priority are given together, and the default is one of them', async (t) => {
  await using system = createSystem({ log: silentLog });
  const actor = defineActor<string, string, void>({ predict: (batch: string[]) => batch });
  const spawn = (mailbox: object): Promise<unknown> => system.spawn('p', { actor, mailbox });
  const message = /mailbox.defaultPriorityLevel.* must be given together with priorityLevels, and be one of these/s;
  for (const mailbox of [
    { priorityLevels: 2 },
    { defaultPriorityLevel: 1 },
    { priorityLevels: 2, defaultPriorityLevel: 3 },
  ])
    await t.throwsAsync(spawn(mailbox), { instanceOf: TypeError, message });
  for (const mailbox of [
    { maxWaitMs: 0 },
    { maxWaitMs: '1' },
    { priorityLevels: 0, defaultPriorityLevel: 1 },
    { priorityLevels: 65_537 },
  ])
    await t.throwsAsync(spawn(mailbox), { instanceOf: TypeError, message: /mailbox\.(maxWaitMs|priorityLevels)/ });
});
