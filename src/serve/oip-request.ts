/**
 * The body of an inference request of the Open Inference Protocol v2, JSON alone or JSON with binary tensors behind it, as
 * tensors. Knows nothing of models: whether they are the right ones is found out in oip-records.ts.
 *
 * Q1 whatever the bytes are, the outcome is a request or a TroupeError (PARSE_FAILED, INPUT_INVALID), and what is allocated
 *    on the way is a small multiple of the body.
 * Q2 every byte of the body is accounted for: the JSON, then exactly the blobs that it announces.
 * Q3 names of a request are never looked up in an object: maps and lists alone.
 */
import { TroupeError } from '../kernel/errors.js';
import { OIP_DATATYPES, type OipDatatype } from './oip-datatype.js';
import { invalid, shownName, shownValue } from './oip-invalid.js';
import { parseOipJson } from './oip-json.js';
import { type NonFinite, type OipTensor, readShape, valuesFromBytes, valuesFromJson } from './oip-tensor.js';

export type OipParameter = string | number | bigint | boolean;

export interface RequestedOutput {
  readonly name: string;
  readonly isBinary: boolean;
  /** How many of its highest values are asked for instead of all of them; 0: all of them, as they are. */
  readonly classes: number;
}

export interface OipRequest {
  /** '' where it has none. */
  readonly id: string;
  readonly parameters: ReadonlyMap<string, OipParameter>;
  readonly inputs: readonly OipTensor[];
  /** undefined: every output there is. */
  readonly outputs: readonly RequestedOutput[] | undefined;
  /** Whether outputs that are not listed are sent as bytes. */
  readonly binaryOutputs: boolean;
}

/** What there may be of each in one request. */
export const TENSORS_MAX = 256;
export const PARAMETERS_MAX = 256;
export const TEXT_CHARS_MAX = 65_536;
const UTF8 = new TextDecoder('utf-8', { fatal: true });

/**
 * `headerLength` is the value of Inference-Header-Content-Length, where the request has it: as many bytes of the body are
 * JSON. Tensors may be views of `body`, which must stay as it is. JSON that `known` has seen last is not read again.
 */
export function decodeRequest(
  body: Buffer,
  headerLength: string | undefined,
  nonFinite: NonFinite,
  known?: KnownHead,
): OipRequest {
  const jsonBytes = headerLength === undefined ? body.length : readHeaderLength(headerLength, body.length);
  const json = body.subarray(0, jsonBytes);
  const head = known?.find(json) ?? readHead(json);
  const blobs = new Blobs(body.subarray(jsonBytes), headerLength !== undefined);
  const inputs = head.inputs.map((input) => fillInput(input, blobs, nonFinite));
  blobs.end();
  known?.keep(json, head);
  const { id, parameters, outputs, binaryOutputs } = head;
  return { id, parameters, inputs, outputs, binaryOutputs };
}

/** What the JSON of a request says; of inputs whose values are bytes, where those are. */
interface RequestHead extends Omit<OipRequest, 'inputs'> {
  readonly inputs: readonly InputHead[];
}

interface InputHead extends Omit<OipTensor, 'data'> {
  /** For messages. */
  readonly where: string;
  readonly from:
    | { readonly kind: 'json'; readonly data: unknown }
    | { readonly kind: 'bytes'; readonly size: OipParameter };
}

/** JSON is kept up to this length. */
const KEPT_BYTES_MAX = 4096;

/** The JSON of the last request and what it says: requests of one client to one model mostly differ in their bytes alone. */
export class KnownHead {
  #json = Buffer.alloc(0);
  #head: RequestHead | undefined;

  find(json: Buffer): RequestHead | undefined {
    return this.#head !== undefined && this.#json.equals(json) ? this.#head : undefined;
  }

  /** Not one that holds values itself. */
  keep(json: Buffer, head: RequestHead): void {
    if (head === this.#head || json.length > KEPT_BYTES_MAX) return;
    if (head.inputs.some(({ from }) => from.kind === 'json')) return;
    this.#json = Buffer.from(json);
    this.#head = head;
  }
}

function readHead(json: Buffer): RequestHead {
  const root = readJson(json, 'the request');
  const id = idFrom(root['id'] ?? '');
  const parameters = readParameters(root['parameters'], 'the request');
  const binaryOutputs = flagOf(parameters, 'binary_data_output', 'the request');
  if (root['inputs'] === undefined) throw invalid('inputs are missing');
  const inputs = listOf(root['inputs'], 'inputs').map(readInput);
  refuseTwice(inputs, 'input');
  const outputs = root['outputs'] === undefined ? undefined : listOf(root['outputs'], 'outputs').map(readOutput);
  refuseTwice(outputs ?? [], 'output');
  // An empty list asks for everything, as for Triton.
  return { id, parameters, inputs, outputs: outputs?.length === 0 ? undefined : outputs, binaryOutputs };
}

/** Whether the whole body is the one input of the model, without JSON. */
export function isRaw(headerLength: string | undefined): boolean {
  return headerLength !== undefined && /^0+$/.test(headerLength);
}

/** Binary tensors, in the order of their inputs. Q2. */
export class Blobs {
  #at = 0;

  constructor(
    private readonly bytes: Buffer,
    private readonly areAnnounced: boolean,
  ) {}

  take(size: OipParameter, where: string): Buffer {
    if (!this.areAnnounced)
      throw invalid(`${where}: binary_data_size needs the header Inference-Header-Content-Length`);
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0)
      throw invalid(`${where}: binary_data_size must be a whole number from 0, got ${shownValue(size)}`);
    const from = this.#at;
    if (size > this.bytes.length - from)
      throw invalid(`${where}: binary_data_size ${size} is more than the ${this.bytes.length - from} bytes left`);
    this.#at = from + size;
    return this.bytes.subarray(from, this.#at);
  }

  end(): void {
    const left = this.bytes.length - this.#at;
    if (left > 0) throw invalid(`${left} bytes are left behind the binary data that the inputs announce`);
  }
}

export function readHeaderLength(text: string, bodyBytes: number): number {
  if (!/^\d{1,15}$/.test(text))
    throw invalid(`Inference-Header-Content-Length must be a whole number, got ${shownValue(text)}`);
  const length = Number(text);
  if (length > bodyBytes)
    throw invalid(`Inference-Header-Content-Length is ${length}, the body has ${bodyBytes} bytes`);
  return length;
}

export function readJson(bytes: Buffer, what: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = parseOipJson(UTF8.decode(bytes));
  } catch (cause) {
    const words = cause instanceof SyntaxError ? cause.message : 'it is not UTF-8';
    throw new TroupeError('PARSE_FAILED', `${what} is not JSON: ${words}`, { cause });
  }
  return objectOf(value, what);
}

function readInput(value: unknown): InputHead {
  const input = objectOf(value, 'an input');
  const name = nameOf(input['name'], 'an input');
  const where = `input ${shownName(name)}`;
  const datatype = datatypeFrom(input['datatype'], where);
  const shape = readShape(input['shape'], where);
  const parameters = readParameters(input['parameters'], where);
  const { data } = input;
  const size = parameters.get('binary_data_size');
  refuseSharedMemory(parameters, where);
  if (size !== undefined && data !== undefined)
    throw invalid(`${where}: it has both data and binary_data_size; expected one of them`);
  if (size !== undefined) return { name, datatype, shape, where, from: { kind: 'bytes', size } };
  if (data === undefined) throw invalid(`${where}: data is missing`);
  return { name, datatype, shape, where, from: { kind: 'json', data } };
}

function fillInput({ name, datatype, shape, where, from }: InputHead, blobs: Blobs, nonFinite: NonFinite): OipTensor {
  const data =
    from.kind === 'json'
      ? valuesFromJson(from.data, datatype, shape, where, nonFinite)
      : valuesFromBytes(blobs.take(from.size, where), datatype, shape, where);
  return { name, datatype, shape, data };
}

function readOutput(value: unknown): RequestedOutput {
  const output = objectOf(value, 'an output');
  const name = nameOf(output['name'], 'an output');
  const where = `output ${shownName(name)}`;
  const parameters = readParameters(output['parameters'], where);
  refuseSharedMemory(parameters, where);
  return {
    name,
    isBinary: flagOf(parameters, 'binary_data', where),
    classes: classesFrom(parameters.get('classification') ?? 0, 0, where),
  };
}

/** `least`: 0 is as good as nothing over HTTP, and no number of classes over gRPC; so Triton has it. */
export function classesFrom(value: OipParameter, least: 0 | 1, where: string): number {
  const count = typeof value === 'bigint' ? Number(value) : value;
  if (typeof count === 'number' && Number.isInteger(count) && count >= least) return count;
  throw invalid(`${where}: classification must be a whole number from ${least}, got ${shownValue(value)}`);
}

export function refuseSharedMemory(parameters: ReadonlyMap<string, OipParameter>, where: string): void {
  if (parameters.has('shared_memory_region')) throw invalid(`${where}: shared memory is not served`);
}

export function idFrom(value: unknown): string {
  if (typeof value === 'string' && value.length <= TEXT_CHARS_MAX) return value;
  throw invalid(`id must be a string of at most ${TEXT_CHARS_MAX} characters, got ${shownValue(value)}`);
}

export function datatypeFrom(value: unknown, where: string): OipDatatype {
  const datatype = typeof value === 'string' ? OIP_DATATYPES.get(value) : undefined;
  if (datatype !== undefined) return datatype;
  throw invalid(`${where}: datatype must be one of ${[...OIP_DATATYPES.keys()].join(', ')}, got ${shownValue(value)}`);
}

function readParameters(value: unknown, where: string): ReadonlyMap<string, OipParameter> {
  const parameters = new Map<string, OipParameter>();
  if (value === undefined) return parameters;
  const fields = objectOf(value, `parameters of ${where}`);
  refuseMany(countNames(fields), where);
  for (const [name, given] of Object.entries(fields)) {
    // The headers of the request, as some clients put them there.
    if (typeof given === 'object' && given !== null && name === 'headers') continue;
    if (
      typeof given !== 'string' &&
      typeof given !== 'number' &&
      typeof given !== 'bigint' &&
      typeof given !== 'boolean'
    )
      throw invalid(
        `${where}: parameter ${shownName(name)} must be a string, a number or a boolean, got ${shownValue(given)}`,
      );
    refuseReserved(name, where);
    parameters.set(name, given);
  }
  return parameters;
}

/** How many names an object has, or one more than `PARAMETERS_MAX`: a list of them would be long before it is refused. */
export function countNames(fields: object): number {
  let count = 0;
  for (const _ in fields) {
    count++;
    if (count > PARAMETERS_MAX) break;
  }
  return count;
}

/** Of parameters. */
export function refuseMany(count: number, where: string): void {
  if (count > PARAMETERS_MAX) throw invalid(`${where}: more than ${PARAMETERS_MAX} parameters are not served`);
}

export function refuseReserved(name: string, where: string): void {
  if (name.startsWith('triton_')) throw invalid(`${where}: parameter ${shownName(name)} is reserved`);
}

function flagOf(parameters: ReadonlyMap<string, OipParameter>, name: string, where: string): boolean {
  const value = parameters.get(name) ?? false;
  if (typeof value !== 'boolean') throw invalid(`${where}: ${name} must be true or false, got ${shownValue(value)}`);
  return value;
}

export function nameOf(value: unknown, what: string): string {
  if (typeof value === 'string' && value !== '' && value.length <= TEXT_CHARS_MAX) return value;
  throw invalid(`${what}: name must be a string, got ${shownValue(value)}`);
}

export function listOf(value: unknown, name: string): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid(`${name} must be an array, got ${shownValue(value)}`);
  if (value.length > TENSORS_MAX) throw invalid(`${name}: more than ${TENSORS_MAX} are not served`);
  return value;
}

export function objectOf(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw invalid(`${what} must be an object, got ${shownValue(value)}`);
}

export function refuseTwice(tensors: readonly { readonly name: string }[], what: string): void {
  const seen = new Set<string>();
  for (const { name } of tensors) {
    if (seen.has(name)) throw invalid(`${what} ${shownName(name)} is given twice`);
    seen.add(name);
  }
}
