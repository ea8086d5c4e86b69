import { type NonFinite, type OipTensor, valuesToBytes, valuesToJson } from './oip-tensor.js';

export interface OutputTensor extends OipTensor {
  readonly isBinary: boolean;
}

export interface OipResponse {
  readonly modelName: string;
  readonly modelVersion: string;
  /** Left out where it is ''. */
  readonly id: string;
  readonly outputs: readonly OutputTensor[];
}

/** JSON, and the binary tensors that go behind it in their order. Blobs share memory with the tensors. */
export interface EncodedResponse {
  readonly json: string;
  readonly blobs: readonly Uint8Array[];
}

/**
 * The body of an answer. Throws INPUT_INVALID where an output cannot be JSON and was not asked for as bytes.
 *
 * An output that is JSON has no `parameters`: the C++ client would look for `binary_data_size` in them.
 */
export function encodeResponse(
  { modelName, modelVersion, id, outputs }: OipResponse,
  nonFinite: NonFinite,
): EncodedResponse {
  const blobs: Uint8Array[] = [];
  const parts = outputs.map((output) => {
    const { name, datatype, shape } = output;
    const head = `{"name":${JSON.stringify(name)},"datatype":"${datatype.name}","shape":[${shape.join(',')}],`;
    if (!output.isBinary) return `${head}"data":${valuesToJson(output, nonFinite)}}`;
    const blob = valuesToBytes(output);
    if (blob.length > 0) blobs.push(blob);
    return `${head}"parameters":{"binary_data_size":${blob.length}}}`;
  });
  const said = id === '' ? '' : `"id":${JSON.stringify(id)},`;
  const model = `"model_name":${JSON.stringify(modelName)},"model_version":${JSON.stringify(modelVersion)}`;
  return { json: `{${model},${said}"outputs":[${parts.join(',')}]}`, blobs };
}
