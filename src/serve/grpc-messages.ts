import { TroupeError } from '../kernel/errors.js';
import { OIP_DATATYPES } from './oip-datatype.js';
import { shownName } from './oip-invalid.js';
import { BYTES, ProtoReader } from './proto-reader.js';
import { ProtoWriter } from './proto-writer.js';

/**
 * The small messages of `inference.GRPCInferenceService` and of `grpc.health.v1.Health`, as tables of field numbers. What is
 * told over gRPC is the plain data that is told over HTTP: its keys are the names of the fields.
 * ModelInferRequest and its answer are in grpc-infer-message.ts.
 */

/** `texts`: a map from texts to texts. */
type Scalar = 'string' | 'bool' | 'number' | 'numbers' | 'strings' | 'texts';

interface Field {
  readonly number: number;
  readonly kind: Scalar | 'enum' | 'message' | 'messages';
  /** Of an enum. */
  readonly values?: ReadonlyMap<string, number>;
  /** Of a message. */
  readonly fields?: MessageTable;
}

export type MessageTable = ReadonlyMap<string, Field>;

type Row = readonly [number, Scalar | Omit<Field, 'number'>];

const table = (rows: Readonly<Record<string, Row>>): MessageTable =>
  new Map(
    Object.entries(rows).map(([name, [number, kind]]) => [
      name,
      typeof kind === 'string' ? { number, kind } : { number, ...kind },
    ]),
  );
const one = (fields: MessageTable): Omit<Field, 'number'> => ({ kind: 'message', fields });
const many = (fields: MessageTable): Omit<Field, 'number'> => ({ kind: 'messages', fields });
const oneOf = (...values: readonly (readonly [string, number])[]): Omit<Field, 'number'> => ({
  kind: 'enum',
  values: new Map(values),
});

export const EMPTY = table({});
const TEXT_ENTRY = table({ key: [1, 'string'], value: [2, 'string'] });
export const SERVER_LIVE = table({ live: [1, 'bool'] });
export const READY = table({ ready: [1, 'bool'] });
export const SERVER_METADATA = table({ name: [1, 'string'], version: [2, 'string'], extensions: [3, 'strings'] });
/** Of ModelReady, ModelMetadata, ModelConfig and ModelStatistics. */
export const MODEL_REQUEST = table({ name: [1, 'string'], version: [2, 'string'] });

const TENSOR_METADATA = table({ name: [1, 'string'], datatype: [2, 'string'], shape: [3, 'numbers'] });
export const MODEL_METADATA = table({
  name: [1, 'string'],
  versions: [2, 'strings'],
  platform: [3, 'string'],
  inputs: [4, many(TENSOR_METADATA)],
  outputs: [5, many(TENSOR_METADATA)],
});

/** By number, as model_config.proto has them. */
const CONFIG_TYPES = ['BOOL', 'UINT8', 'UINT16', 'UINT32', 'UINT64', 'INT8', 'INT16', 'INT32', 'INT64', 'FP16', 'FP32']
  .concat('FP64', 'BYTES', 'BF16')
  .map((name, index) => [OIP_DATATYPES.get(name)?.configName ?? name, index + 1] as const);
const CONFIG_TENSOR = { name: [1, 'string'], data_type: [2, oneOf(...CONFIG_TYPES)] } as const;
const INSTANCE_KINDS = oneOf(['KIND_AUTO', 0], ['KIND_GPU', 1], ['KIND_CPU', 2], ['KIND_MODEL', 3]);
const ENSEMBLE_STEP = table({
  model_name: [1, 'string'],
  model_version: [2, 'number'],
  input_map: [3, 'texts'],
  output_map: [4, 'texts'],
});
export const MODEL_CONFIG = table({
  config: [
    1,
    one(
      table({
        name: [1, 'string'],
        platform: [2, 'string'],
        version_policy: [3, one(table({ latest: [1, one(table({ num_versions: [1, 'number'] }))] }))],
        max_batch_size: [4, 'number'],
        input: [5, many(table({ ...CONFIG_TENSOR, dims: [4, 'numbers'], optional: [8, 'bool'] }))],
        output: [6, many(table({ ...CONFIG_TENSOR, dims: [3, 'numbers'] }))],
        instance_group: [7, many(table({ name: [1, 'string'], count: [2, 'number'], kind: [4, INSTANCE_KINDS] }))],
        dynamic_batching: [
          11,
          one(
            table({
              preferred_batch_size: [1, 'numbers'],
              max_queue_delay_microseconds: [2, 'number'],
              preserve_ordering: [3, 'bool'],
            }),
          ),
        ],
        ensemble_scheduling: [15, one(table({ step: [1, many(ENSEMBLE_STEP)], max_inflight_requests: [2, 'number'] }))],
        backend: [17, 'string'],
        model_transaction_policy: [19, one(table({ decoupled: [1, 'bool'] }))],
        response_cache: [24, one(table({ enable: [1, 'bool'] }))],
      }),
    ),
  ],
});

const DURATION = one(table({ count: [1, 'number'], ns: [2, 'number'] }));
const INFER_STATISTICS = table({
  success: [1, DURATION],
  fail: [2, DURATION],
  queue: [3, DURATION],
  compute_input: [4, DURATION],
  compute_infer: [5, DURATION],
  compute_output: [6, DURATION],
  cache_hit: [7, DURATION],
  cache_miss: [8, DURATION],
});
export const MODEL_STATISTICS = table({
  model_stats: [
    1,
    many(
      table({
        name: [1, 'string'],
        version: [2, 'string'],
        last_inference: [3, 'number'],
        inference_count: [4, 'number'],
        execution_count: [5, 'number'],
        inference_stats: [6, one(INFER_STATISTICS)],
      }),
    ),
  ],
});

export const REPOSITORY_INDEX_REQUEST = table({ repository_name: [1, 'string'], ready: [2, 'bool'] });
export const REPOSITORY_INDEX = table({
  models: [
    1,
    many(table({ name: [1, 'string'], version: [2, 'string'], state: [3, 'string'], reason: [4, 'string'] })),
  ],
});
/** Of the map of parameters there is only to know whether it is empty. */
/** An entry of the map of parameters; only texts are asked for. */
export const LOAD_PARAMETER = table({ key: [1, 'string'], value: [2, one(table({ string_param: [3, 'string'] }))] });
export const REPOSITORY_MODEL_REQUEST = table({
  repository_name: [1, 'string'],
  model_name: [2, 'string'],
  parameters: [3, many(EMPTY)],
});

export const HEALTH_REQUEST = table({ service: [1, 'string'] });
export const HEALTH_RESPONSE = table({
  status: [1, oneOf(['UNKNOWN', 0], ['SERVING', 1], ['NOT_SERVING', 2], ['SERVICE_UNKNOWN', 3])],
});

/** What of `value` the table has; the default of proto3 (0, '', false, an empty list) is left out. */
export function encodeMessage(fields: MessageTable, value: object): Buffer {
  const writer = new ProtoWriter();
  const own = new Map<string, unknown>(Object.entries(value));
  for (const [name, field] of fields) {
    const given = own.get(name);
    if (given !== undefined) writeField(writer, field, given);
  }
  return writer.bytes;
}

function writeField(writer: ProtoWriter, { number, kind, fields = EMPTY, values }: Field, given: unknown): void {
  switch (kind) {
    case 'string':
      if (given !== '') writer.text(number, given as string);
      return;
    case 'bool':
      if (given === true) writer.number(number, 1);
      return;
    case 'number':
      if (given !== 0) writer.number(number, given as number);
      return;
    case 'enum': {
      const value = values?.get(given as string) ?? 0;
      if (value !== 0) writer.number(number, value);
      return;
    }
    case 'message':
      writer.message(number, encodeMessage(fields, given as object));
      return;
    case 'strings':
      for (const text of given as readonly string[]) writer.text(number, text);
      return;
    case 'texts':
      for (const [key, text] of Object.entries(given as object))
        writer.message(number, encodeMessage(TEXT_ENTRY, { key, value: text }));
      return;
    case 'messages':
      for (const part of given as readonly object[]) writer.message(number, encodeMessage(fields, part));
      return;
    case 'numbers': {
      const packed = new ProtoWriter();
      for (const value of given as readonly number[]) packed.varint(value);
      if (packed.bytes.length > 0) writer.message(number, packed.bytes);
      return;
    }
    default:
      kind satisfies never;
  }
}

/** A request: its texts, its flags, and its lists of messages as they came. */
export interface Asked {
  text(name: string): string;
  flag(name: string): boolean;
  messages(name: string): readonly Buffer[];
}

/** Throws PARSE_FAILED. */
export function decodeMessage(fields: MessageTable, bytes: Buffer): Asked {
  const byNumber = new Map([...fields].map(([name, { number, kind }]) => [number, { name, kind }]));
  const found = new Map<string, string | boolean>();
  const lists = new Map<string, Buffer[]>();
  const reader = new ProtoReader(bytes);
  while (reader.next()) {
    const field = byNumber.get(reader.number);
    if (field?.kind === 'string') found.set(field.name, shortText(reader, field.name));
    else if (field?.kind === 'bool') found.set(field.name, reader.bool());
    else if (field?.kind === 'messages') {
      const list = lists.get(field.name) ?? [];
      longer(list, reader.slice(), field.name);
      lists.set(field.name, list);
    } else reader.skip();
  }
  return {
    text: (name) => String(found.get(name) ?? ''),
    flag: (name) => found.get(name) === true,
    messages: (name) => lists.get(name) ?? [],
  };
}

/** Of one list in a message that somebody else wrote. */
const ITEMS_MAX = 65_536;

/**
 * A message of a server of others as plain data, by the names of the fields; a field that is not there has its default, one
 * that is a message is undefined then. Throws PARSE_FAILED.
 */
export function decodePlain(fields: MessageTable, bytes: Buffer): Readonly<Record<string, unknown>> {
  const byNumber = new Map([...fields].map(([name, field]) => [field.number, { name, ...field }]));
  const plain: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const [name, { kind }] of fields) plain[name] = defaultOf(kind);
  const reader = new ProtoReader(bytes);
  while (reader.next()) {
    const field = byNumber.get(reader.number);
    if (field === undefined) reader.skip();
    else plain[field.name] = valueOf(reader, field, plain[field.name]);
  }
  return plain;
}

function defaultOf(kind: Field['kind']): unknown {
  switch (kind) {
    case 'string':
    case 'enum':
      return '';
    case 'bool':
      return false;
    case 'number':
      return 0;
    case 'message':
      return undefined;
    case 'strings':
    case 'numbers':
    case 'messages':
    case 'texts':
      return [];
    default:
      return kind satisfies never;
  }
}

/** `before`: what the field had until now, which a list grows on. */
function valueOf(reader: ProtoReader, field: Field & { readonly name: string }, before: unknown): unknown {
  const { kind, name, fields = EMPTY, values } = field;
  switch (kind) {
    case 'string':
      return shortText(reader, name);
    case 'bool':
      return reader.bool();
    case 'number':
      return reader.int();
    case 'enum': {
      const given = reader.int();
      return [...(values ?? [])].find(([, number]) => number === given)?.[0] ?? '';
    }
    case 'message':
      return decodePlain(fields, reader.slice());
    case 'strings':
      return longer(before, shortText(reader, name), name);
    case 'messages':
      return longer(before, decodePlain(fields, reader.slice()), name);
    case 'texts':
      return longer(before, decodePlain(TEXT_ENTRY, reader.slice()), name);
    case 'numbers': {
      if (reader.wire !== BYTES) return longer(before, reader.int(), name);
      const packed = new ProtoReader(reader.slice());
      while (!packed.isAtEnd) longer(before, packed.nextInt(), name);
      return before;
    }
    default:
      return kind satisfies never;
  }
}

function longer(list: unknown, item: unknown, name: string): unknown {
  const items = list as unknown[];
  if (items.length === ITEMS_MAX) throw new TroupeError('PARSE_FAILED', `${name} has more than ${ITEMS_MAX} items`);
  items.push(item);
  return items;
}

/** Of a name or a version. */
const NAME_CHARS_MAX = 65_536;

function shortText(reader: ProtoReader, name: string): string {
  const text = reader.text();
  if (text.length <= NAME_CHARS_MAX) return text;
  throw new TroupeError('INPUT_INVALID', `${name} is longer than ${NAME_CHARS_MAX} characters: ${shownName(text)}`);
}
