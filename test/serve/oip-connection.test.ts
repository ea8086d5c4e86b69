import test from 'ava';
import { connect, type Outcome, type TensorRecord } from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import { doubler, heldDoubler, stand } from './oip-stand.js';

/** What a pool behind the Open Inference Protocol hands on to the pool of this process that stands for it. */

const x = (...values: number[]): TensorRecord => ({ x: Float32Array.from(values) });

test('the time of one call bounds a record that is offered to a pool behind the protocol', async (t) => {
  const { actor, letGo } = heldDoubler();
  const { system, serving } = await stand(t);
  t.teardown(letGo);
  await system.spawn('double', { actor });
  const connection = connect(serving.addresses[0]?.url as string);
  t.teardown(() => connection.close());
  const pool = connection.pool<TensorRecord, TensorRecord>('double');
  const settled = deferred<Outcome<TensorRecord>>();
  const terms = { sender: pool.openSender('test'), priority: 0, deadlineAt: Infinity, callTimeoutMs: 50 };
  t.truthy(pool.offer({ input: x(1, 1), ...terms, settled: settled.resolve }));
  const outcome = await settled.promise;
  letGo();
  t.like(outcome, { ok: false, error: { code: 'DEADLINE_PASSED', ran: 'interrupted' } });
  t.regex(outcome.ok ? '' : outcome.error.message, /within 50 ms/);
});

test('who has closed its sender is not called when there is room behind the protocol', async (t) => {
  const { system, serving } = await stand(t);
  await system.spawn('double', { actor: doubler });
  const connection = connect(serving.addresses[0]?.url as string);
  t.teardown(() => connection.close());
  const pool = connection.pool<TensorRecord, TensorRecord>('double');
  await pool.ask(x(1, 1));
  const [gone, there] = [pool.openSender('gone'), pool.openSender('there')];
  const outcomes: Promise<Outcome<TensorRecord>>[] = [];
  for (;;) {
    const settled = deferred<Outcome<TensorRecord>>();
    const terms = { sender: there, priority: 0, deadlineAt: Infinity, settled: settled.resolve };
    if (pool.offer({ input: x(outcomes.length, 0), ...terms }) === undefined) break;
    outcomes.push(settled.promise);
  }
  const called: string[] = [];
  const room = deferred<void>();
  pool.onRoom(gone, () => called.push('gone'));
  pool.onRoom(there, () => {
    called.push('there');
    room.resolve();
  });
  pool.closeSender(gone);
  await room.promise;
  for (const outcome of await Promise.all(outcomes)) t.true(outcome.ok);
  t.deepEqual(called, ['there']);
});
