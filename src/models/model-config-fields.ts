/**
 * The fields of Triton's ModelConfig, by message (model_config.proto of triton-inference-server/common). Strict, as there:
 * a field that does not stand here is an error.
 *
 * Three kinds: what Troupe acts on; `later`: read, checked for form, of no effect here; `kept`: as later, but of Triton's
 * own inside, so that nothing of Troupe will ever act on it. Whoever reads a file is told of the last two; what only
 * describes (platform, labels, parameters) is handed to the actor.
 */

export type Scalar = 'string' | 'bool' | 'int32' | 'uint32' | 'int64' | 'uint64' | 'float';

export interface FieldSpec {
  /** A scalar, the names of an enum with their numbers, or a message. */
  readonly type: Scalar | EnumSpec | MessageSpec;
  readonly repeated?: true;
  /** A map<key, type>: written as repeated { key: value: }. */
  readonly key?: 'string' | 'uint64';
  /** Fields of one name here exclude each other. */
  readonly oneof?: string;
  readonly effect?: 'later' | 'kept';
  /** With one of these values, a field that has no effect needs none: it is as Troupe does it. */
  readonly moot?: readonly (string | boolean)[];
}

export interface EnumSpec {
  readonly values: Readonly<Record<string, number>>;
}

export interface MessageSpec {
  readonly fields: Readonly<Record<string, FieldSpec>>;
}

const one = <Type extends FieldSpec['type']>(type: Type) => ({ type }) as const;
const many = <Type extends FieldSpec['type']>(type: Type) => ({ type, repeated: true }) as const;
const map = <Key extends 'string' | 'uint64', Type extends FieldSpec['type']>(key: Key, type: Type) =>
  ({ type, key }) as const;
const later = <Spec extends FieldSpec>(spec: Spec) => ({ ...spec, effect: 'later' }) as const;
const unless = <Spec extends FieldSpec>(moot: readonly (string | boolean)[], spec: Spec) =>
  ({ ...later(spec), moot }) as const;
const kept = <Spec extends FieldSpec>(spec: Spec) => ({ ...spec, effect: 'kept' }) as const;
const message = <Fields extends MessageSpec['fields']>(fields: Fields) => ({ fields }) as const;
const names = <Values extends EnumSpec['values']>(values: Values) => ({ values }) as const;

const DATA_TYPE = names({
  TYPE_INVALID: 0,
  TYPE_BOOL: 1,
  TYPE_UINT8: 2,
  TYPE_UINT16: 3,
  TYPE_UINT32: 4,
  TYPE_UINT64: 5,
  TYPE_INT8: 6,
  TYPE_INT16: 7,
  TYPE_INT32: 8,
  TYPE_INT64: 9,
  TYPE_FP16: 10,
  TYPE_FP32: 11,
  TYPE_FP64: 12,
  TYPE_STRING: 13,
  TYPE_BF16: 14,
});

const RESHAPE = message({ shape: many('int64') });

const INPUT = message({
  name: one('string'),
  data_type: one(DATA_TYPE),
  format: later(one(names({ FORMAT_NONE: 0, FORMAT_NHWC: 1, FORMAT_NCHW: 2 }))),
  dims: many('int64'),
  reshape: later(one(RESHAPE)),
  is_shape_tensor: kept(one('bool')),
  allow_ragged_batch: later(one('bool')),
  optional: later(one('bool')),
  is_non_linear_format_io: kept(one('bool')),
});

const OUTPUT = message({
  name: one('string'),
  data_type: one(DATA_TYPE),
  dims: many('int64'),
  reshape: later(one(RESHAPE)),
  label_filename: one('string'),
  is_shape_tensor: kept(one('bool')),
  is_non_linear_format_io: kept(one('bool')),
});

const VERSION_POLICY = message({
  latest: { type: message({ num_versions: one('uint32') }), oneof: 'policy' },
  all: { type: message({}), oneof: 'policy' },
  specific: { type: message({ versions: many('int64') }), oneof: 'policy' },
});

const QUEUE_POLICY = message({
  timeout_action: unless(['REJECT'], one(names({ REJECT: 0, DELAY: 1 }))),
  default_timeout_microseconds: one('uint64'),
  allow_timeout_override: unless([true], one('bool')),
  max_queue_size: one('uint32'),
});

const DYNAMIC_BATCHING = message({
  preferred_batch_size: many('int32'),
  max_queue_delay_microseconds: one('uint64'),
  preserve_ordering: unless([false], one('bool')),
  priority_levels: one('uint64'),
  default_priority_level: one('uint64'),
  default_queue_policy: one(QUEUE_POLICY),
  priority_queue_policy: later(map('uint64', QUEUE_POLICY)),
});

const SEQUENCE_BATCHING = message({
  max_sequence_idle_microseconds: one('uint64'),
  control_input: many(
    message({
      name: one('string'),
      control: many(
        message({
          kind: one(
            names({
              CONTROL_SEQUENCE_START: 0,
              CONTROL_SEQUENCE_READY: 1,
              CONTROL_SEQUENCE_END: 2,
              CONTROL_SEQUENCE_CORRID: 3,
            }),
          ),
          int32_false_true: many('int32'),
          fp32_false_true: many('float'),
          bool_false_true: many('bool'),
          data_type: one(DATA_TYPE),
        }),
      ),
    }),
  ),
  direct: {
    type: message({ max_queue_delay_microseconds: one('uint64'), minimum_slot_utilization: one('float') }),
    oneof: 'strategy_choice',
  },
  oldest: {
    type: message({
      max_candidate_sequences: one('int32'),
      preferred_batch_size: many('int32'),
      max_queue_delay_microseconds: one('uint64'),
      preserve_ordering: one('bool'),
    }),
    oneof: 'strategy_choice',
  },
  state: many(
    message({
      input_name: one('string'),
      output_name: one('string'),
      data_type: one(DATA_TYPE),
      dims: many('int64'),
      initial_state: many(
        message({
          data_type: one(DATA_TYPE),
          dims: many('int64'),
          zero_data: { type: 'bool', oneof: 'state_data' },
          data_file: { type: 'string', oneof: 'state_data' },
          name: one('string'),
        }),
      ),
      use_same_buffer_for_input_output: one('bool'),
      use_growable_memory: one('bool'),
    }),
  ),
  iterative_sequence: one('bool'),
});

const INSTANCE_GROUP = message({
  name: later(one('string')),
  kind: unless(['KIND_AUTO', 'KIND_CPU'], one(names({ KIND_AUTO: 0, KIND_GPU: 1, KIND_CPU: 2, KIND_MODEL: 3 }))),
  count: one('int32'),
  rate_limiter: later(
    one(
      message({
        resources: many(message({ name: one('string'), global: one('bool'), count: one('uint32') })),
        priority: one('uint32'),
      }),
    ),
  ),
  gpus: many('int32'),
  secondary_devices: kept(many(message({ kind: one(names({ KIND_NVDLA: 0 })), device_id: one('int64') }))),
  profile: kept(many('string')),
  passive: one('bool'),
  host_policy: kept(one('string')),
});

const WARM_UP = message({
  name: one('string'),
  batch_size: one('uint32'),
  inputs: map(
    'string',
    message({
      data_type: one(DATA_TYPE),
      dims: many('int64'),
      zero_data: { type: 'bool', oneof: 'input_data_type' },
      random_data: { type: 'bool', oneof: 'input_data_type' },
      input_data_file: { type: 'string', oneof: 'input_data_type' },
    }),
  ),
  count: one('uint32'),
});

const ENSEMBLE = message({
  step: many(
    message({
      model_name: one('string'),
      model_version: one('int64'),
      input_map: map('string', 'string'),
      output_map: map('string', 'string'),
      model_namespace: one('string'),
    }),
  ),
  max_inflight_requests: one('uint32'),
});

const BATCH_KIND = names({
  BATCH_ELEMENT_COUNT: 0,
  BATCH_ACCUMULATED_ELEMENT_COUNT: 1,
  BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO: 2,
  BATCH_MAX_ELEMENT_COUNT_AS_SHAPE: 3,
  BATCH_ITEM_SHAPE: 4,
  BATCH_ITEM_SHAPE_FLATTEN: 5,
});

const CUDA = message({
  graphs: one('bool'),
  busy_wait_events: one('bool'),
  graph_spec: many(
    message({
      batch_size: one('int32'),
      input: map('string', message({ dim: many('int64') })),
      graph_lower_bound: one(
        message({ batch_size: one('int32'), input: map('string', message({ dim: many('int64') })) }),
      ),
    }),
  ),
  output_copy_stream: one('bool'),
});

const ACCELERATOR = message({ name: one('string'), parameters: map('string', 'string') });
const PINNED = message({ enable: one('bool') });

const OPTIMIZATION = message({
  graph: one(message({ level: one('int32') })),
  priority: one(names({ PRIORITY_DEFAULT: 0, PRIORITY_MAX: 1, PRIORITY_MIN: 2 })),
  cuda: one(CUDA),
  execution_accelerators: one(
    message({ gpu_execution_accelerator: many(ACCELERATOR), cpu_execution_accelerator: many(ACCELERATOR) }),
  ),
  input_pinned_memory: one(PINNED),
  output_pinned_memory: one(PINNED),
  gather_kernel_buffer_threshold: one('uint32'),
  eager_batching: one('bool'),
});

/** The outermost message of a config.pbtxt. */
export const MODEL_CONFIG = message({
  name: one('string'),
  platform: one('string'),
  backend: one('string'),
  runtime: later(one('string')),
  version_policy: one(VERSION_POLICY),
  max_batch_size: one('int32'),
  input: many(INPUT),
  output: many(OUTPUT),
  batch_input: later(
    many(
      message({
        kind: one(BATCH_KIND),
        target_name: many('string'),
        data_type: one(DATA_TYPE),
        source_input: many('string'),
      }),
    ),
  ),
  batch_output: later(
    many(
      message({
        target_name: many('string'),
        kind: one(names({ BATCH_SCATTER_WITH_INPUT_SHAPE: 0 })),
        source_input: many('string'),
      }),
    ),
  ),
  optimization: kept(one(OPTIMIZATION)),
  dynamic_batching: { type: DYNAMIC_BATCHING, oneof: 'scheduling_choice' },
  sequence_batching: { type: SEQUENCE_BATCHING, oneof: 'scheduling_choice', effect: 'later' },
  ensemble_scheduling: { type: ENSEMBLE, oneof: 'scheduling_choice' },
  instance_group: many(INSTANCE_GROUP),
  default_model_filename: one('string'),
  cc_model_filenames: kept(map('string', 'string')),
  metric_tags: map('string', 'string'),
  parameters: map('string', message({ string_value: one('string') })),
  model_warmup: many(WARM_UP),
  model_operations: kept(one(message({ op_library_filename: many('string') }))),
  model_transaction_policy: one(message({ decoupled: one('bool') })),
  model_repository_agents: kept(
    one(message({ agents: many(message({ name: one('string'), parameters: map('string', 'string') })) })),
  ),
  response_cache: one(message({ enable: one('bool') })),
  model_metrics: later(
    one(
      message({
        metric_control: many(
          message({
            metric_identifier: one(message({ family: one('string') })),
            histogram_options: one(message({ buckets: many('float') })),
          }),
        ),
      }),
    ),
  ),
});

type ScalarOf<Type> = Type extends 'string' ? string : Type extends 'bool' ? boolean : number;
type Plain<Type> = Type extends EnumSpec
  ? keyof Type['values'] & string
  : Type extends MessageSpec
    ? Decoded<Type>
    : ScalarOf<Type>;
type Held<Spec extends FieldSpec> = Spec extends { readonly key: string }
  ? Readonly<Record<string, Plain<Spec['type']>>>
  : Spec extends { readonly repeated: true }
    ? readonly Plain<Spec['type']>[]
    : Plain<Spec['type']>;

/** What a message becomes: the fields that stand in the file and no others. */
export type Decoded<Message extends MessageSpec> = {
  readonly [Name in keyof Message['fields']]?: Held<Message['fields'][Name]>;
};

/** A config.pbtxt as written, with Triton's own field names; nothing is filled in. */
export type ModelConfig = Decoded<typeof MODEL_CONFIG>;
