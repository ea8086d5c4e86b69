/**
 * ModelInferRequest and ModelInferResponse of `inference.GRPCInferenceService`, to and from the requests and tensors that HTTP
 * has. Knows nothing of models, as oip-request.ts.
 *
 * G1 whatever the bytes are, the outcome is a request or a TroupeError (PARSE_FAILED, INPUT_INVALID), and what is allocated on
 *    the way is a small multiple of them: fields that may repeat are counted while they are read.
 * G2 values are raw, for every input one buffer, or typed in every input; never both, never left over.
 * G3 names of a request are never looked up in an object: maps and lists alone.
 */
import { valuesFromContents } from './grpc-contents.js';
import { invalid, shownName } from './oip-invalid.js';
import {
  classesFrom,
  datatypeFrom,
  idFrom,
  nameOf,
  type OipParameter,
  type OipRequest,
  refuseMany,
  refuseReserved,
  refuseSharedMemory,
  refuseTwice,
  type RequestedOutput,
  TENSORS_MAX,
} from './oip-request.js';
import type { OipResponse } from './oip-response.js';
import { type OipTensor, RANK_MAX, readShape, valuesFromBytes, valuesToBytes } from './oip-tensor.js';
import { BYTES, ProtoReader } from './proto-reader.js';
import { ProtoWriter } from './proto-writer.js';

/** A request whose model is known, and whose tensors are still bytes. */
export interface InferMessage {
  readonly modelName: string;
  /** undefined where it has none. */
  readonly modelVersion: string | undefined;
  readonly id: string;
  /** Throws INPUT_INVALID or PARSE_FAILED. Tensors may be views of the bytes of the message. */
  decode(): OipRequest;
  /** Of a stream: a last answer without tensors is wanted, where no other can say that it is the last. Throws PARSE_FAILED. */
  wantsEmptyFinal(): boolean;
}

/** See `wantsEmptyFinal`. */
const EMPTY_FINAL = 'triton_enable_empty_final_response';
const FINAL = 'triton_final_response';

/** Throws PARSE_FAILED or INPUT_INVALID. */
export function readInferMessage(bytes: Buffer): InferMessage {
  const reader = new ProtoReader(bytes);
  const texts = ['', '', '', ''];
  const parameters: Buffer[] = [];
  const inputs: Buffer[] = [];
  const outputs: Buffer[] = [];
  const raws: Buffer[] = [];
  while (reader.next()) {
    switch (reader.number) {
      case 1:
      case 2:
      case 3:
        texts[reader.number] = idFrom(reader.text());
        break;
      case 4:
        parameters.push(reader.slice());
        refuseMany(parameters.length, 'the request');
        break;
      case 5:
        addTo(inputs, reader.slice(), 'inputs');
        break;
      case 6:
        addTo(outputs, reader.slice(), 'outputs');
        break;
      case 7:
        addTo(raws, reader.slice(), 'raw_input_contents');
        break;
      default:
        reader.skip();
    }
  }
  const [, modelName = '', modelVersion = '', id = ''] = texts;
  return {
    modelName,
    modelVersion: modelVersion === '' ? undefined : modelVersion,
    id,
    decode: () => requestOf(id, parameters, inputs, outputs, raws),
    wantsEmptyFinal: () =>
      parameters.some((entry) => {
        const { name, value } = entryOf(entry);
        return name === EMPTY_FINAL && value === true;
      }),
  };
}

function requestOf(
  id: string,
  parameters: readonly Buffer[],
  inputs: readonly Buffer[],
  outputs: readonly Buffer[],
  raws: readonly Buffer[],
): OipRequest {
  if (raws.length > 0 && raws.length !== inputs.length)
    throw invalid(`raw_input_contents are ${raws.length}, inputs ${inputs.length}; they go together one by one`);
  const tensors = inputs.map((bytes, index) => tensorIn(bytes, raws[index], 'input'));
  refuseTwice(tensors, 'input');
  const wanted = outputs.map(outputOf);
  refuseTwice(wanted, 'output');
  return {
    id,
    parameters: parametersOf(parameters, 'the request'),
    inputs: tensors,
    outputs: wanted.length === 0 ? undefined : wanted,
    binaryOutputs: true,
  };
}

/** Adds to a list that a message grows, which is of no more than 256. */
export function addTo(list: Buffer[], bytes: Buffer, what: string): void {
  if (list.length === TENSORS_MAX) throw invalid(`${what}: more than ${TENSORS_MAX} are not served`);
  list.push(bytes);
}

/** G2. Of a request or of an answer, whose parameters say nothing that is used. */
export function tensorIn(bytes: Buffer, raw: Buffer | undefined, what: 'input' | 'output'): OipTensor {
  const reader = new ProtoReader(bytes);
  let [name, type] = ['', ''];
  let contents: Buffer | undefined;
  const dims: (number | bigint)[] = [];
  const parameters: Buffer[] = [];
  while (reader.next()) {
    switch (reader.number) {
      case 1:
        name = reader.text();
        break;
      case 2:
        type = reader.text();
        break;
      case 3:
        readDims(reader, dims);
        break;
      case 4:
        parameters.push(reader.slice());
        refuseMany(parameters.length, `an ${what}`);
        break;
      case 5: {
        const more = reader.slice();
        if (contents !== undefined && more.length > 0) throw invalid(`an ${what} has contents twice`);
        contents = more.length > 0 ? more : contents;
        break;
      }
      default:
        reader.skip();
    }
  }
  const where = `${what} ${shownName(nameOf(name, `an ${what}`))}`;
  const datatype = datatypeFrom(type, where);
  const shape = readShape(dims, where);
  if (what === 'input') refuseSharedMemory(parametersOf(parameters, where), where);
  if (raw === undefined) {
    const data = valuesFromContents(contents ?? Buffer.alloc(0), datatype, shape, where);
    return { name, datatype, shape, data };
  }
  if (contents !== undefined)
    throw invalid(`${where}: contents and raw_input_contents do not go together; expected one of them`);
  return { name, datatype, shape, data: valuesFromBytes(raw, datatype, shape, where) };
}

function readDims(reader: ProtoReader, dims: (number | bigint)[]): void {
  const packed = reader.wire === BYTES ? new ProtoReader(reader.slice()) : undefined;
  if (packed === undefined) dims.push(reader.int());
  // One more than there may be is as good as all of them.
  while (packed !== undefined && !packed.isAtEnd && dims.length <= RANK_MAX) dims.push(packed.nextInt());
  if (dims.length > RANK_MAX)
    throw invalid(`a tensor: shape has more than ${RANK_MAX} dimensions, which are not served`);
}

function outputOf(bytes: Buffer): RequestedOutput {
  const reader = new ProtoReader(bytes);
  let name = '';
  const parameters: Buffer[] = [];
  while (reader.next()) {
    if (reader.number === 1) name = reader.text();
    else if (reader.number === 2) {
      parameters.push(reader.slice());
      refuseMany(parameters.length, 'an output');
    } else reader.skip();
  }
  const where = `output ${shownName(nameOf(name, 'an output'))}`;
  const given = parametersOf(parameters, where);
  refuseSharedMemory(given, where);
  const classes = given.get('classification');
  return { name, isBinary: true, classes: classes === undefined ? 0 : classesFrom(classes, 1, where) };
}

function parametersOf(entries: readonly Buffer[], where: string): ReadonlyMap<string, OipParameter> {
  const parameters = new Map<string, OipParameter>();
  for (const entry of entries) {
    const { name, value } = entryOf(entry);
    if (name === EMPTY_FINAL) continue;
    refuseReserved(name, where);
    if (value === undefined) throw invalid(`${where}: parameter ${shownName(name)} has no value`);
    parameters.set(name, value);
  }
  return parameters;
}

function entryOf(bytes: Buffer): { readonly name: string; readonly value: OipParameter | undefined } {
  const reader = new ProtoReader(bytes);
  let name = '';
  let value: OipParameter | undefined;
  while (reader.next()) {
    if (reader.number === 1) name = reader.text();
    else if (reader.number === 2) value = valueOf(reader.slice()) ?? value;
    else reader.skip();
  }
  return { name, value };
}

/** Of an InferParameter; undefined where it holds none. */
function valueOf(bytes: Buffer): OipParameter | undefined {
  const reader = new ProtoReader(bytes);
  let value: OipParameter | undefined;
  while (reader.next()) {
    if (reader.number === 1) value = reader.bool();
    else if (reader.number === 2) value = reader.int();
    else if (reader.number === 3) value = reader.text();
    else if (reader.number === 4) value = reader.double();
    else if (reader.number === 5) value = reader.uint();
    else reader.skip();
  }
  return value;
}

/**
 * The parts of a message, to be sent one after another; tensors share memory with the parts. `isFinal`: of a stream, no other
 * answer to the same request follows.
 */
export function encodeInferResponse(response: OipResponse, isOfStream: boolean, isFinal = true): readonly Uint8Array[] {
  const writer = new ProtoWriter();
  writeNames(writer, response);
  if (isOfStream) writer.message(4, isFinal ? FINAL_ENTRY : NOT_FINAL_ENTRY);
  const blobs = response.outputs.map(valuesToBytes);
  for (const { name, datatype, shape } of response.outputs) {
    writeTensor(writer, { name, datatype, shape });
  }
  const parts = [writer.bytes, ...rawParts(6, blobs)];
  return isOfStream ? inStream(parts) : parts;
}

/** One of a list of tensors, of a request or of an answer, whose values stand elsewhere. */
export function writeTensor(writer: ProtoWriter, { name, datatype, shape }: Omit<OipTensor, 'data'>): void {
  const tensor = new ProtoWriter();
  tensor.text(1, name);
  tensor.text(2, datatype.name);
  const dims = new ProtoWriter();
  for (const dim of shape) dims.varint(dim);
  tensor.message(3, dims.bytes);
  writer.message(5, tensor.bytes);
}

/** Raw values, in the memory of the tensors, each behind its head. */
export function rawParts(field: number, blobs: readonly Uint8Array[]): readonly Uint8Array[] {
  return blobs.flatMap((blob) => {
    const head = new ProtoWriter();
    head.head(field, blob.length);
    return [head.bytes, blob];
  });
}

/** Which request failed, and why. */
export function encodeStreamFailure(message: string, response: Omit<OipResponse, 'outputs'>): readonly Uint8Array[] {
  const answer = new ProtoWriter();
  writeNames(answer, response);
  answer.message(4, FINAL_ENTRY);
  const writer = new ProtoWriter();
  writer.text(1, message);
  writer.message(2, answer.bytes);
  return [writer.bytes];
}

function writeNames(writer: ProtoWriter, { modelName, modelVersion, id }: Omit<OipResponse, 'outputs'>): void {
  if (modelName !== '') writer.text(1, modelName);
  if (modelVersion !== '') writer.text(2, modelVersion);
  if (id !== '') writer.text(3, id);
}

/** As the answer within a ModelStreamInferResponse. */
function inStream(parts: readonly Uint8Array[]): readonly Uint8Array[] {
  const head = new ProtoWriter();
  head.head(
    2,
    parts.reduce((total, part) => total + part.length, 0),
  );
  return [head.bytes, ...parts];
}

/** `triton_final_response`, as an entry of the map of parameters. */
const FINAL_ENTRY = finalEntry(true);
const NOT_FINAL_ENTRY = finalEntry(false);

function finalEntry(isFinal: boolean): Uint8Array {
  const value = new ProtoWriter();
  value.number(1, isFinal ? 1 : 0);
  const entry = new ProtoWriter();
  entry.text(1, FINAL);
  entry.message(2, value.bytes);
  return entry.bytes;
}
