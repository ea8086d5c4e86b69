/**
 * One model of `inference.GRPCInferenceService`, as Triton has it: tensors go raw, and come raw or typed. What it does for a
 * client is what oip-over-http.ts does over HTTP, errors included.
 */
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import type { Columns, Signature } from '../wire/tensor.js';
import type { GrpcEndpoint } from './grpc-endpoint.js';
import { decodeInferResponse, encodeInferRequest } from './grpc-infer-call.js';
import {
  decodePlain,
  EMPTY,
  encodeMessage,
  type MessageTable,
  MODEL_CONFIG,
  MODEL_METADATA,
  MODEL_REQUEST,
  READY,
  SERVER_METADATA,
} from './grpc-messages.js';
import { datatypeOf } from './oip-datatype.js';
import { grpcStatusOf } from './oip-status.js';
import type { ModelPlace, OipWay } from './oip-way.js';
import { faultOfReply } from './remote-fault.js';

const SERVICE = '/inference.GRPCInferenceService';
/** Of what a server tells of itself and of its models. */
const TOLD_BYTES_MAX = 4_194_304;

export class OipOverGrpc implements OipWay {
  readonly name: string;
  readonly #endpoint: GrpcEndpoint;
  readonly #model: ModelPlace;
  readonly #asked: Buffer;

  constructor(endpoint: GrpcEndpoint, model: ModelPlace) {
    this.name = endpoint.name;
    this.#endpoint = endpoint;
    this.#model = model;
    this.#asked = encodeMessage(MODEL_REQUEST, { name: model.model, version: model.version ?? '' });
  }

  async isReady(what: 'model' | 'server', signal: AbortSignal): Promise<boolean | 'not-found'> {
    const method = what === 'model' ? 'ModelReady' : 'ServerReady';
    const said = await this.#said(method, READY, what === 'model' ? this.#asked : EMPTY_MESSAGE, signal);
    if (said === 'not-found' || said === false) return said;
    if (said['ready'] === true) return true;
    if (what === 'server') return false;
    // Ours says no of a model that is not there; what it tells of it says which of the two it is.
    return (await this.#said('ModelMetadata', MODEL_METADATA, this.#asked, signal)) === 'not-found'
      ? 'not-found'
      : false;
  }

  async extensions(signal: AbortSignal): Promise<readonly unknown[]> {
    const told = await this.#told('ServerMetadata', SERVER_METADATA, EMPTY_MESSAGE, signal);
    return [...((told?.['extensions'] as readonly unknown[] | undefined) ?? []), 'binary_tensor_data'];
  }

  async metadata(signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
    const path = `${SERVICE}/ModelMetadata`;
    const asked = { path, parts: [this.#asked], retryForMs: 0, maxReplyBytes: TOLD_BYTES_MAX, signal };
    return decodePlain(MODEL_METADATA, await this.#endpoint.call(asked));
  }

  async config(signal: AbortSignal): Promise<Readonly<Record<string, unknown>> | undefined> {
    const told = await this.#told('ModelConfig', MODEL_CONFIG, this.#asked, signal);
    return told?.['config'] as Readonly<Record<string, unknown>> | undefined;
  }

  async infer({ count, columns }: Columns, signature: Signature, _: boolean, signal: AbortSignal): Promise<Columns> {
    const inputs = signature.inputs.map(({ name }) => {
      const column = columns[name];
      if (column === undefined) throw new TroupeError('INPUT_INVALID', `The batch has no input "${name}"`);
      const { dtype, shape, data } = column;
      return { name, datatype: datatypeOf(dtype), shape: [count, ...shape], data };
    });
    const { model, version, name } = this.#model;
    const outputs = signature.outputs.map((output) => output.name);
    const parts = encodeInferRequest({ model, version, inputs, outputs });
    const bytes = await this.#endpoint.call({ path: `${SERVICE}/ModelInfer`, parts, count, signal });
    try {
      return decodeInferResponse(bytes, signature.outputs, count);
    } catch (error) {
      if (!isTroupeError(error)) throw error;
      throw faultOfReply(name, error.message, count, error);
    }
  }

  /** Of something that may be there later. */
  async #said(
    method: string,
    table: MessageTable,
    asked: Buffer,
    signal: AbortSignal,
  ): Promise<Readonly<Record<string, unknown>> | 'not-found' | false> {
    const path = `${SERVICE}/${method}`;
    const reply = await this.#endpoint.ask({ path, parts: [asked], maxReplyBytes: TOLD_BYTES_MAX, signal });
    if (reply.kind === 'ok') return this.#read(path, table, reply.body);
    const fault = this.#endpoint.faultOf(path, reply);
    if (reply.kind === 'http' || fault.code === 'REMOTE_REFUSED') {
      if (reply.kind === 'status' && grpcStatusOf(reply.code).name === 'NOT_FOUND') return 'not-found';
      throw fault;
    }
    return false;
  }

  /** Undefined where the server does not tell it. */
  async #told(
    method: string,
    table: MessageTable,
    asked: Buffer,
    signal: AbortSignal,
  ): Promise<Readonly<Record<string, unknown>> | undefined> {
    const path = `${SERVICE}/${method}`;
    const reply = await this.#endpoint.ask({ path, parts: [asked], maxReplyBytes: TOLD_BYTES_MAX, signal });
    return reply.kind === 'ok' ? this.#read(path, table, reply.body) : undefined;
  }

  #read(path: string, table: MessageTable, body: Buffer): Readonly<Record<string, unknown>> {
    try {
      return decodePlain(table, body);
    } catch (error) {
      if (!isTroupeError(error)) throw error;
      throw faultOfReply(`${this.#endpoint.name}${path}`, error.message, 0, error);
    }
  }
}

const EMPTY_MESSAGE = encodeMessage(EMPTY, {});
