import path from 'node:path';
import test from 'ava';
import {
  type Columns,
  createSystem,
  defineActor,
  type DType,
  isTroupeError,
  type Signature,
  silentLog,
  type TensorRecord,
} from 'troupe';
import { parseConfig } from '../../src/config/load.js';
import { makeTree } from '../models/model-tree.js';
import { CHAIN, ensembleDir, ensembleText, numbers, type StepText } from './ensemble-graph.js';

const [DOUBLE, INC] = CHAIN as readonly [StepText, StepText];

/** Answers each input as the output of the same place. */
function echo(signature: Signature) {
  return defineActor({
    signature,
    predict: ({ count, columns }: Columns): Columns => ({
      count,
      columns: Object.fromEntries(
        signature.outputs.map(({ name, shape }, at) => {
          const given = columns[signature.inputs[at]?.name ?? ''] as Columns['columns'][string];
          return [name, { ...given, shape: shape.includes(-1) ? given.shape : shape }];
        }),
      ),
    }),
  });
}

const tensor = (name: string, dtype: DType, ...shape: number[]) => ({ name, dtype, shape });

test('tensors pass between shapes that hold as many values, single values bare or in an array', async (t) => {
  await using system = createSystem({ log: silentLog });
  const inputs = [
    tensor('flag', 'bool'),
    tensor('id', 'int64'),
    tensor('text', 'string', 1),
    tensor('rows', 'float32', 2, 2),
    tensor('any', 'uint8', -1),
  ];
  const outputs = [
    tensor('flag2', 'bool'),
    tensor('id2', 'int64'),
    tensor('text2', 'string', 1),
    tensor('rows2', 'float32', 2, 2),
    tensor('any2', 'uint8', -1),
  ];
  await system.spawn('first', { actor: echo({ inputs, outputs }) });
  const single = (name: string, type: string, dims: string): string =>
    `input { name: "${name}" data_type: ${type} ${dims} }\noutput { name: "${name}2" data_type: ${type} ${dims} }\n`;
  const map = (name: string): string =>
    `input_map { key: "${name}" value: "${name}" }\noutput_map { key: "${name}2" value: "${name}2" }\n`;
  const names = ['flag', 'id', 'text', 'rows', 'any'];
  const text = [
    'platform: "ensemble" max_batch_size: 8',
    single('flag', 'TYPE_BOOL', 'dims: 1'),
    single('id', 'TYPE_INT64', 'dims: 1'),
    single('text', 'TYPE_STRING', 'dims: 1 reshape { }'),
    single('rows', 'TYPE_FP32', 'dims: 4'),
    single('any', 'TYPE_UINT8', 'dims: -1'),
    `ensemble_scheduling { step { model_name: "first" ${names.map(map).join('')} } }`,
  ].join('\n');
  const pool = await system.spawn<TensorRecord, TensorRecord>('e', { actor: 'ensemble', model: ensembleDir(t, text) });
  const record = (length: number) => ({
    flag: Uint8Array.of(1),
    id: BigInt64Array.of(-5n),
    text: 'word',
    rows: Float32Array.of(1, 2, 3, 4),
    any: new Uint8Array(length).fill(7),
  });
  const answers = await pool.askMany([record(1), record(3), record(0), record(3)]);
  t.deepEqual(
    answers.map((answer) => (answer.ok ? answer.value : answer.error)),
    [1, 3, 0, 3].map((length) =>
      Object.fromEntries(Object.entries(record(length)).map(([name, value]) => [`${name}2`, value])),
    ),
    'records of one batch whose tensors differ in length have each its own',
  );
});

test('without a batch size the dims of an ensemble may hold the dimension of the batch', async (t) => {
  await using system = createSystem({ log: silentLog });
  await system.spawn('double', { actor: numbers(['x'], (x) => 2 * x) });
  await system.spawn('inc', { actor: numbers(['x'], (x) => x + 1) });
  const text = ensembleText(['in'], ['out'], CHAIN).replace('max_batch_size: 32', 'max_batch_size: 0');
  const model = ensembleDir(t, text.replaceAll('dims: [ 2 ]', 'dims: [ -1, 2 ]'));
  const pool = await system.spawn<TensorRecord, TensorRecord>('e', { actor: 'ensemble', model });
  t.deepEqual(pool.signature?.inputs, [tensor('in', 'float32', 2)]);
  t.deepEqual(await pool.ask({ in: Float32Array.of(1, 2) }), { out: Float32Array.of(3, 5) });
});

test('a tensor may be called __proto__', async (t) => {
  await using system = createSystem({ log: silentLog });
  await system.spawn('first', {
    actor: echo({ inputs: [tensor('__proto__', 'float32', 2)], outputs: [tensor('__proto__', 'float32', 2)] }),
  });
  const steps = [
    {
      model: 'first',
      takes: JSON.parse('{"__proto__":"in"}') as never,
      gives: JSON.parse('{"__proto__":"__proto__"}') as never,
    },
  ];
  const model = ensembleDir(t, ensembleText(['in'], ['__proto__'], steps));
  const pool = await system.spawn<TensorRecord, TensorRecord>('e', { actor: 'ensemble', model });
  const answer = await pool.ask({ in: Float32Array.of(1, 2) });
  t.deepEqual(Object.entries(answer), [['__proto__', Float32Array.of(1, 2)]]);
});

const graph = (inc: Partial<StepText>, more: readonly StepText[] = []): string =>
  ensembleText(['in'], ['out'], [DOUBLE, { ...INC, ...inc }, ...more]);

const MISFITS: readonly (readonly [what: string, text: string, message: RegExp])[] = [
  [
    'no pool',
    graph({ model: 'nobody' }),
    /:11:8: ensemble_scheduling.step: step 2 \(nobody\): no pool is called "nobody" or has a model of that name; there are /,
  ],
  [
    'no tensors',
    graph({ model: 'rows' }),
    /:11:8: .*step 2 \(rows\): pool "rows" takes records of any kind and no tensors/,
  ],
  [
    'many answers',
    graph({ model: 'many' }),
    /:11:8: .*step 2 \(many\): pool "many" answers a record any number of times, and a step has one answer/,
  ],
  [
    'an unknown input',
    graph({ takes: { z: 'doubled' } }),
    /:13:15: .*input_map: step 2 \(inc\): its model has no input "z", but "x"$/,
  ],
  [
    'an unknown output',
    graph({ gives: { z: 'out' } }),
    /:14:16: .*output_map: step 2 \(inc\): its model has no output "z", but "y"$/,
  ],
  [
    'an input without a tensor',
    graph({ model: 'sum', takes: { a: 'doubled' } }),
    /:11:8: .*step 2 \(sum\): no tensor is mapped to its input "b"$/,
  ],
  [
    'another type',
    graph({ model: 'whole', gives: { y: 'out' } }),
    /:13:15: .*"doubled" does not fit: step 1 \(double\) gives it as float32\[2\], its input "x" is int32\[2\]$/,
  ],
  [
    'another shape',
    graph({ model: 'three' }),
    /"doubled" does not fit: step 1 \(double\) gives it as float32\[2\], its input "x" is float32\[3\]$/,
  ],
  [
    'an input of another type',
    ensembleText(['in'], ['out'], CHAIN).replace('FP32', 'FP64'),
    /:8:15: .*"in" does not fit: the ensemble takes it as float64\[2\], its input "x" is float32\[2\]$/,
  ],
  [
    'an output of another shape',
    ensembleText(['in'], ['out'], CHAIN).replace(
      '"out" data_type: TYPE_FP32 dims: [ 2 ]',
      '"out" data_type: TYPE_FP32 dims: [ 5 ]',
    ),
    /:4:8: output: "out" does not fit: step 2 \(inc\) gives it as float32\[2\], it is declared as float32\[5\]$/,
  ],
];

for (const [what, text, message] of MISFITS)
  test(`an ensemble that does not fit the pools of its steps does not start, and says where: ${what}`, async (t) => {
    await using system = createSystem({ log: silentLog });
    await system.spawn('double', { actor: numbers(['x'], (x) => 2 * x) });
    await system.spawn('inc', { actor: numbers(['x'], (x) => x + 1) });
    await system.spawn('sum', { actor: numbers(['a', 'b'], (a, b) => a + b) });
    await system.spawn('rows', { actor: defineActor({ predict: (batch: string[]) => batch }) });
    const [x, y] = [tensor('x', 'float32', 2), tensor('y', 'float32', 2)];
    const many = defineActor({ signature: { inputs: [x], outputs: [y], decoupled: true }, predict: () => [] });
    await system.spawn('many', { actor: many });
    for (const [name, dtype, size] of [
      ['whole', 'int32', 2],
      ['three', 'float32', 3],
    ] as const)
      await system.spawn(name, {
        actor: echo({ inputs: [tensor('x', dtype, size)], outputs: [tensor('y', dtype, size)] }),
      });
    const error = await t.throwsAsync(system.spawn('e', { actor: 'ensemble', model: ensembleDir(t, text) }));
    t.true(isTroupeError(error) && error.code === 'MODEL_CONFIG_INVALID', String(error));
    t.regex(error?.message ?? '', /^Pool "e": \/.*\/e\/config\.pbtxt:\d+:\d+: /);
    t.regex(error?.message ?? '', message);
    t.is(system.get('e'), undefined);
  });

test('what an ensemble cannot be spawned with is told at once', async (t) => {
  await using system = createSystem({ log: silentLog });
  const root = makeTree(t, { 'net/1/': '', 'plain/1/': '', 'plain/config.pbtxt': 'max_batch_size: 2' });
  const spawn = (options: object) => system.spawn('e', { actor: 'ensemble', ...options });
  await t.throwsAsync(spawn({}), { instanceOf: TypeError, message: /model: must be given for actor ensemble/ });
  const model = path.join(root, 'net');
  await t.throwsAsync(spawn({ model, isolation: 'thread' }), {
    message: /isolation: must be inline for actor ensemble/,
  });
  await t.throwsAsync(spawn({ models: { maxBytes: 1, root } }), { message: /model: must be given for actor ensemble/ });
  await t.throwsAsync(spawn({ model }), {
    message: /needs a model whose config.pbtxt has ensemble_scheduling; this one has no config.pbtxt/,
  });
  await t.throwsAsync(spawn({ model: path.join(root, 'plain') }), { message: /plain\/config.pbtxt has none$/ });
  await t.throwsAsync(spawn({ model: ensembleDir(t, graph({})), options: { a: 1 } }), {
    message: /actor ensemble has no options, got a$/,
  });
  await t.throwsAsync(spawn({ model: path.join(root, 'none') }), { message: /none/ });
  t.deepEqual(system.names(), []);
});

test('check tells what can be known of an ensemble before anything runs', (t) => {
  const declared = (dtype: string): string =>
    `max_batch_size: 4 input { name: "x" data_type: ${dtype} dims: 2 } output { name: "y" data_type: ${dtype} dims: 2 }`;
  const dir = makeTree(t, {
    'double/1/': '',
    'double/config.pbtxt': declared('TYPE_FP32'),
    'inc/1/': '',
    'inc/config.pbtxt': declared('TYPE_INT32'),
    'e/1/': '',
    'e/config.pbtxt': ensembleText(['in'], ['out'], CHAIN),
    'plain/1/': '',
  });
  const file = path.join(dir, 'troupe.yaml');
  const problems = (pools: string): string => {
    try {
      parseConfig(`pools:\n${pools}`, { file, env: {} });
      return 'none';
    } catch (error) {
      return (error as Error).message.replaceAll(dir, '');
    }
  };
  const e = '  e: { actor: ensemble, model: ./e }\n';
  t.regex(
    problems(e),
    /^\/troupe.yaml:2:32 pools.e.model: \/e\/config.pbtxt:6:8: ensemble_scheduling.step: step 1 \(double\): no pool is called "double"/,
  );
  const double = '  any: { actor: mock, model: ./double }\n';
  t.regex(problems(e + double), /step 2 \(inc\): no pool is called "inc"/);
  t.is(problems(`${e}${double}  inc: { actor: mock }\n`), 'none', 'what inc takes is not known yet');
  t.is(problems(`${e}${double}  zoo: { actor: mock, models: { list: [inc@1, x], maxBytes: 9 } }\n`), 'none');
  t.regex(
    problems(`${e}${double}  inc: { actor: mock, model: ./inc }\n`),
    /\/e\/config.pbtxt:13:15: .*"doubled" does not fit: step 1 \(double\) gives it as float32\[2\], its input "x" is int32\[2\]/,
  );
  t.regex(
    problems(`${e}${double}  zoo: { actor: mock, models: { root: ., maxBytes: 9 } }\n`),
    /"doubled" does not fit/,
  );
  t.regex(
    problems('  e: { actor: ensemble, model: ./double }\n'),
    /double\/config.pbtxt has no ensemble_scheduling, which actor ensemble needs/,
  );
  t.regex(problems('  e: { actor: ensemble }\n'), /pools.e.model: .*must be given for actor ensemble/);
  t.regex(problems('  e: { actor: ensembel, model: ./e }\n'), /did you mean ensemble\?/);
});
