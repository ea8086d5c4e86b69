// OpenAI's own client for JavaScript against our routes, and against our actor `openai` behind them: chats that go through
// two servers of ours. Resolves to { versions, lines } of what was called, each line told as it comes; rejects where something
// differs.
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { VERSION } from 'openai/version';
import { createSystem, defineActor, silentLog } from 'troupe';

const TOKEN = 'a-token-for-interop-0123456789';
const TEXT = 'a long text that is said word by word to whoever reads it';

const embedder = defineActor({
  kinds: ['embeddings'],
  predict: (batch) => batch.map(({ input }) => ({ embedding: Float32Array.of(input.length, 0.1), tokens: 2 })),
});

const echo = defineActor({
  kinds: ['chat', 'completions'],
  predict: (batch, { signal }) =>
    batch.map((record) => {
      const said = record.prompt ?? record.messages.at(-1).content;
      return record.stream === true ? wordsOf(said, signal) : { text: said, usage: usageOf(said) };
    }),
});

let left = 0;
async function* wordsOf(text, signal) {
  let isWhole = false;
  try {
    for (const word of text.split(/(?= )/)) {
      if (word.includes('WAIT')) await new Promise((resolve) => signal.addEventListener('abort', resolve));
      yield word;
    }
    yield { finishReason: 'stop', usage: usageOf(text) };
    isWhole = true;
  } finally {
    if (!isWhole) left++;
  }
}

const usageOf = (text) => ({ promptTokens: 1, completionTokens: text.split(' ').length });

export async function openai(told = () => undefined) {
  const system = createSystem({ log: silentLog });
  try {
    await system.spawn('embed', { actor: embedder });
    await system.spawn('echo', { actor: echo });
    const { addresses } = await system.serve({ port: 0, tokens: { infer: [TOKEN] } });
    const baseURL = `${addresses[0].url}v1`;
    await system.spawn('behind', { actor: 'openai', options: { baseURL, apiKey: TOKEN, model: 'echo' } });
    const client = new OpenAI({ baseURL, apiKey: TOKEN, maxRetries: 0 });
    return {
      versions: `Node.js ${process.versions.node}, openai ${VERSION}`,
      lines: await callAll(client, baseURL, told),
    };
  } finally {
    await system.stop();
  }
}

async function callAll(client, baseURL, told) {
  const lines = [];
  const called = (what, fact) => {
    const line = { what, fact: String(fact) };
    lines.push(line);
    told(line);
  };
  const messages = (content) => [{ role: 'user', content }];

  const models = [];
  for await (const { id } of client.models.list()) models.push(id);
  called('models.list', models.join(', '));
  called('models.retrieve', (await client.models.retrieve('echo')).id);

  for (const encoding of [undefined, 'float', 'base64']) {
    const { data, usage } = await client.embeddings.create({
      model: 'embed',
      input: ['a', 'abc'],
      ...(encoding === undefined ? {} : { encoding_format: encoding }),
    });
    const vectors = data.map(({ embedding }) => vectorOf(embedding));
    assert.deepEqual(vectors, [
      [1, Math.fround(0.1)],
      [3, Math.fround(0.1)],
    ]);
    assert.equal(usage.total_tokens, 4);
    called(`embeddings.create, encoding_format ${encoding ?? 'as the client likes it'}`, '2 vectors, 4 tokens');
  }
  const many = await client.embeddings.create({
    model: 'embed',
    input: Array.from({ length: 2048 }, (_, n) => `${n}`),
  });
  assert.deepEqual(
    many.data.map(({ index }) => index),
    many.data.map((_, index) => index),
  );
  called('embeddings.create of many', `${many.data.length} inputs, in order`);
  const tokens = await client.embeddings.create({ model: 'embed', input: [[1, 2, 3]] });
  assert.equal(tokens.data[0].embedding[0], 3);
  called('embeddings.create of tokens', '1 vector');

  for (const model of ['echo', 'behind']) {
    const through = model === 'echo' ? '' : ', through the actor openai';
    const whole = await client.chat.completions.create({ model, messages: messages(TEXT) });
    assert.equal(whole.choices[0].message.content, TEXT);
    called(
      `chat.completions.create${through}`,
      `${whole.choices[0].finish_reason}, ${whole.usage.total_tokens} tokens`,
    );
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({
      model,
      messages: messages(TEXT),
      stream: true,
      stream_options: { include_usage: true },
    }))
      chunks.push(chunk);
    assert.equal(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join(''), TEXT);
    called(
      `chat.completions.create, stream${through}`,
      `${chunks.length} chunks, ${chunks.at(-1).usage.total_tokens} tokens`,
    );
    const final = await client.chat.completions.stream({ model, messages: messages(TEXT) }).finalChatCompletion();
    assert.equal(final.choices[0].message.content, TEXT);
    called(`chat.completions.stream${through}`, final.choices[0].finish_reason);
    const { choices } = await client.completions.create({ model, prompt: ['one', 'two words'] });
    assert.deepEqual(
      choices.map(({ text }) => text),
      ['one', 'two words'],
    );
    called(`completions.create of two prompts${through}`, '2 choices');
    let text = '';
    for await (const chunk of await client.completions.create({ model, prompt: TEXT, stream: true }))
      text += chunk.choices[0].text;
    assert.equal(text, TEXT);
    called(`completions.create, stream${through}`, `${text.split(' ').length} words`);
    await leave(client, model, messages('one WAIT'));
    called(`chat.completions.create, stream, left after a piece${through}`, 'the generator of the model has ended');
    const all = await Promise.all(
      Array.from({ length: 50 }, (_, n) => client.chat.completions.create({ model, messages: messages(`${n}`) })),
    );
    assert.ok(all.every((one, n) => one.choices[0].message.content === `${n}`));
    called(`chat.completions.create${through}`, '50 at once');
  }

  called(
    'embeddings.create of a model that is not there',
    await refusal(client.embeddings.create({ model: 'none', input: 'x' }), OpenAI.NotFoundError),
  );
  called(
    'embeddings.create of a model that chats',
    await refusal(client.embeddings.create({ model: 'echo', input: 'x' }), OpenAI.BadRequestError),
  );
  called(
    'chat.completions.create with n: 2',
    await refusal(
      client.chat.completions.create({ model: 'echo', messages: messages('x'), n: 2 }),
      OpenAI.BadRequestError,
    ),
  );
  const stranger = new OpenAI({ baseURL, apiKey: 'somebody-else-0123', maxRetries: 0 });
  called('models.list with another token', await refusal(stranger.models.list(), OpenAI.AuthenticationError));
  return lines;
}

/** The client decodes base64, which it asks for unless told otherwise, and leaves it as it is where it was asked for. */
function vectorOf(embedding) {
  if (typeof embedding !== 'string') return [...embedding];
  const bytes = Buffer.from(embedding, 'base64');
  return [...new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length))];
}

async function leave(client, model, messages) {
  const before = left;
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true }))
    if (chunk.choices[0].delta.content === 'one') break;
  while (left === before) await new Promise((resolve) => setImmediate(resolve));
}

async function refusal(call, type) {
  const error = await Promise.resolve(call).then(
    () => new Error('nothing was refused'),
    (thrown) => thrown,
  );
  assert.ok(error instanceof type, error);
  return `${type.name}: ${error.message}`;
}
