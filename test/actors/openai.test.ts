import test, { type ExecutionContext } from 'ava';
import OpenAI from 'openai';
import {
  createSystem,
  fromIterable,
  isTroupeError,
  type Pool,
  silentLog,
  type SpawnOptions,
  stream,
  toArray,
  type TroupeError,
} from 'troupe';
import openai from '../../actors/openai.js';
import { openAiStand, TOKEN } from '../serve/openai-stand.js';
import { begun, rawServer, reply } from '../serve/raw-server.js';

/** The actor `openai` in a pool: before our own routes, and before servers that misbehave. */

type Given = Omit<SpawnOptions, 'actor'> & { readonly options?: Record<string, unknown> };
type Asked = Pool<unknown, unknown>;

async function openAiPool(t: ExecutionContext, url: string, { options, ...given }: Given = {}): Promise<Asked> {
  t.timeout(60_000);
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const own = { baseURL: `${url.replace(/\/$/, '')}/v1`, apiKey: TOKEN, model: 'echo', ...options };
  return system.spawn('remote', { actor: 'openai', ...given, options: own });
}

async function failure(t: ExecutionContext, run: Promise<unknown>): Promise<TroupeError> {
  const error = await t.throwsAsync(run);
  if (!isTroupeError(error)) throw error ?? new Error('nothing was thrown');
  return error;
}

const json = (body: unknown, status = 200, ...headers: string[]): Buffer =>
  reply(status, JSON.stringify(body), ['content-type: application/json', ...headers]);

const chat = (content: string, more: object = {}): object => ({
  kind: 'chat',
  messages: [{ role: 'user', content }],
  ...more,
});

async function textOf(answer: unknown): Promise<string> {
  let text = '';
  for await (const piece of answer as AsyncIterable<{ text?: string }>) text += piece.text ?? '';
  return text;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('the records of an embeddings batch are one call, plain texts and tokens too', async (t) => {
  const { serving, embed } = await openAiStand(t);
  const pool = await openAiPool(t, serving.addresses[0]?.url ?? '', {
    options: { model: 'embed', kind: 'embeddings' },
  });
  const outcomes = await pool.askMany(['hello', 'ab', { input: 'x' }, { kind: 'embeddings', input: [1, 2, 3] }]);
  t.deepEqual(
    outcomes.map((one) => one.ok && one.value),
    [
      [5, 52],
      [2, 48.5],
      [1, 60],
      [3, Math.fround(0.1)],
    ],
  );
  t.is(embed.records.length, 4);
  t.true(embed.batches.length <= 2, `${embed.batches.length} calls: one of texts, one of tokens`);
});

test('a chat is answered whole, with what the options say and the record does not', async (t) => {
  const { serving, chat: seen } = await openAiStand(t);
  const options = { system: 'be brief', maxTokens: 9, temperature: 0.5 };
  const pool = await openAiPool(t, serving.addresses[0]?.url ?? '', { options });
  t.deepEqual(await pool.ask('how are you'), {
    text: 'how are you',
    finishReason: 'stop',
    usage: { promptTokens: 4, completionTokens: 3 },
  });
  await pool.ask(chat('again', { maxTokens: 2, stop: ['X'], seed: 1, more: { tools: [] } }));
  t.like(await pool.ask({ kind: 'completions', prompt: 'a b' }), { text: 'a b', finishReason: 'stop' });
  t.deepEqual(seen.records, [
    {
      kind: 'chat',
      messages: [
        { role: 'system', content: 'be brief' },
        { role: 'user', content: 'how are you' },
      ],
      maxTokens: 9,
      temperature: 0.5,
    },
    {
      kind: 'chat',
      messages: [
        { role: 'system', content: 'be brief' },
        { role: 'user', content: 'again' },
      ],
      maxTokens: 2,
      temperature: 0.5,
      seed: 1,
      stop: ['X'],
      more: { tools: [] },
    },
    { kind: 'completions', prompt: 'a b', maxTokens: 9, temperature: 0.5 },
  ]);
});

test('a text that is wanted as a stream comes through piece by piece, with its end and its usage', async (t) => {
  const { serving } = await openAiStand(t);
  const pool = await openAiPool(t, serving.addresses[0]?.url ?? '');
  for (const record of [
    chat('one two three', { stream: true }),
    { kind: 'completions', prompt: 'one two three', stream: true },
  ]) {
    const pieces: unknown[] = [];
    for await (const piece of (await pool.ask(record)) as AsyncIterable<unknown>) pieces.push(piece);
    t.deepEqual(pieces.slice(0, 3), [{ text: 'one' }, { text: ' two' }, { text: ' three' }]);
    t.like(pieces.slice(3), [{ finishReason: 'length' }, { usage: { promptTokens: 4, completionTokens: 3 } }]);
  }
});

test('a stream that is left ends at the server too, at once', async (t) => {
  const { serving, chat: seen } = await openAiStand(t);
  const pool = await openAiPool(t, serving.addresses[0]?.url ?? '');
  for await (const piece of (await pool.ask(chat('one HANG', { stream: true }))) as AsyncIterable<unknown>)
    if (piece !== undefined) break;
  while (seen.left === 0) await turn();
  t.is(seen.left, 1);
});

test('texts that stream do not keep others waiting: they join as there is room', async (t) => {
  const { serving, chat: seen } = await openAiStand(t);
  const pool = await openAiPool(t, serving.addresses[0]?.url ?? '', { batching: { maxSize: 1 } });
  const slow = await Promise.all([1, 2, 3].map(() => pool.ask(chat('one HANG', { stream: true }))));
  t.is(await textOf(await pool.ask(chat('quick', { stream: true }))), 'quick');
  for (const one of slow) await (one as AsyncIterableIterator<unknown>).return?.();
  while (seen.left < 3) await turn();
  t.is(seen.left, 3);
});

test('a pool of the actor is served to clients of OpenAI as if it were the model itself', async (t) => {
  const behind = await openAiStand(t);
  const front = await openAiStand(t);
  const baseURL = `${behind.serving.addresses[0]?.url}v1`;
  const options = { baseURL, apiKey: TOKEN, model: 'echo' };
  await front.system.spawn('proxy', { actor: 'openai', options });
  await front.system.spawn('vectors', { actor: 'openai', options: { ...options, model: 'embed' } });
  const messages = [{ role: 'user' as const, content: 'through two servers' }];
  const whole = await front.client.chat.completions.create({ model: 'proxy', messages });
  t.like(whole, { choices: [{ message: { content: 'through two servers' } }], usage: { total_tokens: 7 } });
  const streamed = front.client.chat.completions.stream({ model: 'proxy', messages });
  t.is((await streamed.finalChatCompletion()).choices[0]?.message.content, 'through two servers');
  const { data } = await front.client.embeddings.create({ model: 'vectors', input: ['ab', 'abc'] });
  t.deepEqual(
    data.map(({ embedding }) => embedding[0]),
    [2, 3],
  );
  const bad = await t.throwsAsync(
    front.client.chat.completions.create({ model: 'proxy', messages: [{ role: 'user', content: 'BAD' }] }),
  );
  t.true(bad instanceof OpenAI.InternalServerError);
});

test('a pipeline asks it, tries again what was refused for a while, and counts what is final', async (t) => {
  const first = new Map([
    ['a', 429],
    ['b', 503],
  ]);
  const server = await rawServer(t, ({ body }) => {
    const { messages } = JSON.parse(body.toString()) as { messages: { content: string }[] };
    const content = messages[0]?.content ?? '';
    const status = content === 'c' ? 400 : first.get(content);
    first.delete(content);
    if (status !== undefined) return json({ error: { message: `said ${status}` } }, status, 'retry-after-ms: 5');
    return json({ choices: [{ message: { content: `re ${content}` }, finish_reason: 'stop' }] });
  });
  const pool = await openAiPool(t, server.url, { batching: { maxSize: 1 } });
  const out = toArray<string>();
  const dead = toArray<unknown>();
  const report = await stream(fromIterable(['a', 'b', 'c']))
    .infer(pool, {
      input: (text) => text,
      output: (_, answer) => (answer as { text: string }).text,
      retry: { attempts: 5, backoffMs: 1 },
      deadLetters: dead,
    })
    .to(out);
  t.deepEqual(out.values, ['re a', 're b']);
  t.like(report, { records: 3, results: 2, deadLetters: 1 });
  t.is(server.requests.length, 5, 'one more try of the first two, none of the last');
});

test('an answer that says no means for the records what its status means', async (t) => {
  const rows: [status: number, code: string, ran: string, retryable: boolean][] = [
    [400, 'INPUT_INVALID', 'not-started', false],
    [422, 'INPUT_INVALID', 'not-started', false],
    [401, 'REMOTE_REFUSED', 'not-started', false],
    [404, 'REMOTE_REFUSED', 'not-started', false],
    [429, 'REMOTE_UNAVAILABLE', 'not-started', true],
    [503, 'REMOTE_UNAVAILABLE', 'not-started', true],
    [502, 'REMOTE_UNAVAILABLE', 'interrupted', true],
    [500, 'REMOTE_FAILED', 'interrupted', true],
  ];
  let status = 0;
  const server = await rawServer(t, () => json({ error: { message: 'in its own words' } }, status, 'retry-after: 2'));
  const pool = await openAiPool(t, server.url);
  for (const kind of ['chat', 'embeddings', 'stream']) {
    for (const row of rows) {
      [status] = row;
      const record =
        kind === 'embeddings' ? { kind, input: 'x' } : chat('x', kind === 'stream' ? { stream: true } : {});
      const error = await failure(t, pool.ask(record));
      t.deepEqual([status, error.code, error.ran, error.retryable], row, kind);
      t.true(error.message.includes('in its own words'), error.message);
      if (status === 429 || status === 503) t.is(error.retryAfterMs, 2000);
      t.false(error.message.includes(TOKEN));
    }
  }
  t.is(server.requests.length, 3 * rows.length, 'nothing is tried again in here');
});

test('an input that the server refuses fails alone, whatever call it was in', async (t) => {
  const server = await rawServer(t, ({ body }) => {
    const { input } = JSON.parse(body.toString()) as { input: string[] };
    if (input.includes('bad')) return json({ error: { message: 'input is bad' } }, 400);
    return json({ data: input.map((text, index) => ({ index, embedding: [text.length] })).reverse() });
  });
  const pool = await openAiPool(t, server.url, { options: { kind: 'embeddings' } });
  const outcomes = await pool.askMany(['one', 'bad', 'three', 'seven']);
  t.deepEqual(
    outcomes.map((one) => (one.ok ? one.value : one.error.code)),
    [[3], 'INPUT_INVALID', [5], [5]],
  );
});

test('what fails the embeddings of a batch leaves the texts in it alone: each is asked for once', async (t) => {
  const chats: string[] = [];
  const server = await rawServer(t, ({ body }) => {
    const asked = JSON.parse(body.toString()) as { input?: string[]; messages?: { content: string }[] };
    const { input, messages = [] } = asked;
    if (input === undefined) {
      const content = messages[0]?.content ?? '';
      chats.push(content);
      return json({ choices: [{ message: { content: `re ${content}` }, finish_reason: 'stop' }] });
    }
    if (input.includes('bad')) return json({ error: { message: 'input is bad' } }, 400);
    if (input.includes('later')) return json({ error: { message: 'too many' } }, 429, 'retry-after: 2');
    return json({ data: input.map((text, index) => ({ index, embedding: [text.length] })) });
  });
  const pool = await openAiPool(t, server.url, { replicas: 1 });
  const vector = (input: string): object => ({ kind: 'embeddings', input });
  const told = async (...records: unknown[]): Promise<unknown[]> =>
    (await pool.askMany(records)).map((one) => (one.ok ? one.value : one.error.code));
  const said = (text: string): object => ({ text: `re ${text}`, finishReason: 'stop' });
  t.deepEqual(await told('a', vector('one'), vector('bad'), 'b', vector('three')), [
    said('a'),
    [3],
    'INPUT_INVALID',
    said('b'),
    [5],
  ]);
  t.deepEqual(await told('c', vector('later'), vector('one')), [said('c'), 'REMOTE_UNAVAILABLE', 'REMOTE_UNAVAILABLE']);
  t.deepEqual(chats.sort(), ['a', 'b', 'c']);
});

test('a server that is not there, sends elsewhere, or answers what is no answer is told as that', async (t) => {
  const gone = await openAiPool(t, 'http://127.0.0.1:9');
  t.like(await failure(t, gone.ask('x')), { code: 'REMOTE_UNAVAILABLE', ran: 'not-started' });
  const target = await rawServer(t, () => json({}));
  const sends = await rawServer(t, () => reply(307, '', [`location: ${target.url}/v1/chat/completions`]));
  t.is((await failure(t, (await openAiPool(t, sends.url)).ask('x'))).code, 'REMOTE_REFUSED');
  t.is(target.requests.length, 0, 'the token went nowhere else');
  const odd = await openAiPool(t, (await rawServer(t, () => json({ choices: 7, data: { a: 1 } }))).url);
  t.is((await failure(t, odd.ask('x'))).code, 'PROTOCOL_VIOLATION');
  t.is((await failure(t, odd.ask({ kind: 'embeddings', input: 'x' }))).code, 'PROTOCOL_VIOLATION');
  const unknown = await rawServer(t, () => reply(999));
  t.is((await failure(t, (await openAiPool(t, unknown.url)).ask('x'))).code, 'PROTOCOL_VIOLATION');
  const large = await rawServer(t, () => json({ choices: [{ message: { content: 'x'.repeat(5000) } }] }));
  const limited = await openAiPool(t, large.url, { options: { maxReplyBytes: 1000 } });
  t.is((await failure(t, limited.ask('x'))).code, 'PROTOCOL_VIOLATION');
  const cut = await rawServer(t, ({ socket }) => void socket.destroy());
  t.like(await failure(t, (await openAiPool(t, cut.url)).ask('x')), { code: 'REMOTE_UNAVAILABLE', ran: 'interrupted' });
  const silent = await rawServer(t, () => undefined);
  const late = await openAiPool(t, silent.url, { options: { timeoutMs: 50 } });
  const tooLate = await failure(t, late.ask('x'));
  t.like(tooLate, { code: 'REMOTE_UNAVAILABLE', ran: 'interrupted' });
  t.true(tooLate.message.includes('50 ms'));
  const host = await openAiPool(t, 'http://10.1.2.3');
  const guarded = await failure(t, host.ask('x'));
  t.is(guarded.code, 'REMOTE_REFUSED');
  t.regex(guarded.message, /10\.1\.2\.3 .* allow/);
});

test('a replica with a probe comes up only where the server takes the key and has the model', async (t) => {
  const { serving, chat: asked } = await openAiStand(t);
  const url = serving.addresses[0]?.url ?? '';
  const pool = await openAiPool(t, url, { options: { probe: true } });
  t.is(((await pool.ask(chat('hello'))) as { text: string }).text, 'hello');
  t.is(asked.records.length, 1);
  const fails = async (options: Record<string, unknown>, at = url): Promise<TroupeError> =>
    failure(t, openAiPool(t, at, { options: { probe: true, ...options } }));
  const key = await fails({ apiKey: 'another-key' });
  t.is(key.code, 'REMOTE_REFUSED');
  t.regex(key.message, /^Pool "remote": .*bearer token.*correct options\.baseURL, options\.apiKey/);
  const model = await fails({ model: 'other' });
  t.like(model, { code: 'MODEL_NOT_FOUND' });
  t.regex(model.message, /has no model "other"; correct options\.model/);
  t.like(await fails({}, 'http://127.0.0.1:9'), { code: 'REMOTE_UNAVAILABLE', ran: 'not-started' });
  // A server that tells nobody of its models is taken at its word.
  const mute = await rawServer(t, ({ head }) =>
    head.startsWith('GET') ? reply(404) : json({ choices: [{ message: { content: 'yes' }, finish_reason: 'stop' }] }),
  );
  t.is(
    ((await (await openAiPool(t, mute.url, { options: { probe: true } })).ask('x')) as { text: string }).text,
    'yes',
  );
});

test('a breaker of the pool opens when the server is away, for all who ask', async (t) => {
  const server = await rawServer(t, ({ socket }) => void socket.destroy());
  const pool = await openAiPool(t, server.url, { replicas: 4, breaker: { minCalls: 4, openMs: 60_000 } });
  await pool.askMany(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']);
  const asked = server.requests.length;
  await t.throwsAsync(pool.ask('x'), { code: 'BREAKER_OPEN' });
  t.is(server.requests.length, asked);
});

test('what is given up is told as that, and not as a server that is away', async (t) => {
  const piece = `data: ${JSON.stringify({ choices: [{ delta: { content: 'one' } }] })}\n\n`;
  const server = await rawServer(t, ({ body }) =>
    body.includes('"stream":true') ? `${begun('content-type: text/event-stream')}${piece}` : undefined,
  );
  const options = { baseURL: `${server.url}/v1`, model: 'm' };
  const never = new AbortController().signal;
  const state = await openai.load?.({ pool: 'remote', options, signal: never } as never);
  const asked = async (record: unknown) => {
    const batch = new AbortController();
    const answer = openai.predict([record] as never, { state, signal: batch.signal } as never);
    return { answer: Promise.resolve(answer) as Promise<unknown[]>, batch };
  };
  for (const record of [chat('x'), { kind: 'embeddings', input: 'x' }]) {
    const before = server.requests.length;
    const { answer, batch } = await asked(record);
    const ended = answer.then(
      ([output]) => output,
      (error: unknown) => error,
    );
    while (server.requests.length === before) await turn();
    batch.abort();
    t.like(await ended, { code: 'CANCELLED', retryable: false });
  }
  const { answer, batch } = await asked(chat('x', { stream: true }));
  const events = (await answer)[0] as AsyncIterableIterator<unknown>;
  t.deepEqual((await events.next()).value, { text: 'one' });
  batch.abort();
  t.is((await failure(t, events.next())).code, 'CANCELLED');
});

test('a text that is cut off is not taken for a whole one', async (t) => {
  const piece = (text: string): string => `data: ${JSON.stringify({ choices: [{ delta: { content: text } }] })}\n\n`;
  const head = begun('content-type: text/event-stream', 'connection: close');
  const ends: (() => string)[] = [
    () => `${head}${piece('one')}`,
    () => `${head}${piece('one')}data: [DONE]\n\n`,
    () => `${head}${piece('one')}data: {"error":{"message":"out of memory"}}\n\n`,
  ];
  for (const end of ends) {
    const server = await rawServer(t, ({ socket }) => {
      socket.end(end());
      return undefined;
    });
    const pool = await openAiPool(t, server.url);
    const events = ((await pool.ask(chat('x', { stream: true }))) as AsyncIterable<unknown>)[Symbol.asyncIterator]();
    t.deepEqual((await events.next()).value, { text: 'one' });
    const error = await failure(t, Promise.resolve(events.next()));
    t.like(error, { code: 'REMOTE_UNAVAILABLE', ran: 'interrupted' }, end());
  }
});

test('records and options that cannot be right are refused by their names', async (t) => {
  const pool = await openAiPool(t, 'http://127.0.0.1:9');
  const records = [
    7,
    null,
    { kind: 'image' },
    { kind: 'embeddings' },
    { kind: 'completions', prompt: 1 },
    { messages: [] },
  ];
  for (const record of records)
    t.is((await failure(t, pool.ask(record))).code, 'INPUT_INVALID', JSON.stringify(record));
  const wrong: [Record<string, unknown>, RegExp][] = [
    [{ model: '' }, /options\.model/],
    [{ baseURL: 'ftp://x' }, /options\.baseURL/],
    [{ baseURL: 'http://me:secret@host/v1' }, /options\.baseURL/],
    [{ apiKey: 'two words' }, /options\.apiKey/],
    [{ kind: 'image' }, /options\.kind/],
    [{ allow: 'all' }, /allow/],
    [{ ca: 7 }, /ca must be/],
    [{ ca: '/nowhere/ca.pem' }, /ca must be a file that can be read: .*nowhere/],
    [{ ca: import.meta.filename }, /ca must be a file with certificates/],
    [{ headers: { a: 1 } }, /options\.headers/],
    [{ timeoutMs: 0 }, /options\.timeoutMs/],
    [{ temperature: 3 }, /options\.temperature/],
    [{ probe: 'yes' }, /options\.probe/],
    [{ retries: 3 }, /no option retries/],
  ];
  for (const [options, words] of wrong) {
    const error = await failure(t, openAiPool(t, 'http://127.0.0.1:9', { options }));
    t.is(error.code, 'ACTOR_LOAD_FAILED');
    t.regex(error.message, words);
    t.false(error.message.includes('secret') || error.message.includes('two words'));
  }
});
