/**
 * Looks through the protobuf of a model.onnx before the engine does: is it whole, and which other files do its tensors take
 * their data from? The engine follows such references wherever they lead.
 *
 * Visits every message that can hold a tensor (graphs, subgraphs in attributes, functions, training graphs) and skips all
 * else by its length. What protobuf readers may understand in two ways (a single field given twice, groups) is refused.
 *
 * O1 nothing outside of the bytes is read. O2 the nesting is bounded. O3 every tensor with external data is in the result.
 */

/** What a tensor wants from a file beside the model. */
export interface ExternalData {
  readonly tensor: string;
  /** As it stands in the model: relative to the model's directory. */
  readonly location: string;
  readonly offset: number;
  /** Bytes: what dimensions and type of the tensor make. */
  readonly length: number;
}

/** `malformed`: no whole model. `unsafe`: a model that wants what it must not have. */
export class ScanError extends Error {
  readonly kind: 'malformed' | 'unsafe';

  constructor(kind: 'malformed' | 'unsafe', message: string) {
    super(message);
    this.name = 'ScanError';
    this.kind = kind;
  }
}

/** Every reference to external data. Throws ScanError. */
export function scanModel(bytes: Buffer): readonly ExternalData[] {
  // The engine tells its own format by these four letters, whatever the rest may be.
  if (bytes.length >= 8 && bytes.toString('latin1', 4, 8) === 'ORTM')
    throw new ScanError('malformed', 'it is in the format ORT, which is not read; export it as ONNX');
  const scan = new Scan(bytes);
  const fields = scan.message('model', 0, bytes.length, 0);
  if (!fields.has(GRAPH_OF_MODEL)) throw new ScanError('malformed', 'it holds no graph');
  return scan.found;
}

type Kind = 'model' | 'graph' | 'node' | 'attribute' | 'tensor' | 'sparse' | 'function' | 'training';

interface Child {
  readonly kind: Kind;
  readonly isRepeated: boolean;
}

const single = (kind: Kind): Child => ({ kind, isRepeated: false });
const many = (kind: Kind): Child => ({ kind, isRepeated: true });
const GRAPH_OF_MODEL = 7;

/** Field numbers of onnx.proto that lead to tensors. */
const CHILDREN: Readonly<Record<Kind, ReadonlyMap<number, Child>>> = {
  model: new Map([
    [GRAPH_OF_MODEL, single('graph')],
    [20, many('training')],
    [25, many('function')],
  ]),
  graph: new Map([
    [1, many('node')],
    [5, many('tensor')],
    [15, many('sparse')],
  ]),
  node: new Map([[5, many('attribute')]]),
  attribute: new Map([
    [5, single('tensor')],
    [6, single('graph')],
    [10, many('tensor')],
    [11, many('graph')],
    [22, single('sparse')],
    [23, many('sparse')],
  ]),
  sparse: new Map([
    [1, single('tensor')],
    [2, single('tensor')],
  ]),
  function: new Map([
    [7, many('node')],
    [11, many('attribute')],
  ]),
  training: new Map([
    [1, single('graph')],
    [2, single('graph')],
  ]),
  tensor: new Map(),
};

/** As protobuf itself bounds it. */
const DEPTH_MAX = 100;
const NO_FIELDS: ReadonlySet<number> = new Set();

/** Wire types. */
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

class Scan {
  readonly found: ExternalData[] = [];
  readonly #bytes: Buffer;
  #index = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** The numbers of the fields that hold messages. */
  message(kind: Kind, start: number, end: number, depth: number): ReadonlySet<number> {
    if (depth > DEPTH_MAX) throw new ScanError('malformed', `it nests messages deeper than ${DEPTH_MAX}`); // O2
    if (kind === 'tensor') {
      this.#tensor(start, end);
      return NO_FIELDS;
    }
    const children = CHILDREN[kind];
    const seen = new Set<number>();
    this.#index = start;
    while (this.#index < end) {
      const { field, type } = this.#tag(end);
      const child = type === BYTES ? children.get(field) : undefined;
      if (child === undefined) {
        this.#skip(type, end);
        continue;
      }
      const length = this.#length(end);
      const next = this.#index + length;
      if (!child.isRepeated && seen.has(field))
        throw new ScanError('malformed', `field ${field} of a ${kind} stands there twice`);
      seen.add(field);
      this.message(child.kind, this.#index, next, depth + 1);
      this.#index = next;
    }
    return seen;
  }

  #tensor(start: number, end: number): void {
    const tensor: Tensor = { name: '', type: 0, dims: [], entries: undefined, isExternal: false };
    this.#index = start;
    while (this.#index < end) {
      const { field, type } = this.#tag(end);
      if (field === 1 && type === VARINT) tensor.dims.push(this.#varint(end));
      else if (field === 1 && type === BYTES) {
        const next = this.#length(end) + this.#index;
        while (this.#index < next) tensor.dims.push(this.#varint(next));
      } else if (field === 2 && type === VARINT) tensor.type = Number(BigInt.asIntN(32, this.#varint(end)));
      else if (field === 8 && type === BYTES) tensor.name = this.#slice(end).toString('utf8');
      else if (field === 13 && type === BYTES) {
        const length = this.#length(end);
        tensor.entries ??= new Map();
        this.#entry(tensor.entries, this.#index + length);
      } else if (field === 14 && type === VARINT) tensor.isExternal = BigInt.asIntN(32, this.#varint(end)) === EXTERNAL;
      else this.#skip(type, end);
    }
    // Either sign of external data is enough: readers differ on which of them counts.
    if (tensor.isExternal || tensor.entries !== undefined) this.found.push(externalData(tensor)); // O3
  }

  #entry(entries: Map<string, string>, end: number): void {
    let key = '';
    let value = '';
    while (this.#index < end) {
      const { field, type } = this.#tag(end);
      if (field === 1 && type === BYTES) key = strict(this.#slice(end));
      else if (field === 2 && type === BYTES) value = strict(this.#slice(end));
      else this.#skip(type, end);
    }
    if (entries.has(key)) throw new ScanError('unsafe', `its external data says ${show(key)} twice`);
    entries.set(key, value);
  }

  #tag(end: number): { field: number; type: number } {
    const start = this.#index;
    const tag = this.#varint(end);
    if (tag > 0xffffffffn || this.#index - start > 5) throw new ScanError('malformed', `no field at byte ${start}`);
    const field = Number(tag >> 3n);
    if (field === 0) throw new ScanError('malformed', `no field at byte ${start}`);
    return { field, type: Number(tag & 7n) };
  }

  #skip(type: number, end: number): void {
    const at = this.#index;
    if (type === VARINT) this.#varint(end);
    else if (type === FIXED64) this.#index += 8;
    else if (type === FIXED32) this.#index += 4;
    else if (type === BYTES) {
      const length = this.#length(end);
      this.#index += length;
    } else throw new ScanError('malformed', `a field of wire type ${type} at byte ${at}`);
    if (this.#index > end) throw cutOff(end);
  }

  /** The bytes from here, with their length before them. */
  #slice(end: number): Buffer {
    const length = this.#length(end);
    const start = this.#index;
    this.#index += length;
    return this.#bytes.subarray(start, this.#index);
  }

  /** Of what follows; it lies before `end` (O1). */
  #length(end: number): number {
    const length = this.#varint(end);
    if (length > BigInt(end - this.#index)) throw cutOff(end);
    return Number(length);
  }

  #varint(end: number): bigint {
    let low = 0;
    for (let count = 0; count < 4; count++) {
      if (this.#index >= end) throw cutOff(end);
      const byte = this.#bytes[this.#index++] as number;
      low += (byte & 127) * 2 ** (7 * count);
      if (byte < 128) return BigInt(low);
    }
    let value = BigInt(low);
    for (let count = 4; count < 10; count++) {
      if (this.#index >= end) throw cutOff(end);
      const byte = this.#bytes[this.#index++] as number;
      value |= BigInt(byte & 127) << BigInt(7 * count);
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw new ScanError('malformed', `a number without end at byte ${this.#index - 10}`);
  }
}

/** What is no UTF-8 would become another name than the engine's. */
function strict(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new ScanError('unsafe', 'its external data says something that is not UTF-8');
  }
}

function cutOff(end: number): ScanError {
  return new ScanError('malformed', `it is cut off or no ONNX: something reaches beyond byte ${end}`);
}

interface Tensor {
  name: string;
  type: number;
  readonly dims: bigint[];
  entries: Map<string, string> | undefined;
  isExternal: boolean;
}

/** TensorProto.DataLocation.EXTERNAL */
const EXTERNAL = 1n;
const KEYS: readonly string[] = ['location', 'offset', 'length', 'checksum'];

function externalData({ name, type, dims, entries }: Tensor): ExternalData {
  const refuse = (problem: string): ScanError =>
    new ScanError('unsafe', `the external data of tensor ${show(name)} ${problem}`);
  const given = entries ?? new Map<string, string>();
  const location = given.get('location');
  if (location === undefined || location === '') throw refuse('has no location');
  for (const key of given.keys())
    if (!KEYS.includes(key)) throw refuse(`has the key ${show(key)}; it may have ${KEYS.join(', ')}`);
  const length = bytesOf(type, dims);
  if (length === undefined)
    throw refuse(`cannot be: it has type ${type} and dimensions ${dims.slice(0, 8).join(', ')}`);
  const told = numberOf(given.get('length'));
  if (told === undefined) throw refuse(`has the length ${show(given.get('length') ?? '')}`);
  const offset = numberOf(given.get('offset'));
  if (offset === undefined) throw refuse(`has the offset ${show(given.get('offset') ?? '')}`);
  if (given.has('length') && told !== length)
    throw refuse(`is told to have ${told} bytes; its type and dimensions make ${length}`);
  return { tensor: name, location, offset, length };
}

/** 0 where nothing is told; undefined for what is no plain number. */
function numberOf(text: string | undefined): number | undefined {
  if (text === undefined) return 0;
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** Bits of one element, by TensorProto.DataType; strings (8) cannot lie in a file. */
const BITS: Readonly<Record<number, number>> = {
  1: 32,
  2: 8,
  3: 8,
  4: 16,
  5: 16,
  6: 32,
  7: 64,
  9: 8,
  10: 16,
  11: 64,
  12: 32,
  13: 64,
  14: 64,
  15: 128,
  16: 16,
  17: 8,
  18: 8,
  19: 8,
  20: 8,
  21: 4,
  22: 4,
  23: 4,
  24: 8,
  25: 2,
  26: 2,
};

function bytesOf(type: number, dims: readonly bigint[]): number | undefined {
  const bits = BITS[type];
  if (bits === undefined) return undefined;
  let count = 1n;
  for (const dim of dims) {
    const size = BigInt.asIntN(64, dim);
    if (size < 0n) return undefined;
    count *= size;
    if (count > 2n ** 50n) return undefined;
  }
  return Math.ceil((Number(count) * bits) / 8);
}

function show(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
