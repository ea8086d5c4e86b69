import { connect } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { createParser } from 'eventsource-parser';
import { type Columns, defineActor, type TextPart } from 'troupe';
import { type Answer, doubler, heldDoubler, send, type Stand, stand } from './oip-stand.js';
import { echo, embedder, TOKEN, witness, type Witness } from './openai-stand.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface TextStand extends Stand {
  readonly seen: Witness;
  generate(body: string | object, model?: string): Promise<Answer>;
  generateStream(body: string | object, model?: string): Promise<Answer>;
}

async function textStand(t: ExecutionContext, options: Parameters<typeof stand>[1] = {}): Promise<TextStand> {
  t.timeout(60_000);
  const at = await stand(t, options);
  const seen = witness();
  await at.system.spawn('echo', { actor: echo(seen) });
  return {
    ...at,
    seen,
    generate: (body, model = 'echo') => at.post(`/v2/models/${model}/generate`, body),
    generateStream: (body, model = 'echo') => at.post(`/v2/models/${model}/generate_stream`, body),
  };
}

/** What a parser of others finds in an answer. */
function framesOf({ text, headers, status }: Answer, t: ExecutionContext): readonly any[] {
  t.is(status, 200);
  t.is(headers['content-type'], 'text/event-stream; charset=utf-8');
  const frames: unknown[] = [];
  createParser({ onEvent: ({ data }) => frames.push(JSON.parse(data)) }).feed(text);
  return frames;
}

test('generate answers a text as one, and generate_stream piece by piece', async (t) => {
  const { generate, generateStream, seen } = await textStand(t);
  const whole = await generate({ text_input: 'one two three', id: '42', parameters: { temperature: 0 } });
  t.is(whole.status, 200);
  t.is(whole.headers['content-type'], 'application/json');
  const head = { id: '42', model_name: 'echo', model_version: '1' };
  t.deepEqual(whole.json, { ...head, text_output: 'one two three' });
  const frames = framesOf(await generateStream({ text_input: ['one two three'], id: '42' }), t);
  t.deepEqual(frames, [
    { ...head, text_output: 'one' },
    { ...head, text_output: ' two' },
    { ...head, text_output: ' three' },
  ]);
  t.deepEqual(seen.records, [
    { kind: 'completions', prompt: 'one two three', temperature: 0 },
    { kind: 'completions', prompt: 'one two three', stream: true },
  ]);
});

test('what stands beside the text says how it is made, in the request, its parameters or sampling_parameters', async (t) => {
  const { generate, seen } = await textStand(t);
  const sampling = JSON.stringify({ max_tokens: '7', top_p: 0.5, top_k: 3 });
  const { status, json } = await generate({
    text_input: 'x',
    stop: ['END', 'STOP'],
    exclude_input_in_output: true,
    min_length: null,
    parameters: { seed: 5, bad_words: ['no'], sampling_parameters: sampling, stream: true, timeout: 5_000_000 },
  });
  t.deepEqual([status, json], [200, { model_name: 'echo', model_version: '1', text_output: 'x' }]);
  t.deepEqual(seen.records[0], {
    kind: 'completions',
    prompt: 'x',
    maxTokens: 7,
    topP: 0.5,
    seed: 5,
    stop: ['END', 'STOP'],
    more: { bad_words: ['no'], top_k: 3 },
  });
});

test('a stream may be asked for as one answer, and an actor may give what was not asked', async (t) => {
  const { generate, generateStream } = await textStand(t);
  const texts = async (body: object): Promise<unknown[]> =>
    framesOf(await generateStream(body), t).map(({ text_output: text }) => text);
  t.deepEqual(await texts({ text_input: 'a b', stream: false }), ['a b']);
  t.deepEqual(await texts({ text_input: 'TEXT' }), ['plain text']);
  t.deepEqual(await texts({ text_input: 'STREAM of words', parameters: { stream: false } }), ['STREAM of words']);
  t.is((await generate({ text_input: 'STREAM of words', stream: true })).json.text_output, 'STREAM of words');
});

test('an actor of chats alone is asked by what a user says', async (t) => {
  const { system, generate } = await textStand(t);
  const records: unknown[] = [];
  await system.spawn('talker', {
    actor: defineActor({
      kinds: ['chat'],
      predict: (batch: unknown[]) => batch.map((record) => (records.push(record), { text: 'hm' }) as TextPart),
    }),
  });
  t.is((await generate({ text_input: 'hello' }, 'talker')).json.text_output, 'hm');
  t.deepEqual(records, [{ kind: 'chat', messages: [{ role: 'user', content: 'hello' }] }]);
});

test('properties that are inputs become tensors, whole batches too, and outputs of one value are that value', async (t) => {
  const { system, generate, generateStream } = await textStand(t);
  await system.spawn('double', { actor: doubler, batching: { maxSize: 8 } });
  const body = { x: [1, 2], id: 'a', parameters: { own: 'text', more: 2 ** 53 } };
  const one = { id: 'a', model_name: 'double', model_version: '1', y: [2, 4], batch: 1 };
  t.deepEqual((await generate(body, 'double')).json, one);
  t.deepEqual(framesOf(await generateStream(body, 'double'), t), [one]);
  const { json } = await generate(
    {
      parameters: {
        x: [
          [1, 2],
          [3, 4],
        ],
      },
    },
    'double',
  );
  t.deepEqual(
    [json.y, json.batch],
    [
      [2, 4, 6, 8],
      [2, 2],
    ],
  );
});

test('values become the shape of their input as in Triton: the innermost unknown dimension takes what is left', async (t) => {
  const { system, generate } = await textStand(t);
  const input = (name: string, dtype: 'string' | 'int64' | 'bool', shape: number[]) => ({ name, dtype, shape });
  const inputs = [input('words', 'string', [-1]), input('n', 'int64', []), input('flag', 'bool', [1, 1])];
  const shapes: unknown[] = [];
  await system.spawn('shapes', {
    actor: defineActor({
      signature: { inputs, outputs: [input('last', 'string', [])] },
      predict: ({ count, columns }: Columns) => {
        shapes.push(Object.entries(columns).map(([name, { shape, data }]) => [name, shape, [...data]]));
        const last = String(columns['words']?.data.at(-1));
        return { count, columns: { last: { dtype: 'string', shape: [], data: [last] } } };
      },
    }),
  });
  const { json } = await generate('{"words":["a","ü\\n"],"n":9007199254740993,"flag":true}', 'shapes');
  t.is(json.last, 'ü\n');
  t.deepEqual(shapes, [
    [
      ['words', [2], ['a', 'ü\n']],
      ['n', [], [9007199254740993n]],
      ['flag', [1, 1], [1]],
    ],
  ]);
});

test('what is no request of generate is refused in words', async (t) => {
  const { system, post, generate, generateStream, get } = await textStand(t, { maxBodyBytes: 10_000 });
  await system.spawn('double', { actor: doubler });
  await system.spawn('embed', { actor: embedder(witness()) });
  await system.spawn('rows', { actor: defineActor({ predict: (batch: unknown[]) => batch }) });
  const wide = JSON.stringify(Object.fromEntries(Array.from({ length: 257 }, (_, n) => [`p${n}`, n])));
  const wrong: readonly (readonly [body: string | object, model: string, words: RegExp, status?: number])[] = [
    ['', 'echo', /not JSON/],
    ['[1]', 'echo', /must be an object/],
    ['{"text_input":"a"', 'echo', /not JSON/],
    [`{"text_input":${'['.repeat(200)}${']'.repeat(200)}}`, 'echo', /deep/],
    [{}, 'echo', /text_input must be a text, got nothing/],
    [{ text_input: 7 }, 'echo', /text_input must be a text, got 7/],
    [{ text_input: ['a', 'b'] }, 'echo', /text_input must be a text, got an array/],
    [{ text_input: 'a', id: 7 }, 'echo', /id must be a string/],
    [{ text_input: 'a', stream: 'yes' }, 'echo', /stream must be true or false/],
    [{ text_input: 'a', parameters: 1 }, 'echo', /parameters must be an object/],
    [{ text_input: 'a', parameters: { text_input: 'b' } }, 'echo', /"text_input" is given twice/],
    [{ text_input: 'a', parameters: { temperature: 9 } }, 'echo', /temperature must be a number from 0 to 2/],
    [{ text_input: 'a', n: 2 }, 'echo', /n must be 1/],
    [{ text_input: 'a', timeout: -1 }, 'echo', /timeout must be a whole number/],
    [{ text_input: 'a', triton_x: 1 }, 'echo', /reserved/],
    [{ text_input: 'a', sampling_parameters: '[1]' }, 'echo', /sampling_parameters must be a JSON object/],
    [{ text_input: 'a', exclude_input_in_output: false }, 'echo', /exclude_input_in_output must be true/],
    [{ text_input: 'x'.repeat(10_000) }, 'echo', /bytes/, 413],
    [Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`p${n}`, n])), 'echo', /more than 256/],
    [{ text_input: 'a', sampling_parameters: wide }, 'echo', /sampling_parameters: more than 256 parameters/],
    [{ x: [1, 2, 3] }, 'double', /shape \[-1, 2\] cannot be made of 3 values/],
    [{ x: [] }, 'double', /one record at least/],
    [{ x: ['1', '2'] }, 'double', /must be a number/],
    [{ x: null }, 'double', /cannot be made of 1 value/],
    [{ y: 1 }, 'double', /input "x" is missing/],
    [{ x: [1, 2], other: [1] }, 'double', /"other" is no input of the model/],
    [{ x: [1, 2], other: null }, 'double', /"other" is no input of the model/],
    ['{"x":[1,2],"__proto__":{"polluted":1}}', 'double', /"__proto__" is no input of the model/],
    [{ text_input: 'a' }, 'embed', /takes records and no tensors/],
    [{ text_input: 'a' }, 'rows', /takes records and no tensors/],
    [{ text_input: 'a' }, 'nobody', /no model "nobody"/, 404],
    [{ text_input: 'a' }, 'echo/versions/2', /serves version 1/, 404],
    [{ text_input: 'BAD' }, 'echo', /a bad record/, 500],
    [{ text_input: 'ODD' }, 'echo', /is to answer this kind/, 500],
  ];
  for (const [body, model, words, status = 400] of wrong)
    for (const ask of [generate, generateStream]) {
      const answer = await ask(body, model);
      const told = JSON.stringify(body).slice(0, 80);
      t.is(answer.status, status, told);
      t.is(answer.headers['content-type'], 'application/json', told);
      t.regex(answer.json.error, words, told);
    }
  t.is(({} as { polluted?: number }).polluted, undefined);
  const packed = await post('/v2/models/echo/generate', '{}', { 'content-encoding': 'gzip' });
  t.is(packed.status, 415);
  t.is((await get('/v2/models/echo/generate')).status, 405);
  t.is((await post('/v2/models/echo/generate/more', '{}')).status, 404);
});

test('a stream that fails before its first piece has a status, and later an event that holds the error', async (t) => {
  const { generateStream, generate, system } = await textStand(t);
  const early = await generateStream({ text_input: 'FAIL' });
  t.is(early.status, 500);
  t.regex(early.json.error, /out of words/);
  const frames = framesOf(await generateStream({ text_input: 'one FAIL two' }), t);
  t.is(frames.length, 2);
  t.is(frames[0].text_output, 'one');
  t.regex(frames[1].error, /out of words/);
  t.is((await generate({ text_input: 'STREAM one FAIL' })).status, 500);
  t.true(system.metrics().includes('troupe_served_requests_total{pool="echo",outcome="failed"} 3'));
});

test('a client that leaves ends the generator of its stream, and takes its queued records with it', async (t) => {
  const { serving, seen, system } = await textStand(t);
  const { port } = serving.addresses[0] ?? { port: 0 };
  const post = (model: string, route: string, body: object): ReturnType<typeof connect> => {
    const text = JSON.stringify(body);
    const socket = connect({ port, host: '127.0.0.1' });
    t.teardown(() => socket.destroy());
    socket.on('error', () => undefined);
    const path = `/v2/models/${model}/${route}`;
    socket.write(`POST ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ${text.length}\r\n\r\n${text}`);
    return socket;
  };
  const reading = post('echo', 'generate_stream', { text_input: 'one HANG' });
  await new Promise((resolve) => reading.once('data', resolve));
  reading.destroy();
  while (seen.left === 0) await turn();
  const whole = post('echo', 'generate', { text_input: 'STREAM HANG' });
  while (seen.records.length < 2) await turn();
  whole.destroy();
  while (seen.left === 1) await turn();
  const held = heldDoubler();
  const pool = await system.spawn('double', { actor: held.actor, batching: { maxSize: 1 } });
  const waiting = post('double', 'generate', { x: [1, 2, 3, 4] });
  await held.entered;
  while (pool.stats().mailbox.held === 0) await turn();
  waiting.destroy();
  while (pool.stats().mailbox.held > 0) await turn();
  held.letGo();
  while (!system.metrics().includes('troupe_served_requests_total{pool="echo",outcome="gone"} 2')) await turn();
  t.pass();
});

test('a reader who takes nothing stops the actor', async (t) => {
  const { serving, system } = await textStand(t);
  let made = 0;
  const piece = 'x'.repeat(100_000);
  await system.spawn('endless', {
    actor: defineActor({
      kinds: ['completions'],
      predict: (batch: unknown[]) =>
        batch.map(async function* () {
          for (; made < 1000; made++) yield piece;
        }),
    } as never),
  });
  const { port } = serving.addresses[0] ?? { port: 0 };
  const socket = connect({ port, host: '127.0.0.1' });
  t.teardown(() => socket.destroy());
  socket.pause();
  const body = '{"text_input":"go"}';
  socket.write(
    `POST /v2/models/endless/generate_stream HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  let [before, still] = [-1, 0];
  while (still < 200) {
    await turn();
    still = made > 0 && made === before ? still + 1 : 0;
    before = made;
  }
  t.true(made < 300, `${made} pieces of 100,000 characters`);
});

test('the deadline is for the first piece, or for the whole where it is wanted as one', async (t) => {
  const { generate, generateStream, seen } = await textStand(t);
  const late = { text_input: 'STREAM HANG', stream: false, parameters: { timeout: 2_000_000 } };
  const answers = await Promise.all([
    generate(late),
    generateStream(late),
    generateStream({ ...late, text_input: 'HANG', stream: true }),
  ]);
  for (const { status, json } of answers) {
    t.is(status, 504);
    t.regex(json.error, /deadline/);
  }
  while (seen.left < 3) await turn();
});

test('generate asks for a token, the names of the server, and no web page, as infer does', async (t) => {
  const { generate, serving } = await textStand(t, { tokens: { infer: [TOKEN] } });
  t.is((await generate({ text_input: 'a' })).status, 401);
  const { port } = serving.addresses[0] ?? { port: 0 };
  const path = '/v2/models/echo/generate';
  const ask = (headers: Record<string, string>): Promise<Answer> =>
    send(
      { port, path, method: 'POST', headers: { authorization: `Bearer ${TOKEN}`, ...headers } },
      '{"text_input":"a"}',
    );
  t.is((await ask({})).status, 200);
  t.is((await ask({ host: 'evil.example' })).status, 403);
  t.is((await ask({ origin: 'https://evil.example' })).status, 403);
});

test('a stop lets a stream come to its end', async (t) => {
  const { serving, system, generateStream } = await textStand(t);
  let letGo = (): void => undefined;
  const gate = new Promise<void>((resolve) => (letGo = resolve));
  let begun = (): void => undefined;
  const hasBegun = new Promise<void>((resolve) => (begun = resolve));
  await system.spawn('slow', {
    actor: defineActor({
      kinds: ['completions'],
      predict: (batch: unknown[]) =>
        batch.map(async function* () {
          begun();
          yield 'a';
          await gate;
          yield 'b';
        }),
    } as never),
  });
  const answer = generateStream({ text_input: 'go' }, 'slow');
  await hasBegun;
  const closed = serving.close(30_000);
  letGo();
  t.deepEqual(
    framesOf(await answer, t).map(({ text_output: text }) => text),
    ['a', 'b'],
  );
  await closed;
});

test('a text model tells its tensors and that it is decoupled, and infer sends to the routes that can answer', async (t) => {
  const { get, post, system } = await textStand(t);
  await system.spawn('double', { actor: doubler });
  const metadata = (await get('/v2/models/echo')).json;
  t.deepEqual(metadata.inputs, [
    { name: 'text_input', datatype: 'BYTES', shape: [1] },
    { name: 'stream', datatype: 'BOOL', shape: [1] },
    { name: 'sampling_parameters', datatype: 'BYTES', shape: [1] },
    { name: 'exclude_input_in_output', datatype: 'BOOL', shape: [1] },
  ]);
  t.deepEqual(metadata.outputs, [{ name: 'text_output', datatype: 'BYTES', shape: [1] }]);
  const config = (await get('/v2/models/echo/config')).json;
  t.like(config, { max_batch_size: 0, model_transaction_policy: { decoupled: true } });
  t.false('dynamic_batching' in config);
  t.deepEqual(
    config.input.map(({ optional }: { optional: boolean }) => optional),
    [false, true, true, true],
  );
  t.false((await get('/v2/models/double/config')).json.model_transaction_policy.decoupled);
  const inputs = [{ name: 'text_input', datatype: 'BYTES', shape: [1], data: ['a'] }];
  const { status, json } = await post('/v2/models/echo/infer', { inputs });
  t.is(status, 501);
  t.regex(json.error, /"echo" may answer a request several times .*generate_stream, or ModelStreamInfer/);
});
