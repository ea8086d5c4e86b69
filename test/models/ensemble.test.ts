import test from 'ava';
import { isTroupeError } from 'troupe';
import { stepsOf } from '../../src/models/ensemble.js';
import { poolDefaults } from '../../src/models/pool-defaults.js';
import { readModelConfig } from '../../src/models/model-config.js';
import { stepPool } from '../../src/models/step-pools.js';
import { CHAIN, ensembleText, type StepText } from '../actor/ensemble-graph.js';

const read = (text: string) => readModelConfig(text, '/m/e/config.pbtxt', 'e');
const [DOUBLE, INC] = CHAIN as readonly [StepText, StepText];
const with2 = (inc: Partial<StepText>): string => ensembleText(['in'], ['out'], [DOUBLE, { ...INC, ...inc }]);

test('steps come each after those it waits for, whatever their order in the file', (t) => {
  const { config } = read(ensembleText(['in'], ['out'], [INC, DOUBLE]));
  t.deepEqual(
    stepsOf(config).map(({ index, title, version, after }) => ({ index, title, version, after })),
    [
      { index: 1, title: 'step 2 (double)', version: undefined, after: [] },
      { index: 0, title: 'step 1 (inc)', version: undefined, after: [1] },
    ],
  );
  t.deepEqual(stepsOf(read('max_batch_size: 1').config), []);
  const versions = [-1, 0, 3].map((version) => stepsOf(read(with2({ version })).config)[1]?.version);
  t.deepEqual(versions, [undefined, undefined, '3']);
});

const platform = 'platform: "ensemble"\n';
const whole = ensembleText(['in'], ['out'], CHAIN);
const REFUSED: readonly (readonly [what: string, text: string, message: RegExp])[] = [
  ['no scheduling', platform, /^\/m\/e\/config.pbtxt:1:1: platform: an ensemble needs ensemble_scheduling/],
  [
    'another platform',
    whole.replace('"ensemble"', '"onnx"'),
    /:5:1: ensemble_scheduling: expected platform: "ensemble" beside it, found "onnx"/,
  ],
  ['instance_group', `${whole}instance_group { count: 1 }`, /:17:1: instance_group: an ensemble has none/],
  ['model_warmup', `${whole}model_warmup { name: "w" }`, /:17:1: model_warmup: an ensemble has none/],
  ['optimization', `${whole}optimization { }`, /:17:1: optimization: an ensemble has none/],
  ['no step', ensembleText(['in'], ['out'], []), /:5:1: ensemble_scheduling: expected at least one step/],
  [
    'too many steps',
    ensembleText(
      ['in'],
      ['out'],
      Array.from({ length: 257 }, () => DOUBLE),
    ),
    /expected at most 256 steps, found 257/,
  ],
  ['no input', ensembleText([], ['out'], CHAIN), /an ensemble declares its input/],
  ['no output', ensembleText(['in'], [], CHAIN), /an ensemble declares its output/],
  ['bfloat16', whole.replaceAll('TYPE_FP32', 'TYPE_BF16'), /"in" is TYPE_BF16, which records cannot hold/],
  ['no model', with2({ model: '' }), /:11:8: ensemble_scheduling.step: step 2 \(\) has no model_name/],
  ['a negative version', with2({ version: -2 }), /:11:8: .*step 2 \(inc\) has the model_version -2/],
  [
    'a namespace',
    whole.replace('model_name: "inc"', 'model_name: "inc" model_namespace: "n"'),
    /step 2 \(inc\) has a model_namespace/,
  ],
  ['no input_map', with2({ takes: {} }), /:11:8: .*step 2 \(inc\) has no input_map/],
  ['no output_map', with2({ gives: {} }), /:11:8: .*step 2 \(inc\) has no output_map/],
  ['a tensor without a name', with2({ takes: { x: '' } }), /step 2 \(inc\) has a tensor without a name in input_map/],
  [
    'an unknown tensor',
    with2({ takes: { x: 'what' } }),
    /:13:15: .*step 2 \(inc\) takes "what", which is no input of the ensemble and which no step gives/,
  ],
  ['a tensor of a prototype', with2({ takes: { x: 'constructor' } }), /takes "constructor", which is no input/],
  ['one never given', ensembleText(['in'], ['out', 'more'], CHAIN), /:5:8: output: no step gives "more"/],
  [
    'given twice',
    with2({ gives: { y: 'out', z: 'doubled' } }),
    /:15:16: .*step 2 \(inc\) gives "doubled", which is given by step 1 \(double\) already/,
  ],
  [
    'an input given',
    with2({ gives: { y: 'out', z: 'in' } }),
    /step 2 \(inc\) gives "in", which is an input of the ensemble already/,
  ],
  ['unused input', ensembleText(['in', 'idle'], ['out'], CHAIN), /:4:7: input: "idle" is not used by any step/],
  ['unused tensor', with2({ gives: { y: 'out', z: 'idle' } }), /step 2 \(inc\) gives "idle", which nothing uses/],
  [
    'a circle',
    ensembleText(
      ['in'],
      ['out'],
      [
        DOUBLE,
        { model: 'a', takes: { x: 'doubled', z: 'b' }, gives: { y: 'a' } },
        { model: 'b', takes: { x: 'a' }, gives: { y: 'b', z: 'out' } },
      ],
    ),
    /:11:8: ensemble_scheduling.step: step 2 \(a\), step 3 \(b\) wait for each other/,
  ],
  [
    'a step that waits for itself',
    with2({ takes: { x: 'doubled', z: 'mine' }, gives: { y: 'mine', z: 'out' } }),
    /step 2 \(inc\) waits for itself/,
  ],
];

for (const [what, text, message] of REFUSED)
  test(`a config.pbtxt of an ensemble is refused with its place: ${what}`, (t) => {
    const error = t.throws(() => read(text));
    t.true(isTroupeError(error) && error.code === 'MODEL_CONFIG_INVALID');
    t.regex(error?.message ?? '', message);
  });

test('an ensemble has 8 replicas, whose batches may wait for a day; max_inflight_requests makes it less', (t) => {
  const of = (text: string): object =>
    Object.fromEntries(poolDefaults(read(text)).map(({ path, value, at }) => [path.join('.'), `${value} ${at.line}`]));
  const most = (count: number): string => ensembleText(['in'], ['out'], CHAIN, `  max_inflight_requests: ${count}\n`);
  const waits = { batchTimeoutMs: '86400000 5' };
  t.deepEqual(of(whole), { 'batching.maxSize': '32 2', replicas: '8 5', ...waits });
  t.deepEqual(of(`${whole}\nresponse_cache { enable: true }`), of(whole), 'its answers change with its steps');
  t.deepEqual(of(most(100)), { 'batching.maxSize': '32 2', replicas: '3 16', ...waits });
  t.deepEqual(of(most(5)), { 'batching.maxSize': '5 16', replicas: '1 16', ...waits });
  t.deepEqual(of(most(4_294_967_295)), { 'batching.maxSize': '32 2', replicas: '1024 16', ...waits });
  t.deepEqual(of(most(7).replace('max_batch_size: 32', '')), {
    'batching.maxSize': '7 16',
    replicas: '1 16',
    ...waits,
  });
});

test('the pool of a step has its name; else its model, alone or among many; and what is unclear is said', (t) => {
  const one = (name: string, model?: string) => ({ name, model, models: undefined });
  const many = (name: string, ...models: string[]) => ({ name, model: undefined, models: () => models });
  const found = (...pools: Parameters<typeof stepPool>[1]) => stepPool('net', pools);
  t.deepEqual(found(one('a', 'net'), one('net', 'other'), many('m', 'net')), { pool: 'net', model: undefined });
  t.deepEqual(found(many('m', 'net'), one('a', 'net')), { pool: 'a', model: undefined });
  t.deepEqual(found(many('net'), many('m', 'x', 'net')), { pool: 'm', model: 'net' });
  t.is(
    found(one('a', 'net'), one('b', 'net')),
    'the pools a and b have it, and none is called "net"; call the one so that is meant',
  );
  t.is(found(one('a')), 'no pool is called "net" or has a model of that name; there are a');
  t.is(found(), 'no pool is called "net" or has a model of that name; there are none');
});
