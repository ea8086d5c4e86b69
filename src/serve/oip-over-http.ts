/** One model of the Open Inference Protocol v2 over HTTP/1.1: what goes to the wire, and what is believed of the answers. */
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import type { Columns, Signature } from '../wire/tensor.js';
import { datatypeOf } from './oip-datatype.js';
import { decodeReply } from './oip-reply.js';
import { readJson } from './oip-request.js';
import { valuesToBytes, valuesToJson } from './oip-tensor.js';
import type { ModelPlace, OipWay } from './oip-way.js';
import type { RemoteEndpoint } from './remote-endpoint.js';
import { blamed, faultOfReply } from './remote-fault.js';

export class OipOverHttp implements OipWay {
  readonly name: string;
  readonly #endpoint: RemoteEndpoint;
  readonly #model: ModelPlace;
  /** Of the model, below the endpoint. */
  readonly #path: string;

  constructor(endpoint: RemoteEndpoint, model: ModelPlace) {
    this.name = endpoint.name;
    this.#endpoint = endpoint;
    this.#model = model;
    this.#path = `v2/models/${model.model}${model.version === undefined ? '' : `/versions/${model.version}`}`;
  }

  async isReady(what: 'model' | 'server', signal: AbortSignal): Promise<boolean | 'not-found'> {
    const path = what === 'model' ? `${this.#path}/ready` : 'v2/health/ready';
    const reply = await this.#endpoint.ask({ method: 'GET', path, signal });
    const { status, body } = reply;
    // Some say no with status 200.
    if (status === 200) return !/"ready"\s*:\s*false/.test(body.subarray(0, 1024).toString());
    if (status === 404) return 'not-found';
    // Triton says 400 of a model that is not ready.
    if (status === 400 || status >= 500) return false;
    throw this.#endpoint.faultOf(path, reply);
  }

  async extensions(signal: AbortSignal): Promise<readonly unknown[]> {
    const told = await this.#told('v2', signal);
    const { extensions } = told ?? {};
    return Array.isArray(extensions) ? extensions : [];
  }

  async metadata(signal: AbortSignal): Promise<Readonly<Record<string, unknown>>> {
    const { body } = await this.#endpoint.call({ method: 'GET', path: this.#path, retryForMs: 0, signal });
    return readJson(body, 'the metadata');
  }

  config(signal: AbortSignal): Promise<Readonly<Record<string, unknown>> | undefined> {
    return this.#told(`${this.#path}/config`, signal);
  }

  async infer(batch: Columns, signature: Signature, isBinary: boolean, signal: AbortSignal): Promise<Columns> {
    const { count } = batch;
    const request = this.#encode(batch, signature, isBinary);
    const { body, headers } = await this.#endpoint.call({
      method: 'POST',
      path: `${this.#path}/infer`,
      headers: request.headers,
      body: request.parts,
      count,
      signal,
    });
    const headerLength = headers['inference-header-content-length'];
    try {
      return decodeReply(body, Array.isArray(headerLength) ? headerLength[0] : headerLength, signature.outputs, count);
    } catch (error) {
      if (!isTroupeError(error)) throw error;
      throw faultOfReply(this.#model.name, error.message, count, error);
    }
  }

  /** Undefined where it does not say it: a server that tells nothing of itself promises nothing. */
  async #told(path: string, signal: AbortSignal): Promise<Readonly<Record<string, unknown>> | undefined> {
    const { status, body } = await this.#endpoint.ask({ method: 'GET', path, signal });
    if (status !== 200) return undefined;
    try {
      return readJson(body, 'the answer');
    } catch (error) {
      if (!isTroupeError(error)) throw error;
      throw faultOfReply(`${this.#endpoint.name}${path}`, error.message, 0, error);
    }
  }

  #encode({ count, columns }: Columns, { inputs, outputs }: Signature, isBinary: boolean): Encoded {
    const blobs: Uint8Array[] = [];
    const parts: string[] = [];
    for (const { name } of inputs) {
      const column = columns[name];
      if (column === undefined) throw new TroupeError('INPUT_INVALID', `The batch has no input "${name}"`);
      const datatype = datatypeOf(column.dtype);
      const tensor = { name, datatype, shape: [count, ...column.shape], data: column.data };
      const head = `{"name":${JSON.stringify(name)},"datatype":"${datatype.name}","shape":[${tensor.shape.join(',')}],`;
      if (isBinary) {
        const blob = valuesToBytes(tensor);
        blobs.push(blob);
        parts.push(`${head}"parameters":{"binary_data_size":${blob.length}}}`);
      } else {
        try {
          // Bare NaN is no JSON for servers that know no bytes.
          parts.push(`${head}"data":${valuesToJson(tensor, 'refuse')}}`);
        } catch (error) {
          if (!isTroupeError(error)) throw error;
          const why = `input "${name}" holds NaN or an infinity, which are no JSON, and the server takes no bytes`;
          throw blamed('INPUT_INVALID', `${this.#model.name}: ${why}`, count, error);
        }
      }
    }
    const wanted = outputs.map(({ name }) => {
      return `{"name":${JSON.stringify(name)}${isBinary ? ',"parameters":{"binary_data":true}' : ''}}`;
    });
    const json = Buffer.from(`{"inputs":[${parts.join(',')}],"outputs":[${wanted.join(',')}]}`);
    const headers = isBinary
      ? { 'content-type': 'application/octet-stream', 'inference-header-content-length': String(json.length) }
      : { 'content-type': 'application/json' };
    return { parts: [json, ...blobs], headers };
  }
}

interface Encoded {
  readonly parts: readonly Uint8Array[];
  readonly headers: Readonly<Record<string, string>>;
}
