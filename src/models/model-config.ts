import { TroupeError } from '../kernel/errors.js';
import type { WarmUp } from '../wire/warm-up.js';
import { checkEnsemble } from './ensemble.js';
import {
  type EnumSpec,
  type FieldSpec,
  type MessageSpec,
  MODEL_CONFIG,
  type ModelConfig,
  type Scalar,
} from './model-config-fields.js';
import { checkDynamicBatching } from './dynamic-batching.js';
import { checkMetricTags } from './metric-tags.js';
import { readWarmUps } from './warm-up.js';
import { parseTextProto, type ProtoField, type ProtoValue, type TextPosition, TextProtoError } from './text-proto.js';

/**
 * A config.pbtxt: decoded by the table of fields, then checked for what the table cannot say. Either all of it fits or
 * MODEL_CONFIG_INVALID names file, line and column of the first thing that does not.
 */

/** A field that was read and has no effect here. */
export interface IgnoredField {
  readonly field: string;
  readonly at: TextPosition;
  /** `later` fields mean something for Troupe too; `kept` ones are Triton's own affair. */
  readonly effect: 'later' | 'kept';
}

export interface ModelConfigFile {
  /** Absolute. */
  readonly file: string;
  readonly config: ModelConfig;
  /** Where a field stands, by its path without indices: `dynamic_batching.max_queue_delay_microseconds`. */
  readonly places: ReadonlyMap<string, TextPosition>;
  readonly ignored: readonly IgnoredField[];
  /** What `model_warmup` asks for; run by every replica that loads the model. */
  readonly warmUps: readonly WarmUp[];
  /** Where an entry of a list or a map of `config` stands, by its place or its key. */
  readonly entries: ReadonlyMap<object, ReadonlyMap<string | number, TextPosition>>;
}

/** By the configuration that was read from it, which is what a replica is given. */
const FILES = new WeakMap<object, ModelConfigFile>();

/** The file that this very object was read from; undefined for a copy of it. */
export function fileOf(config: object): ModelConfigFile | undefined {
  return FILES.get(config);
}

/** File, line and column of a field, or of an entry of one of its lists or maps. */
export function placeIn(file: ModelConfigFile, field: string, holder?: object, key?: string | number): string {
  const { line, col } = positionOf(file, field, holder, key);
  return `${file.file}:${line}:${col}`;
}

function positionOf(
  { places, entries }: Pick<ModelConfigFile, 'places' | 'entries'>,
  field: string,
  holder?: object,
  key?: string | number,
): TextPosition {
  const entry = holder === undefined || key === undefined ? undefined : entries.get(holder)?.get(key);
  return entry ?? places.get(field) ?? START;
}

/** `model`: the name of its directory, which the field `name` must agree with. Throws MODEL_CONFIG_INVALID. */
export function readModelConfig(text: string, file: string, model: string): ModelConfigFile {
  try {
    const decoder = new Decoder();
    // The table is where the type comes from, so what was decoded by it has that type.
    const config = decoder.message(MODEL_CONFIG, parseTextProto(text), '') as ModelConfig;
    const { places, ignored, entries } = decoder;
    validate({ config, places, entries }, model);
    const warmUps = readWarmUps(config, file, (message) => decoder.messages.get(message) ?? START);
    const found = { file, config, places, ignored, warmUps, entries };
    FILES.set(config, found);
    return found;
  } catch (cause) {
    if (!(cause instanceof TextProtoError)) throw cause;
    const message = `${file}:${cause.at.line}:${cause.at.col}: ${cause.message}`;
    throw new TroupeError('MODEL_CONFIG_INVALID', message, { cause });
  }
}

const START: TextPosition = { line: 1, col: 1 };

class Decoder {
  readonly places = new Map<string, TextPosition>();
  /** Where each message begins that stands in the text. */
  readonly messages = new Map<object, TextPosition>();
  readonly ignored: IgnoredField[] = [];
  readonly entries = new Map<object, Map<string | number, TextPosition>>();

  message(spec: MessageSpec, fields: readonly ProtoField[], path: string): Record<string, unknown> {
    const message: Record<string, unknown> = {};
    const oneofs = new Map<string, string>();
    for (const field of fields) {
      const { name, at } = field;
      const known = Object.hasOwn(spec.fields, name) ? spec.fields[name] : undefined;
      if (known === undefined) throw new TextProtoError(at, unknownField(name, path, spec));
      const here = path === '' ? name : `${path}.${name}`;
      if (known.moot === undefined) this.#noteField(known, here, at);
      if (known.oneof !== undefined) {
        const other = oneofs.get(known.oneof);
        if (other !== undefined && other !== name)
          throw new TextProtoError(at, `${here} and ${other} exclude each other`);
        oneofs.set(known.oneof, name);
      }
      const isMany = known.repeated === true || known.key !== undefined;
      if (!isMany && message[name] !== undefined) throw new TextProtoError(at, `${here} stands here a second time`);
      const values = isMany && field.value.kind === 'list' ? field.value.items : [field.value];
      if (!isMany) {
        message[name] = this.#value(known.type, field.value, here);
        if (known.moot !== undefined)
          this.#noteField(known.moot.includes(message[name] as string | boolean) ? {} : known, here, at);
      } else if (known.key === undefined) {
        const list = (message[name] ??= []) as unknown[];
        for (const value of values) {
          this.#noteEntry(list, list.length, value.at);
          list.push(this.#value(known.type, value, here));
        }
      } else {
        // Without a prototype: the keys are the user's.
        const map = (message[name] ??= Object.create(null)) as Record<string, unknown>;
        for (const value of values) this.#entry(map, known, value, here);
      }
    }
    return message;
  }

  #noteField({ effect }: Pick<FieldSpec, 'effect'>, field: string, at: TextPosition): void {
    if (!this.places.has(field)) this.places.set(field, at);
    // Of a message without effect its own name is enough.
    const isInside = this.ignored.some((one) => field.startsWith(`${one.field}.`) || field === one.field);
    if (effect !== undefined && !isInside) this.ignored.push({ field, at, effect });
  }

  #noteEntry(holder: object, key: string | number, at: TextPosition): void {
    const known = this.entries.get(holder);
    if (known === undefined) this.entries.set(holder, new Map([[key, at]]));
    else known.set(key, at);
  }

  #entry(map: Record<string, unknown>, { type, key }: FieldSpec, value: ProtoValue, path: string): void {
    if (value.kind !== 'message') throw wrongKind(value, path, '{ key: … value: … }');
    const fields = { key: { type: key as 'string' | 'uint64' }, value: { type } };
    const entry = this.message({ fields }, value.fields, path);
    const given = entry['key'] as string | number | undefined;
    const name = String(given ?? this.#empty(key as 'string' | 'uint64'));
    if (name in map) throw new TextProtoError(value.at, `${path} has the key ${JSON.stringify(name)} a second time`);
    map[name] = entry['value'] ?? this.#empty(type);
    this.#noteEntry(map, name, value.at);
  }

  /** What protobuf gives for a value that is not there. */
  #empty(type: FieldSpec['type']): unknown {
    if (typeof type !== 'string') return 'fields' in type ? {} : Object.keys(type.values)[0];
    if (type === 'string') return '';
    return type === 'bool' ? false : 0;
  }

  #value(type: FieldSpec['type'], value: ProtoValue, path: string): unknown {
    if (typeof type === 'string') return scalar(type, value, path);
    if ('values' in type) return enumName(type, value, path);
    if (value.kind !== 'message') throw wrongKind(value, path, '{ … }');
    const message = this.message(type, value.fields, path);
    this.messages.set(message, value.at);
    return message;
  }
}

function unknownField(name: string, path: string, spec: MessageSpec): string {
  const where = path === '' ? 'a model configuration' : path;
  return `there is no field ${name} in ${where}; it has ${Object.keys(spec.fields).join(', ') || 'none'}`;
}

function enumName({ values }: EnumSpec, value: ProtoValue, path: string): string {
  const names = Object.keys(values);
  if (value.kind === 'word' && Object.hasOwn(values, value.text)) return value.text;
  const byNumber = value.kind === 'number' ? names.find((name) => String(values[name]) === value.text) : undefined;
  if (byNumber === undefined) throw wrongKind(value, path, `one of ${names.join(', ')}`);
  return byNumber;
}

const RANGES: Readonly<Record<Exclude<Scalar, 'string' | 'bool' | 'float'>, readonly [number, number]>> = {
  int32: [-(2 ** 31), 2 ** 31 - 1],
  uint32: [0, 2 ** 32 - 1],
  // Beyond these a double is not exact; no configuration has such numbers.
  int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  uint64: [0, Number.MAX_SAFE_INTEGER],
};

function scalar(type: Scalar, value: ProtoValue, path: string): unknown {
  if (type === 'string') {
    if (value.kind !== 'string') throw wrongKind(value, path, 'text in quotes');
    return utf8(value.bytes, value.at, path);
  }
  if (type === 'bool') {
    const text = value.kind === 'word' || value.kind === 'number' ? value.text : '';
    if (['true', 'True', 't', '1'].includes(text)) return true;
    if (['false', 'False', 'f', '0'].includes(text)) return false;
    throw wrongKind(value, path, 'true or false');
  }
  if (type === 'float') return float(value, path);
  const [least, most] = RANGES[type];
  const number = value.kind === 'number' ? wholeNumber(value.text) : undefined;
  if (number === undefined) throw wrongKind(value, path, 'a whole number');
  if (number < least || number > most)
    throw new TextProtoError(value.at, `${path}: expected a number from ${least} to ${most}, found ${number}`);
  return number;
}

function utf8(bytes: Buffer, at: TextPosition, path: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new TextProtoError(at, `${path}: expected UTF-8 text, found other bytes`);
  }
}

/** Decimal, hexadecimal or octal. */
function wholeNumber(text: string): number | undefined {
  const isNegative = text.startsWith('-');
  const digits = isNegative ? text.slice(1) : text;
  let size: number;
  if (/^0[xX][0-9a-fA-F]+$/.test(digits) || /^(0|[1-9]\d*)$/.test(digits)) size = Number(digits);
  else if (/^0[0-7]+$/.test(digits)) size = Number.parseInt(digits, 8);
  else return undefined;
  return isNegative && size !== 0 ? -size : size;
}

function float(value: ProtoValue, path: string): number {
  const text = value.kind === 'number' || value.kind === 'word' ? value.text.replace(/^-/, '') : '';
  const sign = value.kind === 'number' && value.text.startsWith('-') ? -1 : 1;
  if (/^inf(inity)?f?$/i.test(text)) return sign * Infinity;
  if (/^nanf?$/i.test(text)) return NaN;
  const number = value.kind === 'number' ? (wholeNumber(text) ?? Number(text.replace(/f$/i, ''))) : NaN;
  if (Number.isNaN(number)) throw wrongKind(value, path, 'a number');
  return sign * number;
}

function wrongKind(value: ProtoValue, path: string, expected: string): TextProtoError {
  const found =
    value.kind === 'word' || value.kind === 'number'
      ? value.text.slice(0, 100)
      : { string: 'text in quotes', list: 'a list', message: '{ … }' }[value.kind];
  return new TextProtoError(value.at, `${path}: expected ${expected}, found ${found}`);
}

/** As many replicas as a pool takes. */
const INSTANCES_MAX = 1024;

/** The rules of Triton that a table of fields cannot hold. */
function validate(found: Pick<ModelConfigFile, 'config' | 'places' | 'entries'>, model: string): void {
  const { config } = found;
  const refuse = (field: string, problem: string, holder?: object, key?: string | number): never => {
    throw new TextProtoError(positionOf(found, field, holder, key), `${field}: ${problem}`);
  };
  const { name, max_batch_size: maxBatch = 0, version_policy: policy } = config;
  if (name !== undefined && name !== '' && name !== model)
    refuse('name', `expected ${JSON.stringify(model)}, as the directory is called, found ${JSON.stringify(name)}`);
  if (maxBatch < 0) refuse('max_batch_size', `expected a number of at least 0, found ${maxBatch}`);
  if (policy?.latest?.num_versions === 0) refuse('version_policy.latest.num_versions', 'expected at least 1');
  if (policy?.specific !== undefined) {
    const { versions = [] } = policy.specific;
    if (versions.length === 0 || versions.some((version) => version < 1))
      refuse('version_policy.specific', 'expected at least one version, each of at least 1');
  }
  checkDynamicBatching(config, refuse);
  checkMetricTags(config, refuse);
  for (const { count = 1, kind = 'KIND_AUTO', gpus = [] } of config.instance_group ?? []) {
    if (count < 1) refuse('instance_group.count', `expected at least 1, found ${count}`);
    if (gpus.some((gpu) => gpu < 0)) refuse('instance_group.gpus', 'expected numbers of GPUs, from 0');
    if (gpus.length > 0 && (kind === 'KIND_CPU' || kind === 'KIND_MODEL'))
      refuse('instance_group.gpus', `a group of ${kind} has no gpus`);
  }
  const instances = instancesOf(config);
  if (instances > INSTANCES_MAX)
    refuse('instance_group', `expected at most ${INSTANCES_MAX} instances in all, found ${instances}`);
  for (const side of ['input', 'output'] as const) {
    const seen = new Set<string>();
    for (const { name: tensor = '', data_type: type, dims = [], reshape } of config[side] ?? []) {
      if (tensor === '') refuse(side, 'every tensor has a name');
      if (seen.has(tensor)) refuse(`${side}.name`, `two tensors are called ${JSON.stringify(tensor)}`);
      seen.add(tensor);
      if (type === undefined || type === 'TYPE_INVALID') refuse(side, `${JSON.stringify(tensor)} needs a data_type`);
      if (dims.length === 0) refuse(side, `${JSON.stringify(tensor)} needs dims; at least one`);
      if (dims.some((dim) => dim === 0 || dim < -1))
        refuse(
          `${side}.dims`,
          `${JSON.stringify(tensor)}: expected sizes of at least 1, or -1 for any; found ${dims.join(', ')}`,
        );
      const shape = reshape === undefined ? dims : (reshape.shape ?? []);
      if (!holdsAsMany(dims, shape))
        refuse(
          `${side}.reshape`,
          `${JSON.stringify(tensor)}: expected a shape of as many values as its dims ${dims.join(', ')}; found ${shape.join(', ') || 'a single value'}`,
        );
    }
  }
  checkEnsemble(config, refuse);
  const file = config.default_model_filename;
  if (file !== undefined && !isPlainFile(file))
    refuse(
      'default_model_filename',
      `expected the name of a file in the version's directory, found ${JSON.stringify(file)}`,
    );
}

/** The sizes between those that vary, and how many vary, are the same. */
function holdsAsMany(dims: readonly number[], shape: readonly number[]): boolean {
  const between = (sizes: readonly number[]): number[] =>
    sizes.reduce<number[]>(
      (parts, size) => {
        if (size === -1) return [...parts, 1];
        return [...parts.slice(0, -1), (parts.at(-1) ?? 1) * size];
      },
      [1],
    );
  const [one, other] = [between(dims), between(shape)];
  return (
    shape.every((size) => size >= 1 || size === -1) &&
    one.length === other.length &&
    one.every((part, at) => part === other[at])
  );
}

/** Instances that take records, over all groups; 0 where none are told. A group counts once for each GPU it names. */
export function instancesOf({ instance_group: groups = [] }: ModelConfig): number {
  const active = groups.filter(({ passive = false }) => !passive);
  return active.reduce((sum, { count = 1, gpus = [] }) => sum + count * Math.max(1, gpus.length), 0);
}

/** Every group that takes records is to compute on the CPU. */
export function isForCpu({ instance_group: groups = [] }: ModelConfig): boolean {
  const active = groups.filter(({ passive = false }) => !passive);
  return active.length > 0 && active.every(({ kind }) => kind === 'KIND_CPU');
}

/** One step of a path, not a way out of the directory. */
function isPlainFile(name: string): boolean {
  return name === '' || (/^[^/\\\p{C}]{1,255}$/u.test(name) && name !== '.' && name !== '..');
}
