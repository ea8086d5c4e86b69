import test, { type ExecutionContext } from 'ava';
import { createSystem, defineActor, isTroupeError, silentLog, type Signature } from 'troupe';
import { declaredDifferences } from '../../src/models/declared-signature.js';
import { readModelConfig } from '../../src/models/model-config.js';
import { addTree, makeTree } from './model-tree.js';

const SIGNATURE: Signature = {
  inputs: [
    { name: 'x', dtype: 'float32', shape: [4] },
    { name: 'ids', dtype: 'int64', shape: [-1] },
  ],
  outputs: [
    { name: 'y', dtype: 'float32', shape: [-1, 2] },
    { name: 'n', dtype: 'int32', shape: [] },
  ],
};

function differences(text: string, signature: Signature | undefined = SIGNATURE): readonly string[] {
  return declaredDifferences(readModelConfig(text, 'config.pbtxt', 'net').config, signature);
}

const INPUTS = `input { name: "x" data_type: TYPE_FP32 dims: 4 } input { name: "ids" data_type: TYPE_INT64 dims: -1 }`;
const one = (text: string): Signature => {
  const [, dtype = '', dims = ''] = /^(\w+)\[(.*)\]$/.exec(text) ?? [];
  const shape = dims === '' ? [] : dims.split(',').map(Number);
  return { inputs: [{ name: 'a', dtype: dtype as 'float32', shape }], outputs: [] };
};

test('a config that declares what the model has is no difference, in whatever order, and neither is one that says nothing', (t) => {
  const outputs = `output { name: "n" data_type: TYPE_INT32 dims: 1 reshape { shape: [] } } output { name: "y" data_type: TYPE_FP32 dims: [ -1, 2 ] }`;
  t.deepEqual(differences(`max_batch_size: 8 ${INPUTS} ${outputs}`), []);
  t.deepEqual(differences('max_batch_size: 8'), []);
  t.deepEqual(differences(`max_batch_size: 8 ${outputs}`), [], 'inputs of which it says nothing');
  t.deepEqual(differences(`max_batch_size: 8 ${INPUTS}`), [], 'outputs that it leaves out');
});

test('a config that says whether the model is decoupled is held against the signature', (t) => {
  const declared = (flag: boolean): string => `model_transaction_policy { decoupled: ${flag} }`;
  const decoupled = { ...SIGNATURE, decoupled: true };
  t.deepEqual(differences('', decoupled), [], 'nothing is declared');
  t.deepEqual(differences('model_transaction_policy {}', decoupled), []);
  t.deepEqual(differences(declared(true), decoupled), []);
  t.deepEqual(differences(declared(false)), []);
  t.deepEqual(differences(declared(true)), [
    'model_transaction_policy.decoupled is declared as true, and the actor answers a record once: its signature is not decoupled',
  ]);
  t.deepEqual(differences(declared(false), decoupled), [
    'model_transaction_policy.decoupled is declared as false, and the actor answers a record any number of times: its signature is decoupled',
  ]);
});

test('a model that takes records of any kind is compared with nothing', (t) => {
  t.deepEqual(declaredDifferences(readModelConfig(INPUTS, 'config.pbtxt', 'net').config, undefined), []);
});

test('every tensor that is missing, not declared, or of another type or shape is a line that names it', (t) => {
  const text = `max_batch_size: 8
    input { name: "x" data_type: TYPE_FP64 dims: 4 }
    input { name: "mask" data_type: TYPE_BF16 dims: [ 2, 3 ] }
    output { name: "y" data_type: TYPE_FP32 dims: [ -1, 3 ] }
    output { name: "label" data_type: TYPE_STRING dims: 1 }
    output { name: "n" data_type: TYPE_INT32 dims: 1 }`;
  t.deepEqual(differences(text), [
    'input "x" is float32[4], declared as float64[4]',
    'input "mask" is declared as bfloat16[2,3], and the model has none of that name, but "x", "ids"',
    'input "ids" is int64[-1], and not declared',
    'output "y" is float32[-1,2], declared as float32[-1,3]',
    'output "label" is declared as string[1], and the model has none of that name, but "y", "n"',
    'output "n" is int32[], declared as int32[1]; a single value is dims: [ 1 ] with reshape: { shape: [ ] }',
  ]);
});

test('an input may be declared narrower than the model takes it, and not wider; an output is declared as it is', (t) => {
  const declared = (dims: string): string =>
    `max_batch_size: 2 input { name: "a" data_type: TYPE_FP32 dims: [${dims}] }`;
  t.deepEqual(differences(declared('5, 7'), one('float32[-1,7]')), []);
  t.deepEqual(differences(declared('-1, 7'), one('float32[5,7]')), [
    'input "a" is float32[5,7], declared as float32[-1,7]',
  ]);
  t.is(differences(declared('7'), one('float32[5,7]')).length, 1, 'another number of dimensions');
  const output: Signature = { inputs: [], outputs: one('float32[-1,7]').inputs };
  t.is(differences('max_batch_size: 2 output { name: "a" data_type: TYPE_FP32 dims: [5, 7] }', output).length, 1);
});

test('without a batch size the dims hold the dimension of the batch or leave it out; with one they leave it out', (t) => {
  const declared = (size: string, dims: string): string =>
    `${size} input { name: "a" data_type: TYPE_FP32 dims: [${dims}] }`;
  for (const size of ['', 'max_batch_size: 0']) {
    for (const dims of ['4', '-1, 4', '1, 4']) t.deepEqual(differences(declared(size, dims), one('float32[4]')), []);
    t.deepEqual(differences(declared(size, '-1, 5'), one('float32[4]')), [
      'input "a" is float32[-1,4], declared as float32[-1,5]',
    ]);
  }
  t.is(differences(declared('max_batch_size: 1', '-1, 4'), one('float32[4]')).length, 1);
});

test('a reshape is what the model sees; ragged inputs, scattered outputs and inputs that may be left out are not held to a shape', (t) => {
  const reshaped =
    'max_batch_size: 2 input { name: "a" data_type: TYPE_FP32 dims: [ 2, 6 ] reshape { shape: [ 3, 4 ] } }';
  t.deepEqual(differences(reshaped, one('float32[3,4]')), []);
  t.is(differences(reshaped, one('float32[2,6]')).length, 1);
  const ragged = 'max_batch_size: 2 input { name: "a" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }';
  t.deepEqual(differences(ragged, one('float32[]')), []);
  t.is(differences(ragged, one('float64[]')).length, 1, 'but to a type');
  const optional = `${INPUTS} input { name: "scale" data_type: TYPE_FP32 dims: 1 optional: true }`;
  t.deepEqual(differences(`max_batch_size: 2 ${optional}`), []);
  const scattered = `${INPUTS} output { name: "y" data_type: TYPE_FP32 dims: 9 } batch_output { target_name: "y" }`;
  t.deepEqual(differences(`max_batch_size: 2 ${scattered}`), []);
});

test('inputs that the server fills by itself, of sequences and batches, need no declaration', (t) => {
  const x = 'input { name: "x" data_type: TYPE_FP32 dims: 4 }';
  for (const filled of [
    'batch_input { target_name: "ids" }',
    'sequence_batching { control_input { name: "ids" } }',
    'sequence_batching { state { input_name: "ids" output_name: "n" } }',
  ])
    t.deepEqual(differences(`max_batch_size: 2 ${x} ${filled}`), []);
});

test('a reshape of another number of values is refused when the file is read', (t) => {
  const reshape = (dims: string, shape: string): string =>
    `input { name: "a" data_type: TYPE_FP32 dims: [${dims}] reshape { shape: [${shape}] } }`;
  for (const [dims, shape] of [
    ['2, 6', '3, 4'],
    ['1', ''],
    ['1, 1', ''],
    ['-1, 4', '-1, 2, 2'],
  ] as const)
    t.notThrows(() => differences(reshape(dims, shape)));
  for (const [dims, shape] of [
    ['2, 6', '3, 5'],
    ['2', ''],
    ['-1, 4', '4, -1'],
    ['-1', '4'],
    ['4', '0'],
  ] as const) {
    const error = t.throws(() => differences(reshape(dims, shape)));
    t.regex(error?.message ?? '', /^config\.pbtxt:1:\d+: input\.reshape: "a": expected a shape of as many values/);
  }
});

// ---------------------------------------------------------------- in a pool

/** By version: one, or three numbers. */
const sizes = defineActor({
  load: ({ version = '' }) => Number(version),
  signature: (size: number): Signature => ({
    inputs: [{ name: 'x', dtype: 'float32', shape: [size] }],
    outputs: [{ name: 'x', dtype: 'float32', shape: [size] }],
  }),
  predict: (batch) => batch,
});

const declares = (size: number): string => `max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: ${size} }`;

async function mismatch(t: ExecutionContext, promise: Promise<unknown>): Promise<string> {
  const error = await t.throwsAsync(promise);
  const cause = isTroupeError(error) && error.code === 'SWAP_ROLLED_BACK' ? error.cause : error;
  t.true(isTroupeError(cause) && cause.code === 'SIGNATURE_MISMATCH', String(error));
  return (cause as Error).message;
}

test('a pool does not start with a model that is not what its config.pbtxt declares', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/config.pbtxt': declares(3) });
  await using system = createSystem({ models: { roots: [root] }, log: silentLog });
  const message = await mismatch(t, system.spawn('p', { actor: sizes, model: 'net' }));
  t.is(
    message,
    `Version 1 of "p" is not what ${root}/net/config.pbtxt declares: input "x" is float32[1], declared as float32[3]`,
  );
  t.deepEqual(system.names(), []);
});

test('a swap to a model that is not what the file declares is refused with the tensor, and the old version serves on', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/2/m': '', 'net/config.pbtxt': declares(1) });
  await using system = createSystem({ models: { roots: [root] }, log: silentLog });
  const pool = await system.spawn('p', { actor: sizes, model: 'net', version: 1 });
  t.regex(await mismatch(t, pool.swap(2)), /declares: input "x" is float32\[2\], declared as float32\[1\]$/);
  t.is(pool.version, '1');
  t.deepEqual(await pool.ask({ x: Float32Array.of(5) }), { x: Float32Array.of(5) });
  // The file lies of a version that would fit what serves.
  addTree(root, { 'net/config.pbtxt': declares(7) });
  t.regex(await mismatch(t, pool.swap(1)), /input "x" is float32\[1\], declared as float32\[7\]$/);
  t.is(pool.version, '1');
});

test('in a pool of many models the one that is not what its file declares is refused, and frees what it held', async (t) => {
  const root = makeTree(t, { 'good/1/m': 'x', 'lying/1/m': 'x', 'lying/config.pbtxt': declares(3) });
  let unloads = 0;
  const actor = { ...sizes, unload: () => void (unloads += 1) };
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn('p', { actor, models: { root, maxBytes: 100 } });
  const error = await t.throwsAsync(pool.ask({ x: Float32Array.of(1) }, { model: 'lying' }));
  t.true(isTroupeError(error) && error.code === 'MODEL_LOAD_FAILED');
  t.regex(
    await mismatch(t, Promise.reject((error as Error).cause)),
    /^Model "lying@1" of pool "p" is not what .* declares: input "x"/,
  );
  t.is(unloads, 1);
  t.deepEqual(await pool.ask({ x: Float32Array.of(1) }, { model: 'good' }), { x: Float32Array.of(1) });
});
