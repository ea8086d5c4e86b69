import test from 'ava';
import { isTroupeError } from 'troupe';
import { type ModelConfigFile, readModelConfig } from '../../src/models/model-config.js';

const read = (text: string): ModelConfigFile => readModelConfig(text, '/m/net/config.pbtxt', 'net');

/** A warm-up of one input. */
const one = (input: string, rest = 'batch_size: 1'): string =>
  `model_warmup { name: "w" ${rest} inputs { key: "a" value { ${input} } } }`;

test('a warm-up is read with its place, its inputs in their types, and the runs it asks for', (t) => {
  const { warmUps, ignored } = read(`max_batch_size: 8
input { name: "b" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [] } }
input { name: "c" data_type: TYPE_FP32 dims: [ -1, 4, -1 ] reshape { shape: [ -1, 2, 2, -1 ] } }
model_warmup [
  { name: "zeros" batch_size: 2 inputs { key: "a" value { data_type: TYPE_FP16 dims: [ 1, 3 ] zero_data: false } } },
  { name: "many" batch_size: 8 count: 5
    inputs { key: "b" value { data_type: TYPE_INT64 dims: 1 random_data: true } }
    inputs { key: "c" value { data_type: TYPE_STRING dims: [ 3, 4, 7 ] input_data_file: "text/a.bin" } } },
  { name: "none" inputs { key: "a" value { dims: -1 } } }
]`);
  t.false(ignored.some(({ field }) => field.startsWith('model_warmup')));
  t.deepEqual(warmUps, [
    {
      name: 'zeros',
      file: '/m/net/config.pbtxt',
      at: { line: 5, col: 3 },
      batchSize: 2,
      count: 1,
      mayHoldBatch: false,
      inputs: [{ name: 'a', dtype: 'float16', dims: [1, 3], from: 'zeros' }],
    },
    {
      name: 'many',
      file: '/m/net/config.pbtxt',
      at: { line: 6, col: 3 },
      batchSize: 8,
      count: 5,
      mayHoldBatch: false,
      inputs: [
        { name: 'b', dtype: 'int64', dims: [], from: 'random' },
        { name: 'c', dtype: 'string', dims: [3, 2, 2, 7], from: { file: 'text/a.bin' } },
      ],
    },
  ]);
});

test('a model without max_batch_size may have the dimension of the batch in the dims of its warm-up', (t) => {
  const [warmUp] = read(one('data_type: TYPE_BOOL dims: [ 4, 2 ] zero_data: true')).warmUps;
  t.like(warmUp, { batchSize: 1, mayHoldBatch: true, inputs: [{ name: 'a', dtype: 'bool', dims: [4, 2] }] });
});

const wrong: readonly (readonly [text: string, place: string, message: RegExp])[] = [
  [one('dims: 1 zero_data: true'), '1:64', /inputs.data_type: "a" of "w": needs a data_type/],
  [one('data_type: TYPE_BF16 dims: 1 zero_data: true'), '1:64', /TYPE_BF16 is no type of a tensor here/],
  [one('data_type: TYPE_FP32 zero_data: true'), '1:64', /needs dims/],
  [one('data_type: TYPE_FP32 dims: [2, -1] zero_data: true'), '1:64', /those that vary too; found 2, -1/],
  [one('data_type: TYPE_FP32 dims: 0 zero_data: true'), '1:64', /at least 1/],
  [one('data_type: TYPE_FP32 dims: 1'), '1:64', /needs one of zero_data, random_data and input_data_file/],
  [one('data_type: TYPE_FP32 dims: 1 zero_data: true random_data: true'), '1:111', /exclude each other/],
  [one('data_type: TYPE_FP32 dims: 1 input_data_file: ""'), '1:64', /it has no name/],
  [one('data_type: TYPE_FP32 dims: 1 input_data_file: "../a"'), '1:64', /leads out of the directory/],
  [one('data_type: TYPE_FP32 dims: 1 input_data_file: "/etc/passwd"'), '1:64', /absolute path/],
  [one('data_type: TYPE_FP32 dims: 1 input_data_file: "a\\\\b"'), '1:64', /characters that are not for file names/],
  [
    one('data_type: TYPE_FP32 dims: 1 zero_data: true', 'batch_size: 2'),
    '1:14',
    /at most 1, as max_batch_size is 0; found 2/,
  ],
  [`max_batch_size: 4 ${one('data_type: 1 dims: 1 zero_data: true', 'batch_size: 5')}`, '1:32', /at most 4/],
  [one('data_type: TYPE_FP32 dims: [65536, 65536] zero_data: true'), '1:14', /at most 1073741824 bytes in a run/],
  [
    one('data_type: TYPE_STRING dims: 1000001 zero_data: true'),
    '1:14',
    /at most 1000000 texts in a run, found 1000001/,
  ],
  [
    `max_batch_size: 8 ${one('data_type: TYPE_STRING dims: [500, 501] zero_data: true', 'batch_size: 4')}`,
    '1:32',
    /at most 1000000 texts in a run, found 1002000/,
  ],
  [one(`data_type: TYPE_FP32 dims: [${'9007199254740991,'.repeat(30)} 1] zero_data: true`), '1:14', /found Infinity/],
  [one('data_type: TYPE_FP32 dims: 1 zero_data: true', 'batch_size: -1'), '1:38', /from 0 to/],
  [one('data_type: TYPE_FP32 dims: 1 zero_data: true', 'batch_size: 1 count: 4294967296'), '1:47', /from 0 to/],
  ['model_warmup { batches: 1 }', '1:16', /no field batches in model_warmup/],
];
for (const [text, place, message] of wrong) {
  test(`${text.slice(0, 160)} is MODEL_CONFIG_INVALID at ${place}`, (t) => {
    const error = t.throws(() => read(text), { message });
    t.true(isTroupeError(error) && error.code === 'MODEL_CONFIG_INVALID', String(error));
    t.true(error?.message.startsWith(`/m/net/config.pbtxt:${place}: `), error?.message);
  });
}

test('an input that is called as every object has something is an input', (t) => {
  const text = one('data_type: TYPE_FP32 dims: 1 zero_data: true').replace('key: "a"', 'key: "__proto__"');
  t.deepEqual(
    read(text).warmUps[0]?.inputs.map(({ name }) => name),
    ['__proto__'],
  );
});
