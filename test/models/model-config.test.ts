import { readFileSync } from 'node:fs';
import test from 'ava';
import fc from 'fast-check';
import { isTroupeError } from 'troupe';
import { MODEL_CONFIG, type MessageSpec } from '../../src/models/model-config-fields.js';
import { type ModelConfigFile, readModelConfig } from '../../src/models/model-config.js';
import { poolDefaults, withPoolDefaults } from '../../src/models/pool-defaults.js';

const read = (text: string): ModelConfigFile => readModelConfig(text, '/m/net/config.pbtxt', 'net');

test('the config of the model that comes with Troupe is read as written', (t) => {
  const url = new URL('../../../models/filetype/config.pbtxt', import.meta.url);
  const { config, ignored } = readModelConfig(readFileSync(url, 'utf8'), url.pathname, 'filetype');
  t.deepEqual(config, {
    name: 'filetype',
    platform: 'onnxruntime_onnx',
    max_batch_size: 256,
    version_policy: { all: {} },
    input: [{ name: 'bytes', data_type: 'TYPE_UINT8', dims: [2048] }],
    output: [{ name: 'scores', data_type: 'TYPE_FP32', dims: [79], label_filename: 'labels.txt' }],
  });
  t.deepEqual(ignored, []);
});

test('all three tiers are read; what has no effect is told with its place and its kind', (t) => {
  const { config, ignored } = read(`
name: "net" backend: "onnxruntime" runtime: "x"
max_batch_size: 8
input { name: "a" data_type: TYPE_FP32 dims: [ -1, 3 ] format: FORMAT_NCHW }
output [ { name: "b" data_type: 11 dims: 2 dims: 3 } ]
version_policy: { specific { versions: [1, 3] } }
sequence_batching { max_sequence_idle_microseconds: 5000000 oldest { max_candidate_sequences: 4 } }
parameters { key: "k" value: { string_value: "v" } }
parameters: [ { key: "l" value { string_value: "w" } } ]
model_warmup [ { name: "zeros" batch_size: 2 inputs { key: "a" value { data_type: TYPE_FP32 dims: [1, 3] zero_data: true } } } ]
optimization { cuda { graphs: true } priority: PRIORITY_MAX gather_kernel_buffer_threshold: 0x10 }
metric_tags { key: "t" value: "u" } model_metrics { }
instance_group [ { count: 2 kind: KIND_GPU gpus: [0, 1] host_policy: "p" } ]
`);
  t.deepEqual(
    config.parameters,
    Object.assign(Object.create(null), { k: { string_value: 'v' }, l: { string_value: 'w' } }),
  );
  t.deepEqual(config.output, [{ name: 'b', data_type: 'TYPE_FP32', dims: [2, 3] }]);
  t.is(config.optimization?.gather_kernel_buffer_threshold, 16);
  t.deepEqual(
    ignored.map(({ field, at, effect }) => [field, at.line, effect]),
    [
      ['runtime', 2, 'later'],
      ['input.format', 4, 'later'],
      ['sequence_batching', 7, 'later'],
      ['optimization', 11, 'kept'],
      ['model_metrics', 12, 'later'],
      ['instance_group.kind', 13, 'later'],
      ['instance_group.host_policy', 13, 'kept'],
    ],
  );
});

test('of a queue policy and its priorities is told what Troupe does otherwise, and nothing where it does not', (t) => {
  const fields = (batching: string): string[] =>
    read(`dynamic_batching { ${batching} }`).ignored.map(({ field, at }) => `${field} ${at.line}:${at.col}`);
  const inner = 'timeout_action: DELAY allow_timeout_override: false';
  t.deepEqual(fields(`preserve_ordering: true default_queue_policy { ${inner} }`), [
    'dynamic_batching.preserve_ordering 1:20',
    'dynamic_batching.default_queue_policy.timeout_action 1:67',
    'dynamic_batching.default_queue_policy.allow_timeout_override 1:89',
  ]);
  t.deepEqual(
    fields('preserve_ordering: false default_queue_policy { timeout_action: REJECT allow_timeout_override: true }'),
    [],
  );
  t.deepEqual(
    fields(`priority_levels: 1 default_priority_level: 1 priority_queue_policy { key: 1 value { ${inner} } }`),
    ['dynamic_batching.priority_queue_policy 1:65'],
  );
});

const wrong: readonly (readonly [string, string, RegExp])[] = [
  ['max_batch_sise: 4', '1:1', /no field max_batch_sise in a model configuration; it has name, platform/],
  ['input { nam: "a" }', '1:9', /no field nam in input/],
  ['name: "other"', '1:1', /name: expected "net", as the directory is called, found "other"/],
  ['name: net', '1:7', /name: expected text in quotes, found net/],
  ['max_batch_size: -1', '1:1', /at least 0/],
  ['max_batch_size: 1.5', '1:17', /expected a whole number, found 1.5/],
  ['max_batch_size: 4294967296', '1:17', /from -2147483648 to 2147483647/],
  ['max_batch_size: 1\nmax_batch_size: 2', '2:1', /a second time/],
  ['version_policy { latest { num_versions: -1 } }', '1:41', /from 0/],
  ['version_policy { latest { num_versions: 0 } }', '1:27', /at least 1/],
  ['version_policy { all {} latest {} }', '1:25', /exclude each other/],
  ['version_policy { specific {} }', '1:18', /at least one version/],
  ['dynamic_batching {} sequence_batching {}', '1:21', /exclude each other/],
  [
    'max_batch_size: 4 dynamic_batching { preferred_batch_size: [2, 8] }',
    '1:38',
    /from 1 to max_batch_size, which is 4; found 8/,
  ],
  [
    'dynamic_batching { priority_levels: 2 }',
    '1:20',
    /default_priority_level from 1 to priority_levels, which is 2; found 0/,
  ],
  [
    'dynamic_batching { priority_levels: 65537 default_priority_level: 1 }',
    '1:20',
    /priority_levels.*at most 65536 levels, found 65537/,
  ],
  ['dynamic_batching { priority_levels: 2 default_priority_level: 3 }', '1:39', /which is 2; found 3/],
  [
    'dynamic_batching { priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value {} } }',
    '1:65',
    /keys from 1 to priority_levels, which is 2; found 3/,
  ],
  [
    'dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }',
    '1:20',
    /one level of priority beside it, found 2/,
  ],
  [
    'dynamic_batching { preserve_ordering: true default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 } }',
    '1:20',
    /no timeout_action DELAY beside it/,
  ],
  ['dynamic_batching { default_queue_policy { max_queue_size: -1 } }', '1:59', /from 0 to 4294967295/],
  ['dynamic_batching { default_queue_policy { timeout_action: WAIT } }', '1:59', /one of REJECT, DELAY/],
  ['dynamic_batching { default_queue_policy { default_timeout_microseconds: "1" } }', '1:73', /a whole number/],
  ['dynamic_batching { max_queue_delay_microseconds: 18446744073709551615 }', '1:50', /from 0 to/],
  ['instance_group { count: 0 }', '1:18', /at least 1/],
  ['instance_group { count: 2000 }', '1:1', /at most 1024 instances/],
  ['instance_group { kind: KIND_CPU gpus: 0 }', '1:33', /KIND_CPU has no gpus/],
  ['instance_group { kind: KIND_TPU }', '1:24', /one of KIND_AUTO/],
  ['input { data_type: TYPE_FP32 dims: 1 }', '1:1', /every tensor has a name/],
  ['input { name: "a" dims: 1 }', '1:1', /needs a data_type/],
  ['input { name: "a" data_type: TYPE_FP32 }', '1:1', /needs dims/],
  ['input { name: "a" data_type: TYPE_FP32 dims: 0 }', '1:40', /sizes of at least 1/],
  ['input [{name:"a" data_type:1 dims:1},{name:"a" data_type:1 dims:1}]', '1:9', /two tensors/],
  ['default_model_filename: "../x.onnx"', '1:1', /name of a file in the version's directory/],
  ['default_model_filename: "a\\000b"', '1:1', /name of a file/],
  ['name: "\\377"', '1:7', /UTF-8/],
  ['parameters { key: "a" } parameters { key: "a" }', '1:36', /"a" a second time/],
  ['metric_tags: "a"', '1:14', /expected { key/],
  ['metric_tags { key: "a" }\nmetric_tags { key: "_a" }', '2:13', /begin with a letter, found "_a"/],
  ['metric_tags { key: "__name__" value: "up" }', '1:13', /begin with a letter, found "__name__"/],
  ['metric_tags { key: "1a" }', '1:13', /begin with a letter, found "1a"/],
  ['metric_tags { key: "a-b" }', '1:13', /letters, digits and _ .* found "a-b"/],
  ['metric_tags { value: "a" }', '1:13', /begin with a letter, found ""/],
  ['metric_tags { key: "a=\\"b\\",\\n" }', '1:13', /letters, digits and _/],
  [`metric_tags { key: "${'n'.repeat(129)}" }`, '1:13', /letters, digits and _/],
  [`metric_tags { key: "a" value: "${'v'.repeat(257)}" }`, '1:13', /"a": .* at most 256 characters, found 257/],
  [
    `metric_tags [ ${Array.from({ length: 9 }, (_, tag) => `{ key: "t${tag}" }`).join(', ')} ]`,
    '1:135',
    /at most 8 tags, found 9/,
  ],
  ['model_transaction_policy { decoupled: yes }', '1:39', /true or false/],
  ['dynamic_batching: 3', '1:19', /expected { … }, found 3/],
];
for (const [text, place, message] of wrong) {
  test(`${JSON.stringify(text)} is MODEL_CONFIG_INVALID at ${place}`, (t) => {
    const error = t.throws(() => read(text), { message });
    t.true(isTroupeError(error) && error.code === 'MODEL_CONFIG_INVALID', String(error));
    t.true(error?.message.startsWith(`/m/net/config.pbtxt:${place}: `), error?.message);
  });
}

test('eight tags of names for labels, with values of any text, are taken as written, and are told to nobody', (t) => {
  const names = ['team', 'Tier', 'a1_', 'constructor', 'version', 'cost_center', 'x', 'n'.repeat(128)];
  const value = `"\\ä🎭${'v'.repeat(251)}`;
  t.is(value.length, 256);
  const written = value.replace(/["\\]/g, '\\$&');
  const { config, ignored } = read(
    names.map((name) => `metric_tags { key: "${name}" value: "${written}" }`).join('\n'),
  );
  t.deepEqual(
    Object.entries(config.metric_tags ?? {}),
    names.map((name) => [name, value]),
  );
  t.deepEqual(ignored, []);
});

test('keys of maps that every object has are plain keys', (t) => {
  const { config } = read(
    'parameters { key: "__proto__" value { string_value: "x" } } metric_tags { key: "constructor" value: "y" }',
  );
  t.deepEqual(Object.keys(config.parameters ?? {}), ['__proto__']);
  t.is(config.parameters?.['toString'], undefined);
  t.is(({} as Record<string, unknown>)['string_value'], undefined);
});

test('there is no field of the name of a property of every object', (t) => {
  for (const name of ['constructor', '__proto__', 'toString', 'hasOwnProperty'])
    t.throws(() => read(`${name} { }`), { message: new RegExp(`no field ${name}`) });
});

/** The name of any field of the table, at any depth. */
function fieldNames(spec: MessageSpec): string[] {
  return Object.entries(spec.fields).flatMap(([name, { type }]) =>
    typeof type === 'object' && 'fields' in type ? [name, ...fieldNames(type)] : [name],
  );
}

test('any tree of known fields is read or MODEL_CONFIG_INVALID with file and place', (t) => {
  const words = [...new Set(fieldNames(MODEL_CONFIG)), 'TYPE_FP32', 'KIND_CPU', 'true', 'key', 'value'];
  const token = fc.oneof(
    fc.constantFrom(...words),
    fc.constantFrom(':', '{', '}', '[', ']', ',', '"a"', "'b'", '1', '-1', '0x7', '3.5'),
  );
  const { name } = fc.letrec<{ name: string; value: string }>((tie) => ({
    name: fc.tuple(fc.constantFrom(...words), tie('value')).map(([field, value]) => `${field}: ${value} `),
    value: fc.oneof(
      { depthSize: 'small' },
      fc.constantFrom('1', '"a"', 'TYPE_FP32', 'true', '[1, 2]', '{}', '[]'),
      fc.array(tie('name'), { maxLength: 3 }).map((fields) => `{ ${fields.join('')} }`),
    ),
  }));
  let good = 0;
  fc.assert(
    fc.property(fc.oneof(fc.array(name, { maxLength: 4 }), fc.array(token, { maxLength: 20 })), (parts) => {
      try {
        read(parts.join(' '));
        good++;
      } catch (error) {
        t.true(isTroupeError(error) && error.code === 'MODEL_CONFIG_INVALID', String(error));
        t.regex((error as Error).message, /^\/m\/net\/config\.pbtxt:\d+:\d+: ./);
      }
    }),
    { numRuns: 3000 },
  );
  t.true(good > 100, `${good} were read`);
});

test('batching and instances of the config are what a pool starts from', (t) => {
  const values = (text: string): unknown =>
    poolDefaults(read(text)).map(({ path, value, at }) => [path.join('.'), value, `${at.line}:${at.col}`]);
  t.deepEqual(values(''), []);
  t.deepEqual(values('max_batch_size: 64'), [['batching.maxSize', 64, '1:1']]);
  t.deepEqual(values('max_batch_size: 0'), [['batching.maxSize', 1, '1:1']]);
  t.deepEqual(
    values(
      'max_batch_size: 64\ndynamic_batching {\n preferred_batch_size: [4, 16]\n max_queue_delay_microseconds: 1500 }',
    ),
    [
      ['batching.maxSize', 16, '3:2'],
      ['batching.maxDelayMs', 1.5, '4:2'],
    ],
  );
  const sizes = Array.from({ length: 300_000 }, (_, n) => 1 + (n % 70_000)).join();
  t.like(poolDefaults(read(`max_batch_size: 70000 dynamic_batching { preferred_batch_size: [${sizes}] }`)), [
    { path: ['batching', 'maxSize'], value: 65_536 },
  ]);
  const policy = 'max_queue_size: 64\n default_timeout_microseconds: 2500';
  t.deepEqual(
    values(`dynamic_batching { default_queue_policy {\n ${policy} } priority_levels: 3 default_priority_level: 2 }`),
    [
      ['mailbox.capacity', 64, '2:2'],
      ['mailbox.maxWaitMs', 2.5, '3:2'],
      ['mailbox.priorityLevels', 3, '3:39'],
      ['mailbox.defaultPriorityLevel', 2, '3:58'],
    ],
  );
  t.deepEqual(
    values('dynamic_batching { default_queue_policy { max_queue_size: 0 default_timeout_microseconds: 0 } }'),
    [],
    'as many as there are, and for as long as it takes',
  );
  t.deepEqual(
    values('dynamic_batching { default_queue_policy { default_timeout_microseconds: 9 timeout_action: DELAY } }'),
    [],
    'what is delayed is not refused',
  );
  t.deepEqual(values('dynamic_batching { default_queue_policy { default_timeout_microseconds: 9 } }'), [
    ['mailbox.maxWaitMs', 1, '1:43'],
  ]);
  t.deepEqual(values('instance_group [ { count: 2 gpus: [0, 1] }, { count: 3 kind: KIND_CPU }, { passive: true } ]'), [
    ['replicas', 7, '1:1'],
  ]);
  t.deepEqual(values('instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU passive: true } ]'), [
    ['replicas', 1, '1:1'],
    ['device', 'cpu', '1:20'],
  ]);
  t.deepEqual(values('instance_group { passive: true kind: KIND_CPU }'), []);
  t.deepEqual(values('response_cache { enable: true }'), [['cache', true, '1:18']]);
  t.deepEqual(values('response_cache { enable: false }'), [['cache', false, '1:18']]);
  t.deepEqual(values('response_cache {}'), []);
});

test('what the user says goes before what the config says, each option by itself', (t) => {
  const defaults = poolDefaults(read('max_batch_size: 64 dynamic_batching { max_queue_delay_microseconds: 2000 }'));
  t.deepEqual<unknown, unknown>(withPoolDefaults({ batching: { maxSize: 8 } }, defaults), {
    batching: { maxSize: 8, maxDelayMs: 2 },
  });
  t.deepEqual<unknown, unknown>(withPoolDefaults({}, defaults), { batching: { maxSize: 64, maxDelayMs: 2 } });
  t.deepEqual<unknown, unknown>(withPoolDefaults({ batching: 'no' }, defaults), { batching: 'no' });
  const cache = poolDefaults(read('response_cache { enable: true }'));
  for (const said of [false, true, { maxBytes: 1000 }])
    t.deepEqual<unknown, unknown>(withPoolDefaults({ cache: said }, cache), { cache: said });
});
