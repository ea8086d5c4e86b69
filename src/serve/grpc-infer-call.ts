/**
 * ModelInferRequest as a client writes it, and ModelInferResponse as it reads it. The answer is foreign: what is not exactly
 * what was asked for is a TroupeError (PARSE_FAILED, INPUT_INVALID), and nothing is allocated for what it only says it holds.
 */
import type { Columns, TensorSpec } from '../wire/tensor.js';
import { addTo, rawParts, tensorIn, writeTensor } from './grpc-infer-message.js';
import { invalid, shownName } from './oip-invalid.js';
import { columnsOf } from './oip-reply.js';
import { type OipTensor, valuesToBytes } from './oip-tensor.js';
import { ProtoReader } from './proto-reader.js';
import { ProtoWriter } from './proto-writer.js';

export interface InferQuestion {
  readonly model: string;
  /** Of the model; undefined for the one that the server chooses. */
  readonly version: string | undefined;
  readonly inputs: readonly OipTensor[];
  /** Names of the outputs. */
  readonly outputs: readonly string[];
}

/** The parts of the message, one behind the other; tensors share memory with them. */
export function encodeInferRequest({ model, version, inputs, outputs }: InferQuestion): readonly Uint8Array[] {
  const writer = new ProtoWriter();
  writer.text(1, model);
  if (version !== undefined) writer.text(2, version);
  for (const input of inputs) writeTensor(writer, input);
  for (const name of outputs) {
    const output = new ProtoWriter();
    output.text(1, name);
    writer.message(6, output.bytes);
  }
  return [writer.bytes, ...rawParts(7, inputs.map(valuesToBytes))];
}

/** The outputs of `specs`, about so many records. Values may be views of `bytes`. */
export function decodeInferResponse(bytes: Buffer, specs: readonly TensorSpec[], count: number): Columns {
  const outputs: Buffer[] = [];
  const raws: Buffer[] = [];
  const reader = new ProtoReader(bytes);
  while (reader.next()) {
    if (reader.number === 5) addTo(outputs, reader.slice(), 'outputs');
    else if (reader.number === 6) addTo(raws, reader.slice(), 'raw_output_contents');
    else reader.skip();
  }
  // Some servers answer typed values to raw ones.
  if (raws.length > 0 && raws.length !== outputs.length)
    throw invalid(`raw_output_contents are ${raws.length}, outputs ${outputs.length}; they go together one by one`);
  const tensors = new Map<string, OipTensor>();
  for (const [index, output] of outputs.entries()) {
    const tensor = tensorIn(output, raws[index], 'output');
    if (tensors.has(tensor.name)) throw invalid(`output ${shownName(tensor.name)} is there twice`);
    tensors.set(tensor.name, tensor);
  }
  return columnsOf(tensors, specs, count);
}
