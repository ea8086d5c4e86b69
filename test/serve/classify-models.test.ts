import test, { type ExecutionContext } from 'ava';
import { type Columns, defineActor } from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';
import { addTree, makeTree } from '../models/model-tree.js';
import { grpcStand, type GrpcStand, type Message, status } from './grpc-stand.js';

/** Models whose scores are asked for as classes, over every way there is. */

const MODEL = '/v2/models/net';
const INFER = `${MODEL}/infer`;
const CONFIG = `max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 3 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" }`;

/** Gives back what it is given, as scores and as texts; `before` each batch. */
function mirror(before: (version: string | undefined) => unknown = () => undefined) {
  return defineActor({
    signature: {
      inputs: [{ name: 'x', dtype: 'float32', shape: [3] }],
      outputs: [
        { name: 'y', dtype: 'float32', shape: [3] },
        { name: 'text', dtype: 'string', shape: [] },
      ],
    },
    predict: async ({ count, columns }: Columns, { version }) => {
      await before(version);
      const data = Float32Array.from(columns['x']?.data as Float32Array);
      const text = Array.from({ length: count }, (_, index) => String(data[3 * index]));
      return {
        count,
        columns: { y: { dtype: 'float32', shape: [3], data }, text: { dtype: 'string', shape: [], data: text } },
      };
    },
  });
}

async function netStand(t: ExecutionContext, actor = mirror()) {
  const dir = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': CONFIG, 'net/labels.txt': 'low\nmiddle\nhigh\n' });
  const stand = await grpcStand(t);
  const pool = await stand.system.spawn('net', {
    actor,
    isolation: 'inline',
    model: `${dir}/net`,
    batching: { maxSize: 1 },
  });
  return { ...stand, dir, pool };
}

const X = { name: 'x', datatype: 'FP32', shape: [2, 3], data: [1, 2, 3, 0.5, 0.25, -1] };
const asked = (parameters: object, name = 'y'): object => ({ inputs: [X], outputs: [{ name, parameters }] });
const TOP = ['3.000000:2:high', '2.000000:1:middle', '0.500000:0:low', '0.250000:1:middle'];

/** Texts, each with its length before it. */
function textsOf(bytes: Buffer): readonly string[] {
  const texts: string[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32LE(at);
    texts.push(bytes.toString('utf8', at + 4, end));
    at = end;
  }
  return texts;
}

test('over HTTP the classes of an output come as JSON or as bytes, with the labels of the model', async (t) => {
  const { get, post } = await netStand(t);
  t.is((await get('/v2')).json.extensions[0], 'classification');
  const output = { name: 'y', datatype: 'BYTES', shape: [2, 2] };
  t.deepEqual((await post(INFER, asked({ classification: 2 }))).json.outputs, [{ ...output, data: TOP }]);
  const binary = await post(INFER, asked({ classification: 2, binary_data: true }));
  const length = Number(binary.headers['inference-header-content-length']);
  const [said] = JSON.parse(binary.bytes.subarray(0, length).toString()).outputs;
  const blob = binary.bytes.subarray(length);
  t.deepEqual(said, { ...output, parameters: { binary_data_size: blob.length } });
  t.deepEqual(textsOf(blob), TOP);
  // Beside others, in any case, and more than there are.
  const names = [{ name: 'text' }, { name: 'Y', parameters: { classification: 9 } }];
  const both = (await post(INFER, { inputs: [X], outputs: names })).json.outputs;
  t.deepEqual(both[0], { name: 'text', datatype: 'BYTES', shape: [2], data: ['1', '0.5'] });
  t.like(both[1], { name: 'Y', datatype: 'BYTES', shape: [2, 3] });
  t.is(both[1].data[5], '-1.000000:2:high');
  t.is((await post(INFER, asked({ classification: 0 }))).json.outputs[0].datatype, 'FP32');
});

test('what is no number of classes, and an output that has none, is refused before the model runs', async (t) => {
  let runs = 0;
  const { post, refusal } = await netStand(
    t,
    mirror(() => runs++),
  );
  for (const classification of [-1, 1.5, '2', true, -(2 ** 60)])
    t.like(await post(INFER, asked({ classification })), { status: 400 }, String(classification));
  const message = (await post(INFER, asked({ classification: -1 }))).json.error;
  t.is(message, 'output "y": classification must be a whole number from 0, got -1');
  t.regex((await post(INFER, asked({ classification: 1 }, 'text'))).json.error, /"text": BYTES has no classes/);
  const shared = await post(INFER, asked({ classification: 1, shared_memory_region: 'r' }));
  t.regex(shared.json.error, /shared memory is not served/);
  for (const parameter of [{ int64_param: 0 }, { int64_param: -1 }, { string_param: '2' }, { bool_param: true }]) {
    const error = await refusal('ModelInfer', requestOf(parameter));
    t.is(error.code, status.INVALID_ARGUMENT, JSON.stringify(parameter));
    t.regex(error.details, /classification must be a whole number from 1/);
  }
  t.is(runs, 0);
});

function requestOf(parameter: object, id = ''): Message {
  return {
    model_name: 'net',
    id,
    inputs: [{ name: 'x', datatype: 'FP32', shape: [2, 3] }],
    raw_input_contents: [Buffer.from(Float32Array.from(X.data).buffer)],
    outputs: [{ name: 'y', parameters: { classification: parameter } }],
  };
}

function firstTexts({ outputs, raw_output_contents: raws }: Message): unknown {
  return [outputs[0].datatype, outputs[0].shape, textsOf(raws[0])];
}

test('over gRPC the classes of an output come to a call and within a stream', async (t) => {
  const { ask, stream } = await netStand(t);
  const expected = ['BYTES', ['2', '2'], TOP];
  t.deepEqual(firstTexts(await ask('ModelInfer', requestOf({ int64_param: 2 }))), expected);
  t.deepEqual(firstTexts(await ask('ModelInfer', requestOf({ uint64_param: 2 }))), expected);
  const call = stream();
  const answers: Message[] = [];
  call.on('data', (answer: Message) => answers.push(answer));
  const ended = new Promise((resolve) => call.on('end', resolve));
  call.write(requestOf({ int64_param: 2 }, 'a'));
  call.write(requestOf({ int64_param: 0 }, 'b'));
  call.write(requestOf({ int64_param: 2 }, 'c'));
  call.end();
  await ended;
  t.deepEqual(
    answers.map(({ infer_response: { id }, error_message: error }) => [id, error !== '']),
    [
      ['a', false],
      ['b', true],
      ['c', false],
    ],
  );
  for (const index of [0, 2]) t.deepEqual(firstTexts(answers[index]?.['infer_response']), expected);
});

test('classes are called as in the files of the version that answered, whatever is on disk by then', async (t) => {
  const { dir, pool, post } = await netStand(t);
  const top = async (): Promise<string> => (await post(INFER, asked({ classification: 1 }))).json.outputs[0].data[0];
  addTree(dir, { 'net/2/m': '', 'net/labels.txt': 'a\nb\nc\n' });
  t.is(await top(), '3.000000:2:high');
  await pool.swap(2, { keepPreviousMs: 600_000 });
  t.is(await top(), '3.000000:2:c');
  await pool.rollback();
  t.is(await top(), '3.000000:2:high');
});

test('a request that two versions answer has labels where both have the same, and none where they differ', async (t) => {
  for (const [file, label] of [
    ['low\nmiddle\nhigh', ':high'],
    ['a\nb\nc', ''],
  ] as const) {
    const [first, second] = [deferred<void>(), deferred<void>()];
    const actor = mirror((version) => {
      if (version === '2') return second.resolve();
      first.resolve();
      return second.promise;
    });
    const { dir, pool, post } = await netStand(t, actor);
    addTree(dir, { 'net/2/m': '', 'net/labels.txt': `${file}\n` });
    // The first of its records is with version 1 until the second is with version 2.
    const answer = post(INFER, asked({ classification: 1 }));
    await first.promise;
    await pool.swap(2);
    const { model_version: version, outputs } = (await answer).json;
    t.deepEqual(version.split(',').sort(), ['1', '2']);
    t.deepEqual(outputs[0].data, [`3.000000:2${label}`, `0.500000:0${label && ':low'}`]);
  }
});

test('a model of many has its own labels, also by its version; without a file there are none', async (t) => {
  const dir = makeTree(t, {
    'net/1/m': '',
    'net/config.pbtxt': CONFIG,
    'net/labels.txt': 'low\nmiddle\nhigh\n',
    'bare/1/m': '',
  });
  const { system, post } = await grpcStand(t);
  await system.spawn('many', { actor: mirror(), isolation: 'inline', models: { root: dir, maxBytes: 1e6 } });
  for (const [model, top] of [
    ['net', TOP[0]],
    ['net/versions/1', TOP[0]],
    ['bare', '3.000000:2'],
  ]) {
    const { json } = await post(`/v2/models/${model}/infer`, asked({ classification: 1 }));
    t.is(json.outputs[0].data[0], top, model);
  }
});

test('a pool whose label file is missing does not start, and a swap to it is rolled back', async (t) => {
  const { dir, pool, post, system }: GrpcStand & { dir: string; pool: { swap(to: number): Promise<unknown> } } =
    await netStand(t);
  addTree(dir, { 'net/2/m': '', 'net/config.pbtxt': CONFIG.replace('labels.txt', 'none.txt') });
  await t.throwsAsync(pool.swap(2), { message: /output.label_filename: there is no file none.txt/ });
  t.is((await post(INFER, asked({ classification: 1 }))).json.outputs[0].data[0], '3.000000:2:high');
  const other = system.spawn('other', { actor: mirror(), isolation: 'inline', model: `${dir}/net` });
  await t.throwsAsync(other, { code: 'MODEL_CONFIG_INVALID', message: /^Pool "other": .*config.pbtxt:3:53: / });
});
