import test, { type ExecutionContext } from 'ava';
import { deferred } from '../../src/kernel/deferred.js';
import { doublerAfter, pairs, stand } from './oip-stand.js';

/** In which order requests run that come with these priorities, in this order, while a replica is busy. */
async function orderOf(
  t: ExecutionContext,
  mailbox: object,
  priorities: readonly (number | undefined)[],
): Promise<readonly number[]> {
  const { system, post } = await stand(t);
  const [entered, gate] = [deferred<void>(), deferred<void>()];
  const order: number[] = [];
  const actor = doublerAfter(async ([first = 0]) => {
    order.push(first);
    entered.resolve();
    await gate.promise;
  });
  const pool = await system.spawn('double', { actor, batching: { maxSize: 1 }, mailbox: { ageingMs: 0, ...mailbox } });
  const answers = [post('/v2/models/double/infer', pairs([0, 0]))];
  await entered.promise;
  for (const [index, priority] of priorities.entries()) {
    const parameters = priority === undefined ? {} : { priority };
    let isAnswered = false;
    const answer = post('/v2/models/double/infer', { ...pairs([index + 1, 0]), parameters });
    answers.push(answer.finally(() => (isAnswered = true)));
    while (pool.stats().mailbox.held <= index && !isAnswered) await new Promise(setImmediate);
  }
  gate.resolve();
  for (const { status } of await Promise.all(answers)) t.is(status, 200);
  return order.slice(1);
}

test('without levels 1 is the highest priority, every number is one, and none is below them', async (t) => {
  t.deepEqual(await orderOf(t, {}, [undefined, 9, 1, 0]), [3, 2, 1, 4]);
});

test('with levels, what names none or one that there is not has the default level', async (t) => {
  const mailbox = { priorityLevels: 3, defaultPriorityLevel: 2 };
  t.deepEqual(await orderOf(t, mailbox, [3, undefined, 9, 1, 2, 0]), [4, 2, 3, 5, 6, 1]);
});
