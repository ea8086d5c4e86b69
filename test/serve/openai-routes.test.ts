import { connect } from 'node:net';
import test from 'ava';
import OpenAI from 'openai';
import { defineActor } from 'troupe';
import { TextEvents } from '../../src/serve/openai-answer.js';
import { openAiStand, TOKEN } from './openai-stand.js';
import { send } from './oip-stand.js';

const user = (content: string): { role: 'user'; content: string }[] => [{ role: 'user', content }];
const auth = { authorization: `Bearer ${TOKEN}` };

test("embeddings come as base64, the client's default, and as numbers, and of tokens", async (t) => {
  const { client } = await openAiStand(t);
  const input = ['hello', 'ab'];
  const both = await client.embeddings.create({ model: 'embed', input });
  t.deepEqual(
    both.data.map(({ embedding, index, object }) => ({ embedding, index, object })),
    [
      { embedding: [5, 52], index: 0, object: 'embedding' },
      { embedding: [2, 48.5], index: 1, object: 'embedding' },
    ],
  );
  t.deepEqual([both.object, both.model, both.usage], ['list', 'embed', { prompt_tokens: 6, total_tokens: 6 }]);
  const floats = await client.embeddings.create({ model: 'embed', input: 'hello', encoding_format: 'float' });
  t.deepEqual(floats.data[0]?.embedding, [5, 52]);
  const tokens = await client.embeddings.create({ model: 'embed', input: [[1, 2, 3]], encoding_format: 'float' });
  t.deepEqual(tokens.data[0]?.embedding, [3, Math.fround(0.1)]);
  const one = await client.embeddings.create({
    model: 'embed',
    input: [1, 2],
    encoding_format: 'float',
    dimensions: 2,
  });
  t.deepEqual(one.data[0]?.embedding, [2, Math.fround(0.1)]);
});

test('the inputs of embedding requests are records that share batches', async (t) => {
  const { client, embed } = await openAiStand(t);
  const input = Array.from({ length: 32 }, (_, n) => `text ${n}`);
  await client.embeddings.create({ model: 'embed', input });
  t.is(embed.records.length, 32);
  t.true(embed.batches.length < 32, `${embed.batches.length} batches`);
  t.deepEqual(embed.records[7], { kind: 'embeddings', input: 'text 7' });
});

test('a chat is answered whole, with what it was made of', async (t) => {
  const { client, chat } = await openAiStand(t);
  const completion = await client.chat.completions.create({
    model: 'echo',
    messages: [{ role: 'system', content: 'be brief' }, ...user('how do you do')],
    max_completion_tokens: 9,
    temperature: 0.5,
    top_p: 0.9,
    stop: 'END',
    seed: 7,
    presence_penalty: 1,
    frequency_penalty: null,
    response_format: { type: 'json_object' },
  });
  t.regex(completion.id, /^chatcmpl-[0-9a-f]{32}$/);
  t.like(completion, {
    object: 'chat.completion',
    model: 'echo',
    usage: { prompt_tokens: 4, completion_tokens: 4, total_tokens: 8 },
  });
  t.true(Math.abs(completion.created - Date.now() / 1000) < 60);
  t.deepEqual(completion.choices as unknown, [
    {
      index: 0,
      message: { role: 'assistant', content: 'how do you do', refusal: null },
      logprobs: null,
      finish_reason: 'stop',
    },
  ]);
  t.deepEqual(chat.records[0], {
    kind: 'chat',
    messages: [{ role: 'system', content: 'be brief' }, ...user('how do you do')],
    maxTokens: 9,
    temperature: 0.5,
    topP: 0.9,
    seed: 7,
    presencePenalty: 1,
    stop: ['END'],
    more: { response_format: { type: 'json_object' } },
  });
});

test('a chat is streamed piece by piece, with its end and its usage', async (t) => {
  const { client } = await openAiStand(t);
  const stream = await client.chat.completions.create({
    model: 'echo',
    messages: user('one two three'),
    stream: true,
    stream_options: { include_usage: true },
  });
  const deltas: unknown[] = [];
  const ends: unknown[] = [];
  let usage: unknown;
  for await (const chunk of stream) {
    t.is(chunk.object, 'chat.completion.chunk');
    usage = chunk.usage ?? usage;
    for (const { delta, finish_reason: end } of chunk.choices) {
      deltas.push(delta);
      if (end !== null) ends.push(end);
    }
  }
  t.deepEqual(deltas, [
    { role: 'assistant', content: '' },
    { content: 'one' },
    { content: ' two' },
    { content: ' three' },
    {},
  ]);
  t.deepEqual(ends, ['length']);
  t.deepEqual(usage, { prompt_tokens: 4, completion_tokens: 3, total_tokens: 7 });
});

test("the client's own gatherer of streams puts a text together", async (t) => {
  const { client } = await openAiStand(t);
  const stream = client.chat.completions.stream({ model: 'echo', messages: user('a b c') });
  t.is((await stream.finalChatCompletion()).choices[0]?.message.content, 'a b c');
});

test('the events of a stream are data lines that end with [DONE]', async (t) => {
  const { post } = await openAiStand(t);
  const body = { model: 'echo', messages: user('hi'), stream: true };
  const { status, headers, text } = await post('/v1/chat/completions', body, auth);
  t.is(status, 200);
  t.is(headers['content-type'], 'text/event-stream; charset=utf-8');
  const events = text.split('\n\n');
  t.is(events.at(-1), '');
  t.is(events.at(-2), 'data: [DONE]');
  t.true(events.slice(0, -1).every((event) => event.startsWith('data: ')));
  t.false(text.includes('usage'), 'which was not asked for');
});

test('an actor may answer whole what was to be streamed, and with a stream what was not', async (t) => {
  const { client } = await openAiStand(t);
  const texts: string[] = [];
  const stream = await client.chat.completions.create({ model: 'echo', messages: user('TEXT'), stream: true });
  for await (const chunk of stream) texts.push(chunk.choices[0]?.delta.content ?? '');
  t.deepEqual(texts, ['', 'plain text', '']);
  const whole = await client.chat.completions.create({ model: 'echo', messages: user('STREAM of words') });
  t.is(whole.choices[0]?.message.content, 'STREAM of words');
  t.is(whole.choices[0]?.finish_reason, 'length');
  t.is(whole.usage?.completion_tokens, 3);
});

test('calls of tools go through as they are, streamed ones with their places', async (t) => {
  const { client } = await openAiStand(t);
  const whole = await client.chat.completions.create({ model: 'echo', messages: user('TOOLS') });
  t.like(whole.choices[0], { finish_reason: 'tool_calls', message: { content: null, tool_calls: [{ id: 'c1' }] } });
  const stream = await client.chat.completions.create({ model: 'echo', messages: user('TOOLS'), stream: true });
  const calls = [];
  for await (const chunk of stream) calls.push(...(chunk.choices[0]?.delta.tool_calls ?? []));
  t.deepEqual(calls, [{ index: 0, id: 'c1', type: 'function', function: { name: 'f', arguments: '{}' } }]);
  const events = new TextEvents('chat', { id: 'a', created: 0, model: 'm', version: undefined }, false);
  const sent = (toolCalls: readonly unknown[]): unknown => events.piece({ toolCalls });
  t.like(sent([{ id: 'a' }, { id: 'b' }]), [{ choices: [{ delta: { tool_calls: [{ index: 0 }, { index: 1 }] } }] }]);
  t.like(sent([{ id: 'c' }, null]), [{ choices: [{ delta: { tool_calls: [{ index: 2 }, null] } }] }]);
  t.like(sent([{ index: 7 }]), [{ choices: [{ delta: { tool_calls: [{ index: 7 }] } }] }]);
});

test('calls of tools that an actor gives in pieces are whole in an answer that is', async (t) => {
  const { client } = await openAiStand(t);
  const { choices } = await client.chat.completions.create({ model: 'echo', messages: user('CALLS') });
  t.is(choices[0]?.finish_reason, 'tool_calls');
  t.deepEqual(choices[0]?.message.tool_calls as unknown, [
    { id: 'c0', type: 'function', function: { name: 'f', arguments: '{"x":1}' } },
    { id: 'c1', type: 'custom', custom: { name: 'g', input: 'ab' } },
    { id: 'c2', type: 'function', function: {} },
  ]);
});

test('completions are answered one choice for each prompt, and streamed one at a time', async (t) => {
  const { client, chat } = await openAiStand(t);
  const { choices, usage, object } = await client.completions.create({
    model: 'echo',
    prompt: ['a b', 'c'],
    user: 'u',
  });
  t.is(object, 'text_completion');
  t.deepEqual(
    choices.map(({ index, text, finish_reason: end }) => ({ index, text, end })),
    [
      { index: 0, text: 'a b', end: 'stop' },
      { index: 1, text: 'c', end: 'stop' },
    ],
  );
  t.like(usage, { prompt_tokens: 8, completion_tokens: 3 });
  t.deepEqual(chat.records[0], { kind: 'completions', prompt: 'a b' });
  let text = '';
  for await (const chunk of await client.completions.create({ model: 'echo', prompt: 'x y', stream: true }))
    text += chunk.choices[0]?.text ?? '';
  t.is(text, 'x y');
  await t.throwsAsync(client.completions.create({ model: 'echo', prompt: ['a', 'b'], stream: true }), {
    instanceOf: OpenAI.BadRequestError,
  });
});

test('models are those whose actor declares a kind', async (t) => {
  const { client, system } = await openAiStand(t);
  await system.spawn('plain', { actor: defineActor({ predict: (batch: string[]) => batch }) });
  const models = [];
  for await (const model of client.models.list()) models.push(model);
  t.deepEqual(models.map(({ id }) => id).sort(), ['echo', 'embed']);
  t.like(await client.models.retrieve('echo'), { id: 'echo', object: 'model', owned_by: 'troupe' });
  await t.throwsAsync(client.models.retrieve('plain'), { instanceOf: OpenAI.NotFoundError });
  await t.throwsAsync(client.embeddings.create({ model: 'plain', input: 'x' }), { instanceOf: OpenAI.NotFoundError });
});

test("errors have OpenAI's shape and the status that clients go by", async (t) => {
  const { client, post, get } = await openAiStand(t);
  const bad = new OpenAI({ baseURL: client.baseURL, apiKey: 'not-the-token-at-all', maxRetries: 0 });
  const unauthorized = await t.throwsAsync(bad.models.list(), { instanceOf: OpenAI.AuthenticationError });
  t.like(unauthorized, { status: 401, code: 'invalid_api_key', type: 'invalid_request_error' });
  const missing = await t.throwsAsync(client.embeddings.create({ model: 'nobody', input: 'x' }));
  t.like(missing, { status: 404, code: 'model_not_found', param: 'model', type: 'invalid_request_error' });
  const slashes = await t.throwsAsync(client.embeddings.create({ model: 'org/../model', input: 'x' }));
  t.like(slashes, { status: 404, code: 'model_not_found' });
  const other = await t.throwsAsync(client.embeddings.create({ model: 'echo', input: 'x' }));
  t.like(other, { status: 400, param: 'model' });
  t.true(other?.message.includes('answers chat and completions'));
  const failed = await t.throwsAsync(client.chat.completions.create({ model: 'echo', messages: user('BAD') }));
  t.like(failed, { status: 500, code: 'predict_failed', type: 'server_error' });
  const odd = await t.throwsAsync(client.chat.completions.create({ model: 'echo', messages: user('ODD') }));
  t.like(odd, { status: 500, code: 'protocol_violation' });
  const unknown = await get('/v1/nothing', auth);
  t.is(unknown.status, 404);
  t.is(unknown.json.error.type, 'invalid_request_error');
  t.is((await get('/v1/chat/completions', auth)).status, 405);
  t.is((await post('/v1/chat/completions', '{"model":', auth)).json.error.type, 'invalid_request_error');
});

test('every field that cannot be right is refused by its name', async (t) => {
  const { post } = await openAiStand(t, { maxRecords: 3 });
  const chat = { model: 'echo', messages: user('x') };
  const wide = Object.fromEntries(Array.from({ length: 256 }, (_, n) => [`p${n}`, null]));
  const wrong: [path: string, body: object, param: string | null][] = [
    ['embeddings', { input: 'x' }, 'model'],
    ['embeddings', { model: 'embed' }, 'input'],
    ['embeddings', { model: 'embed', input: [] }, 'input'],
    ['embeddings', { model: 'embed', input: ['a', 1] }, 'input[1]'],
    ['embeddings', { model: 'embed', input: [1.5] }, 'input'],
    ['embeddings', { model: 'embed', input: [[-1]] }, 'input[0]'],
    ['embeddings', { model: 'embed', input: ['1', '2', '3', '4'] }, 'input'],
    ['embeddings', { model: 'embed', input: 'x', encoding_format: 'hex' }, 'encoding_format'],
    ['embeddings', { model: 'embed', input: 'x', dimensions: 0 }, 'dimensions'],
    ['completions', { model: 'echo' }, 'prompt'],
    ['completions', { model: 'echo', prompt: 'x', best_of: 2 }, 'best_of'],
    ['chat/completions', { model: 'echo' }, 'messages'],
    ['chat/completions', { ...chat, messages: [] }, 'messages'],
    ['chat/completions', { ...chat, messages: ['hi'] }, 'messages[0]'],
    ['chat/completions', { ...chat, messages: [{ content: 'hi' }] }, 'messages[0].role'],
    ['chat/completions', { ...chat, messages: [{ role: 'user', content: 7 }] }, 'messages[0].content'],
    ['chat/completions', { ...chat, stream: 'yes' }, 'stream'],
    ['chat/completions', { ...chat, stream_options: 1 }, 'stream_options'],
    ['chat/completions', { ...chat, n: 2 }, 'n'],
    ['chat/completions', { ...chat, max_tokens: 1.5 }, 'max_tokens'],
    ['chat/completions', { ...chat, temperature: 3 }, 'temperature'],
    ['chat/completions', { ...chat, top_p: '1' }, 'top_p'],
    ['chat/completions', { ...chat, stop: [1] }, 'stop'],
    ['chat/completions', [], null],
    ['embeddings', { model: 'embed', input: 'x', ...wide }, null],
    ['completions', { model: 'echo', prompt: 'x', ...wide }, null],
    ['chat/completions', { ...chat, ...wide }, null],
  ];
  for (const [path, body, param] of wrong) {
    const { status, json } = await post(`/v1/${path}`, body, auth);
    t.deepEqual(
      [status, json.error.param, json.error.type],
      [400, param, 'invalid_request_error'],
      JSON.stringify(body),
    );
  }
});

test('a stream that fails before its first piece has a status, and later an event in the place of [DONE]', async (t) => {
  const { client, post } = await openAiStand(t);
  const early = await t.throwsAsync(
    client.chat.completions.create({ model: 'echo', messages: user('FAIL'), stream: true }),
  );
  t.like(early, { status: 500, code: 'predict_failed' });
  const body = { model: 'echo', messages: user('one FAIL two'), stream: true };
  const { status, text } = await post('/v1/chat/completions', body, auth);
  t.is(status, 200);
  const last = text.trim().split('\n\n').at(-1) ?? '';
  t.like(JSON.parse(last.slice('data: '.length)), { error: { code: 'predict_failed', type: 'server_error' } });
  const stream = await client.chat.completions.create({ model: 'echo', messages: user('one FAIL two'), stream: true });
  const read = async (): Promise<void> => {
    for await (const chunk of stream) t.truthy(chunk.id);
  };
  await t.throwsAsync(read(), { instanceOf: OpenAI.APIError });
});

test('a client that goes away ends the stream it was reading', async (t) => {
  const { client, chat, system } = await openAiStand(t);
  const stream = await client.chat.completions.create({ model: 'echo', messages: user('one HANG'), stream: true });
  for await (const chunk of stream) if (chunk.choices[0]?.delta.content === 'one') break;
  while (chat.left === 0) await new Promise((resolve) => setImmediate(resolve));
  t.is(chat.left, 1);
  while (!system.metrics().includes('outcome="gone"} 1')) await new Promise((resolve) => setImmediate(resolve));
  const { choices } = await client.chat.completions.create({ model: 'echo', messages: user('still there') });
  t.is(choices[0]?.message.content, 'still there');
});

test('a text that is not whole by the deadline is answered with 504, and its stream ended', async (t) => {
  const { client, chat } = await openAiStand(t, { timeoutMs: 1000 });
  const late = await t.throwsAsync(client.chat.completions.create({ model: 'echo', messages: user('STREAM HANG') }));
  t.like(late, { status: 504, code: 'deadline_passed' });
  const begun = await t.throwsAsync(
    client.chat.completions.create({ model: 'echo', messages: user('HANG'), stream: true }),
  );
  t.like(begun, { status: 504 });
  while (chat.left < 2) await new Promise((resolve) => setImmediate(resolve));
});

test('a full mailbox answers 503 with Retry-After, which the client takes for one to try again', async (t) => {
  const { system, client, post } = await openAiStand(t);
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => (release = resolve));
  await system.spawn('slow', {
    actor: defineActor({
      kinds: ['embeddings'],
      predict: async (batch: unknown[]) => {
        await gate;
        return batch.map(() => [1]);
      },
    }),
    mailbox: { capacity: 1 },
    batching: { maxSize: 1 },
  });
  const ask = (): Promise<unknown> => client.embeddings.create({ model: 'slow', input: 'x' });
  const held = [ask()];
  const slow = system.get('slow');
  while (slow?.inFlightBatches !== 1) await new Promise((resolve) => setImmediate(resolve));
  held.push(ask());
  while (slow.stats().mailbox.held !== 1) await new Promise((resolve) => setImmediate(resolve));
  const { status, headers, json } = await post('/v1/embeddings', { model: 'slow', input: 'x' }, auth);
  t.deepEqual([status, headers['retry-after'], json.error.code], [503, '1', 'mailbox_full']);
  release();
  await Promise.all(held);
});

test('a body beyond the limit, of deep JSON or of no text is refused in the same form', async (t) => {
  const { post } = await openAiStand(t, { maxBodyBytes: 1000 });
  const large = await post('/v1/embeddings', { model: 'embed', input: 'x'.repeat(1000) }, auth);
  t.is(large.json.error.type, 'invalid_request_error');
  t.true(large.status === 400 || large.status === 413);
  const deep = await post('/v1/embeddings', `{"model":"embed","input":${'['.repeat(200)}${']'.repeat(200)}}`, auth);
  t.is(deep.status, 400);
  const binary = await post('/v1/embeddings', Buffer.from([0xff, 0xfe]), auth);
  t.is(binary.status, 400);
  const proto = await post('/v1/embeddings', '{"model":"embed","input":"x","__proto__":{"polluted":1}}', auth);
  t.is(proto.status, 200);
  t.is(({} as { polluted?: number }).polluted, undefined);
});

test('answers and metadata stand in the budget of the listener: what finds no room there is refused', async (t) => {
  const { system, post, get, serving } = await openAiStand(t, { capacityBytes: 100_000, maxBodyBytes: 400_000 });
  const actor = defineActor({
    kinds: ['embeddings'],
    predict: (batch: { input: string }[]) =>
      batch.map(({ input }) => Array.from({ length: Number(input) }, () => 1 / 3)),
  });
  await system.spawn('wide', { actor });
  const ask = (size: number): ReturnType<typeof post> =>
    post('/v1/embeddings', { model: 'wide', input: String(size), encoding_format: 'float' }, auth);
  const refused = await ask(8000);
  t.is(refused.status, 503, 'its answer has more bytes than all may');
  t.is(refused.headers['retry-after'], '1');
  t.is(refused.json.error.code, 'mailbox_full');
  t.is(system.registry.refusals()['serve']?.['busy'], 1);
  t.regex(system.metrics(), /troupe_refused_requests_total\{listener="serve",reason="busy"\} 1/);
  // What was answered is given back.
  for (let round = 0; round < 5; round++) t.is((await ask(4000)).status, 200);
  // A body that does not come to its end leaves room for nothing.
  const { port } = serving.addresses[0] ?? { port: 0 };
  const slow = connect({ port, host: '127.0.0.1' });
  t.teardown(() => slow.destroy());
  const head = `host: 127.0.0.1:${port}\r\nauthorization: ${auth.authorization}\r\ncontent-length: 100001`;
  slow.write(`POST /v1/embeddings HTTP/1.1\r\n${head}\r\n\r\n${' '.repeat(99_990)}`);
  const paths = ['/v1/models', '/v1/models/echo', '/v2', '/v2/models/stats'];
  for (const path of paths) while ((await get(path, auth)).status !== 503);
  slow.destroy();
  for (const path of paths) while ((await get(path, auth)).status !== 200);
});

test("the routes have the listener's gate: another host name is refused", async (t) => {
  const { serving } = await openAiStand(t);
  const { port } = serving.addresses[0] ?? { port: 0 };
  const answer = await send({ port, path: '/v1/models', headers: { ...auth, host: 'evil.example' } });
  t.is(answer.status, 403);
  t.is(answer.json.error.type, 'permission_error');
});
