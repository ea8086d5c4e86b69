import { setImmediate as turn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import {
  createSystem,
  defineActor,
  isTroupeError,
  type Isolation,
  type Pool,
  type PoolOptions,
  silentLog,
} from 'troupe';
import type { Seen, Talk } from '../fixtures/actors/talker.js';
import { openAiStand } from '../serve/openai-stand.js';

const TALKER = new URL('../fixtures/actors/talker.js', import.meta.url).href;
const ALL: readonly Isolation[] = ['inline', 'thread', 'process'];

type Talker = Pool<Talk, AsyncIterable<string>>;

async function talker(
  t: ExecutionContext,
  isolation: Isolation,
  options: Partial<PoolOptions> = {},
): Promise<{ pool: Talker; stop: () => Promise<void> }> {
  t.timeout(120_000);
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const pool = await system.spawn<Talk, AsyncIterable<string>>('talker', { actor: TALKER, isolation, ...options });
  return { pool, stop: async () => void (await system.stop()) };
}

/** When it is so: what happens on the other side is told by nothing else. */
async function seenWhen(pool: Talker, is: (seen: Seen) => boolean): Promise<Seen> {
  for (;;) {
    const seen = (await pool.call('seen')) as Seen;
    if (is(seen)) return seen;
    await turn();
  }
}

async function textOf(stream: AsyncIterable<string>): Promise<string[]> {
  const pieces: string[] = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

const each = (count: number): string[] => Array.from({ length: count }, (_, n) => `piece ${n}`);

for (const isolation of ALL) {
  test(`the pieces of an output that is an async iterable come in order, from ${isolation} too`, async (t) => {
    const { pool } = await talker(t, isolation);
    const streams = await Promise.all([100, 0, 3].map((count) => pool.ask({ count })));
    const texts = await Promise.all(streams.map(textOf));
    t.deepEqual(texts, [each(100), [], each(3)]);
    t.is((await pool.ask({ count: -1 })) as unknown, 'whole', 'one batch may have both');
    const { begun, over } = await seenWhen(pool, (seen) => seen.over === 3);
    t.deepEqual([begun, over], [3, 3]);
  });

  test(`an actor in ${isolation} makes no more pieces than are read`, async (t) => {
    const { pool } = await talker(t, isolation);
    const stream = (await pool.ask({ count: 100_000 }))[Symbol.asyncIterator]();
    await stream.next();
    const { made } = await seenWhen(pool, (seen) => seen.made >= 16);
    await turn();
    t.true(made <= 18, `${made} made`);
    t.true(((await pool.call('seen')) as Seen).made <= 18);
    await stream.return?.();
    await seenWhen(pool, (seen) => seen.over === 1);
  });

  test(`leaving the loop ends the generator in ${isolation}, and its signal wakes one that waits`, async (t) => {
    const { pool } = await talker(t, isolation);
    for await (const piece of await pool.ask({ count: 2, after: 'wait' })) if (piece === 'piece 1') break;
    const { aborted } = await seenWhen(pool, (seen) => seen.over === 1);
    t.is(aborted, 1);
    t.deepEqual(await textOf(await pool.ask({ count: 1 })), each(1), 'the replica goes on');
  });

  test(`what a generator in ${isolation} throws comes after its pieces, as PREDICT_FAILED`, async (t) => {
    const { pool } = await talker(t, isolation);
    const stream = (await pool.ask({ count: 2, after: 'throw' }))[Symbol.asyncIterator]();
    t.deepEqual([(await stream.next()).value, (await stream.next()).value], each(2));
    const error = await t.throwsAsync(Promise.resolve(stream.next()), { code: 'PREDICT_FAILED' });
    t.true(error?.message.includes('out of words'));
  });
}

for (const isolation of ['thread', 'process'] as const) {
  test(`a replica in ${isolation} is restarted when a generator that was given up does not end`, async (t) => {
    const { pool } = await talker(t, isolation, { batchTimeoutMs: 3000, batching: { maxSize: 1, maxStreams: 1 } });
    const stream = (await pool.ask({ count: 1, after: 'deaf' }))[Symbol.asyncIterator]();
    await stream.next();
    await t.throwsAsync(Promise.resolve(stream.next()), { code: 'DEADLINE_PASSED' });
    t.deepEqual(await textOf(await pool.ask({ count: 1 }, { timeoutMs: 60_000 })), each(1));
    t.is(((await pool.call('seen')) as Seen).begun, 1, 'it is another one');
  });

  test(`the end of a replica in ${isolation} ends its streams with an error that says it was interrupted`, async (t) => {
    const { pool } = await talker(t, isolation);
    const stream = await pool.ask({ count: 3, after: 'exit' });
    const error = await t.throwsAsync(textOf(stream), { code: 'ACTOR_CRASHED' });
    t.true(isTroupeError(error) && error.ran === 'interrupted');
    t.deepEqual(await textOf(await pool.ask({ count: 1 })), each(1), 'the next replica answers');
  });

  test(`a piece that cannot leave ${isolation} ends its stream with the reason`, async (t) => {
    const { pool } = await talker(t, isolation);
    await t.throwsAsync(textOf(await pool.ask({ count: 1, after: 'odd' })), {
      code: 'PREDICT_FAILED',
      message: /piece of this stream cannot be sent/,
    });
    await seenWhen(pool, (seen) => seen.over === 1);
  });
}

test('a replica takes further records beside its streams, up to maxStreams', async (t) => {
  const { pool } = await talker(t, 'inline', { batching: { maxSize: 1, maxStreams: 2 } });
  const first = await pool.ask({ count: 1, after: 'wait' });
  const second = await pool.ask({ count: 1, after: 'wait' });
  let third: AsyncIterable<string> | undefined;
  const asked = pool.ask({ count: 1 }).then((stream) => (third = stream));
  await turn();
  await turn();
  t.is(third, undefined);
  await first[Symbol.asyncIterator]().return?.();
  await asked;
  t.deepEqual(await textOf(third as unknown as AsyncIterable<string>), each(1));
  await second[Symbol.asyncIterator]().return?.();
});

test('the stream of a record that was given up meanwhile is given up too', async (t) => {
  const { pool } = await talker(t, 'inline');
  const gone = new AbortController();
  const asked = pool.ask({ count: 5 }, { signal: gone.signal });
  gone.abort();
  await t.throwsAsync(asked, { code: 'CANCELLED' });
  t.deepEqual(await textOf(await pool.ask({ count: 1 })), each(1));
  t.is((await seenWhen(pool, (seen) => seen.over === 1)).made, 1, 'nobody made the pieces of the other');
});

test('the stream of a record that was told is given up at once, for nobody reads it', async (t) => {
  const { pool } = await talker(t, 'inline', { batching: { maxSize: 1, maxStreams: 1 } });
  pool.tell({ count: 5 });
  t.deepEqual(await textOf(await pool.ask({ count: 1 }, { timeoutMs: 10_000 })), each(1));
});

test('a pool that stops waits for running streams, and so does a swap', async (t) => {
  const { pool, stop } = await talker(t, 'inline');
  const stream = await pool.ask({ count: 2 });
  const stopping = stop();
  t.deepEqual(await textOf(stream), each(2));
  await stopping;

  const { pool: other } = await talker(t, 'inline', { version: '1' });
  const old = await other.ask({ count: 2 });
  const swapping = other.swap('2');
  t.deepEqual(await textOf(await other.ask({ count: 1 })), each(1));
  t.deepEqual(await textOf(old), each(2));
  await swapping;
  t.is(other.version, '2');
});

test('a stop without time cuts a stream off with an error, never as if it were whole', async (t) => {
  const { pool } = await talker(t, 'inline');
  const stream = (await pool.ask({ count: 1, after: 'wait' }))[Symbol.asyncIterator]();
  await stream.next();
  const next = Promise.resolve(stream.next());
  const cut = t.throwsAsync(next);
  await pool.stop({ timeoutMs: 0 });
  const error = await cut;
  t.true(isTroupeError(error) && error.ran === 'interrupted', String(error));
});

test("a stream goes on for longer than the server's time for an answer, as long as pieces come", async (t) => {
  t.timeout(240_000);
  const { system, client } = await openAiStand(t, { timeoutMs: 6000 });
  async function* slowly(): AsyncGenerator<string> {
    for (let n = 0; n < 4; n++) {
      yield `${n}`;
      await new Promise((resolve) => setTimeout(resolve, 2000));
    }
  }
  await system.spawn('slowly', {
    actor: defineActor({ kinds: ['chat'], predict: (batch: unknown[]) => batch.map(slowly) }),
  });
  let text = '';
  for await (const chunk of await client.chat.completions.create({
    model: 'slowly',
    messages: [{ role: 'user', content: 'x' }],
    stream: true,
  }))
    text += chunk.choices[0]?.delta.content ?? '';
  t.is(text, '0123');
});
