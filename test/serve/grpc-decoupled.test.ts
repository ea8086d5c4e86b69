import test, { type ExecutionContext } from 'ava';
import { type CompletionRecord, defineActor, type TextAnswer } from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import { firstOutput, grpcStand, type GrpcStand, type Message, rows, status } from './grpc-stand.js';
import { doubler } from './oip-stand.js';
import { echo, witness, type Witness } from './openai-stand.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const END = { triton_enable_empty_final_response: { bool_param: true } };

interface TextStand extends GrpcStand {
  readonly seen: Witness;
}

async function textStand(t: ExecutionContext, options: Parameters<typeof grpcStand>[1] = {}): Promise<TextStand> {
  t.timeout(60_000);
  const at = await grpcStand(t, options);
  const seen = witness();
  await at.system.spawn('echo', { actor: echo(seen) });
  return { ...at, seen };
}

const bytes = (text: string): Buffer => {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(Buffer.byteLength(text));
  return Buffer.concat([length, Buffer.from(text)]);
};

/** A request for a text model, its values raw. */
function asked(text: string, more: Message = {}, flags: Readonly<Record<string, string | boolean>> = {}): Message {
  const inputs = Object.entries({ text_input: text, ...flags });
  return {
    model_name: 'echo',
    inputs: inputs.map(([name, value]) => {
      return { name, datatype: typeof value === 'string' ? 'BYTES' : 'BOOL', shape: [1] };
    }),
    raw_input_contents: inputs.map(([, value]) => (typeof value === 'string' ? bytes(value) : Buffer.from([+value]))),
    ...more,
  };
}

/** What is read of an answer: its id, its text or error, and whether it says that it is the last. */
function shown({ error_message: error, infer_response: got }: Message): readonly unknown[] {
  const [raw] = got.raw_output_contents as readonly Buffer[];
  const text = error !== '' ? error : raw === undefined ? undefined : Buffer.from(raw).subarray(4).toString();
  return [got.id, text, got.parameters.triton_final_response.bool_param];
}

async function heard(stream: AsyncIterable<Message>): Promise<{ readonly told: Message[]; readonly code: unknown }> {
  const told: Message[] = [];
  try {
    for await (const message of stream) told.push(message);
  } catch (error) {
    return { told, code: (error as { code?: unknown }).code };
  }
  return { told, code: status.OK };
}

test('a text model answers a request of a stream piece by piece, and an empty last answer where it is wanted', async (t) => {
  const { stream, seen } = await textStand(t);
  const call = stream();
  call.write(asked('one two', { id: 'a', parameters: END }));
  const first = (await new Promise((resolve) => call.once('data', resolve))) as Message;
  t.deepEqual(shown(first), ['a', 'one', false]);
  const [output] = first['infer_response'].outputs;
  t.like(output, { name: 'text_output', datatype: 'BYTES', shape: ['1'] });
  call.end();
  const { told, code } = await heard(call);
  t.is(code, status.OK);
  t.deepEqual(told.map(shown), [
    ['a', ' two', false],
    ['a', undefined, true],
  ]);
  t.like(told.at(-1)?.['infer_response'], { model_name: 'echo', model_version: '1', outputs: [] });
  t.deepEqual(seen.records, [{ kind: 'completions', prompt: 'one two', stream: true }]);
});

test('without that wish pieces are all there is, and one answer that is the whole is the last', async (t) => {
  const { stream, seen } = await textStand(t);
  const call = stream();
  call.write(asked('a b', { id: 'pieces' }));
  call.end();
  t.deepEqual((await heard(call)).told.map(shown), [
    ['pieces', 'a', false],
    ['pieces', ' b', false],
  ]);
  const other = stream();
  const sampling = { sampling_parameters: '{"max_tokens":"3"}', exclude_input_in_output: true };
  other.write(
    asked('a b', { id: 'whole', parameters: { ...END, top_p: { double_param: 0.5 } } }, { stream: false, ...sampling }),
  );
  other.end();
  t.deepEqual((await heard(other)).told.map(shown), [['whole', 'a b', true]]);
  t.deepEqual(seen.records[1], { kind: 'completions', prompt: 'a b', maxTokens: 3, topP: 0.5 });
  const plain = stream();
  plain.write(asked('TEXT', { parameters: END }));
  plain.end();
  t.deepEqual((await heard(plain)).told.map(shown), [['', 'plain text', true]]);
});

test('typed contents, a first dimension of one and names in capitals are taken too', async (t) => {
  const { stream } = await textStand(t);
  const call = stream();
  const input = { name: 'TEXT_INPUT', datatype: 'BYTES', shape: [1, 1] };
  call.write({
    model_name: 'echo',
    inputs: [{ ...input, contents: { bytes_contents: [Buffer.from('x y')] } }],
    outputs: [{ name: 'TEXT_OUTPUT' }],
  });
  call.end();
  const { told } = await heard(call);
  t.deepEqual(told.map(shown), [
    ['', 'x', false],
    ['', ' y', false],
  ]);
  t.is(told[0]?.['infer_response'].outputs[0].name, 'TEXT_OUTPUT');
});

test('a request that is wrong or fails is told so as its last answer, and the stream goes on', async (t) => {
  const { stream, system } = await textStand(t);
  const call = stream();
  const wrong: readonly (readonly [Message, RegExp])[] = [
    [asked('one FAIL'), /out of words/],
    [asked('FAIL', { parameters: END }), /out of words/],
    [asked('x', { inputs: [], raw_input_contents: [] }), /input "text_input" is missing/],
    [asked('x', {}, { other: 'y' }), /there is no input "other"/],
    [asked('x', { outputs: [{ name: 'tokens' }] }), /there is no output "tokens"/],
    [asked('x', {}, { exclude_input_in_output: false }), /exclude_input_in_output must be true/],
    [asked('x', {}, { sampling_parameters: 'no' }), /sampling_parameters must be a JSON object/],
    [
      asked('x', {
        inputs: [{ name: 'text_input', datatype: 'BYTES', shape: [2] }],
        raw_input_contents: [Buffer.concat([bytes('x'), bytes('y')])],
      }),
      /shape/,
    ],
    [asked('x', { parameters: { triton_x: { bool_param: true } } }), /reserved/],
    [asked('x', { parameters: { timeout: { string_param: '1' } } }), /timeout must be a whole number/],
  ];
  for (const [index, [message]] of wrong.entries()) call.write({ ...message, id: String(index) });
  call.write(asked('still', { id: 'last' }));
  call.end();
  const { told, code } = await heard(call);
  t.is(code, status.OK);
  const of = (id: string): readonly (readonly unknown[])[] => told.map(shown).filter(([own]) => own === id);
  t.deepEqual(of('0')[0], ['0', 'one', false]);
  for (const [index, [, words]] of wrong.entries()) {
    const [id, text, isFinal] = of(String(index)).at(-1) ?? [];
    t.true(isFinal, `${String(id)} ${String(text)}`);
    t.regex(String(text), words);
  }
  t.deepEqual(of('last'), [['last', 'still', false]]);
  t.true(system.metrics().includes('troupe_served_requests_total{pool="echo",outcome="failed"} 2'));
});

test('with triton_grpc_error a text that fails in between ends the stream with its code', async (t) => {
  const { stream, seen } = await textStand(t);
  const call = stream({ headers: { triton_grpc_error: 'true' } });
  const got = heard(call);
  call.write(asked('one HANG'));
  while (seen.records.length < 1) await turn();
  call.write(asked('two FAIL'));
  const { told, code } = await got;
  t.is(code, status.INTERNAL);
  const texts = new Set(told.map((message) => shown(message)[1]));
  t.deepEqual([told.length, texts], [2, new Set(['one', 'two'])]);
  // The other text of the stream is given up.
  while (seen.left < 2) await turn();
});

test('texts of one stream come beside each other and beside answers of other models, which keep their order', async (t) => {
  const { stream, system } = await textStand(t);
  await system.spawn('double', { actor: doubler });
  const gate = deferred<void>();
  await system.spawn('slow', {
    actor: defineActor<CompletionRecord, TextAnswer, void>({
      kinds: ['completions'],
      predict: (batch: CompletionRecord[]) =>
        batch.map(async function* () {
          yield 'begin';
          await gate.promise;
          yield 'end';
        }),
    }),
  });
  const call = stream();
  const told: (readonly unknown[])[] = [];
  const ended = new Promise((resolve) => call.on('end', resolve));
  call.on('data', (message: Message) => {
    const { infer_response: got } = message;
    told.push(got.model_name === 'double' ? [got.id, firstOutput(got)[0]] : shown(message).slice(0, 2));
  });
  call.write(asked('x', { model_name: 'slow', id: 's', parameters: END }));
  while (told.length < 1) await turn();
  call.write({ ...rows([1, 0]), id: '1' });
  call.write(asked('a b', { id: 't', parameters: END }));
  call.write({ ...rows([2, 0]), id: '2' });
  call.end();
  while (told.length < 6) await turn();
  gate.resolve();
  await ended;
  const of = (...ids: string[]): unknown[] => told.filter(([id]) => ids.includes(id as string));
  t.deepEqual(of('1', '2'), [
    ['1', 2],
    ['2', 4],
  ]);
  t.deepEqual(of('t'), [
    ['t', 'a'],
    ['t', ' b'],
    ['t', undefined],
  ]);
  t.deepEqual(told.slice(-2), [
    ['s', 'end'],
    ['s', undefined],
  ]);
});

test('many texts of one stream at once come whole, each in its order', async (t) => {
  const { stream } = await textStand(t);
  const call = stream();
  const words = Array.from({ length: 40 }, (_, index) => `w${index}`);
  for (let index = 0; index < 100; index++) call.write(asked(words.join(' '), { id: String(index), parameters: END }));
  call.end();
  const { told, code } = await heard(call);
  t.is(code, status.OK);
  for (let index = 0; index < 100; index++) {
    const own = told.map(shown).filter(([id]) => id === String(index));
    t.is(
      own
        .slice(0, -1)
        .map(([, text]) => text)
        .join(''),
      words.join(' '),
    );
    t.deepEqual(own.at(-1), [String(index), undefined, true]);
  }
});

test('a client that leaves a stream, or whose deadline passes, ends the generators it was reading', async (t) => {
  const { stream, seen, system } = await textStand(t);
  const call = stream();
  call.on('error', () => undefined);
  const begun = new Promise((resolve) => call.once('data', resolve));
  call.write(asked('one HANG'));
  await begun;
  call.cancel();
  while (seen.left < 1) await turn();
  while (!system.metrics().includes('troupe_served_requests_total{pool="echo",outcome="gone"} 1')) await turn();
  const late = stream({ deadline: Date.now() + 3000 });
  late.write(asked('one HANG'));
  const { told, code } = await heard(late);
  t.is(code, status.DEADLINE_EXCEEDED);
  // On a machine that is very slow it may not have begun.
  while (told.length > 0 && seen.left < 2) await turn();
});

test('a reader who takes nothing stops the actor over gRPC too', async (t) => {
  const { stream, system } = await textStand(t);
  let made = 0;
  await system.spawn('endless', {
    actor: defineActor<CompletionRecord, TextAnswer, void>({
      kinds: ['completions'],
      predict: (batch: CompletionRecord[]) =>
        batch.map(async function* () {
          for (; made < 1000; made++) yield 'x'.repeat(100_000);
        }),
    }),
  });
  const call = stream();
  call.on('error', () => undefined);
  // The client holds back what comes only once somebody has begun to read.
  const begun = new Promise((resolve) => call.once('data', resolve));
  call.write(asked('go', { model_name: 'endless' }));
  await begun;
  call.pause();
  let [before, still] = [-1, 0];
  while (still < 200) {
    await turn();
    still = made > 0 && made === before ? still + 1 : 0;
    before = made;
  }
  t.true(made < 300, `${made} pieces of 100,000 characters`);
  call.cancel();
});

test('a stop ends a stream when the text it was telling is whole', async (t) => {
  const { stream, system, serving } = await textStand(t);
  const gate = deferred<void>();
  await system.spawn('slow', {
    actor: defineActor<CompletionRecord, TextAnswer, void>({
      kinds: ['completions'],
      predict: (batch: CompletionRecord[]) =>
        batch.map(async function* () {
          yield 'a';
          await gate.promise;
          yield 'b';
        }),
    }),
  });
  const call = stream();
  const begun = new Promise((resolve) => call.once('data', resolve));
  call.write(asked('go', { model_name: 'slow' }));
  await begun;
  const rest = heard(call);
  const closed = serving.close(30_000);
  gate.resolve();
  const { told, code } = await rest;
  t.deepEqual(
    told.map(shown).map(([, text]) => text),
    ['b'],
  );
  t.is(code, status.UNAVAILABLE);
  await closed;
});

test('a unary call of a text model is told where to ask, and its configuration that it is decoupled', async (t) => {
  const { refusal, ask } = await textStand(t);
  const { code, details } = await refusal('ModelInfer', asked('x'));
  t.is(code, status.UNIMPLEMENTED);
  t.regex(details, /"echo" may answer a request several times .*ModelStreamInfer/);
  const { config } = await ask('ModelConfig', { name: 'echo' });
  t.true(config.model_transaction_policy.decoupled);
  t.is(config.max_batch_size, 0);
  const { inputs } = await ask('ModelMetadata', { name: 'echo' });
  t.deepEqual(inputs[0], { name: 'text_input', datatype: 'BYTES', shape: ['1'] });
});
