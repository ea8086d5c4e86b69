/**
 * Asks one model of a server of the Open Inference Protocol v2, over HTTP or gRPC, batch by batch.
 *
 * Owns what is believed of the model: its tensors, and how many records one request may hold. Does not own the wire (oip-over-*.ts),
 * connections, tries and time (the endpoint), nor batches (the pool).
 */
import { setMaxListeners } from 'node:events';
import { checkSignature } from '../entry/load-definition.js';
import { systemClock } from '../kernel/clock.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { checkName, isName } from '../models/names.js';
import { Backoff, pause } from '../stream/backoff.js';
import { checkOneOf, refuse } from '../stream/options.js';
import type { Column, Columns, NumericArray, Signature } from '../wire/tensor.js';
import { GrpcEndpoint } from './grpc-endpoint.js';
import { datatypeOf, makeValues } from './oip-datatype.js';
import { OipOverGrpc } from './oip-over-grpc.js';
import { OipOverHttp } from './oip-over-http.js';
import { signatureIn } from './oip-reply.js';
import type { OipWay } from './oip-way.js';
import type { RemoteEndpoint } from './remote-endpoint.js';
import { blamed } from './remote-fault.js';

export interface OipClientOptions {
  /** Its name at the server. */
  readonly model: string;
  /** Without it, the one that the server chooses. */
  readonly version?: string;
  /** Which of its outputs are asked for. Default: all. */
  readonly outputs?: readonly string[];
  /** How tensors travel over HTTP; auto: as bytes where the server says that it takes them, else as JSON. Default auto. */
  readonly tensors?: 'auto' | 'binary' | 'json';
  /** What the model takes and gives, the batch dimension left out. Default: what the server tells. */
  readonly signature?: Signature;
}

/** What a server offers, found out once. */
interface OpenModel {
  readonly signature: Signature;
  readonly isBinary: boolean;
  readonly maxBatchSize: number;
}

const PROBES = { attempts: Infinity, backoffMs: 100, maxBackoffMs: 2000 };

export class OipClient {
  readonly #way: OipWay;
  readonly #options: OipClientOptions;
  /** For messages. */
  readonly #name: string;
  #open: OpenModel | undefined;

  /** Wrong options throw a TypeError or ACTOR_INVALID, a name that is none a NAME_INVALID. `where` begins the messages. */
  constructor(where: string, endpoint: RemoteEndpoint | GrpcEndpoint, options: OipClientOptions) {
    const { model, version, outputs, tensors = 'auto', signature } = options;
    checkName('model', model);
    if (version !== undefined && !isName(version)) checkName('version', version);
    checkOneOf(`${where}: tensors`, tensors, ['auto', 'binary', 'json']);
    if (endpoint instanceof GrpcEndpoint && tensors === 'json')
      refuse(`${where}: tensors`, 'auto or binary over gRPC, which sends bytes', tensors);
    if (outputs !== undefined && !(Array.isArray(outputs) && outputs.length > 0 && outputs.every(isText)))
      refuse(`${where}: outputs`, 'a list of names of outputs', outputs);
    if (signature !== undefined) checkSignature(signature, 'its options');
    this.#options = options;
    this.#name = `Model "${model}"${version === undefined ? '' : ` version ${version}`} at ${endpoint.name}`;
    const place = { model, version, name: this.#name };
    this.#way = endpoint instanceof GrpcEndpoint ? new OipOverGrpc(endpoint, place) : new OipOverHttp(endpoint, place);
  }

  /** What open() found; undefined before. */
  get signature(): Signature | undefined {
    return this.#open?.signature;
  }

  /** Most records of one request, as the model's configuration at the server says; Infinity where it does not. */
  get maxBatchSize(): number {
    return this.#open?.maxBatchSize ?? Infinity;
  }

  /**
   * Finds out whether the server and the model are ready, and what the model takes and gives. Waits up to `waitMs` for it.
   * Rejects with REMOTE_UNAVAILABLE, REMOTE_REFUSED, MODEL_NOT_FOUND or SIGNATURE_MISMATCH.
   */
  async open(signal: AbortSignal, waitMs = 0): Promise<void> {
    const until = systemClock.now() + waitMs;
    const backoff = new Backoff(PROBES);
    for (;;) {
      try {
        this.#open = await this.#found(signal);
        return;
      } catch (error) {
        const mayPass = isTroupeError(error) && error.code === 'REMOTE_UNAVAILABLE';
        const ms = backoff.next(mayPass ? error.retryAfterMs : undefined) ?? Infinity;
        if (!mayPass || systemClock.now() + ms >= until) throw error;
        await pause(ms, signal);
        if (signal.aborted) throw error;
      }
    }
  }

  /**
   * The outputs of a batch. One that is larger than the model takes is several requests at once. Rejects as
   * RemoteEndpoint.call does.
   */
  async infer(batch: Columns, signal: AbortSignal): Promise<Columns> {
    const { signature, isBinary, maxBatchSize } = this.#open ?? unopened();
    const { count } = batch;
    if (count <= maxBatchSize) return this.#way.infer(batch, signature, isBinary, signal);
    // Each of them listens to it, and Node takes more than ten for a leak.
    setMaxListeners(2 * Math.ceil(count / maxBatchSize) + 10, signal);
    const asked: Promise<Columns>[] = [];
    for (let from = 0; from < count; from += maxBatchSize) {
      const part = partOf(batch, from, Math.min(count, from + maxBatchSize));
      asked.push(this.#way.infer(part, signature, isBinary, signal));
    }
    // All of them: what is asked again meets nothing that is still under way.
    const answers = await Promise.allSettled(asked);
    const parts = answers.map((answer) => {
      if (answer.status === 'rejected') throw ofWhole(answer.reason);
      return answer.value;
    });
    return this.#joined(parts, signature, count);
  }

  /** One try: a server that goes away between two questions is asked all of them again. */
  async #found(signal: AbortSignal): Promise<OpenModel> {
    await this.#probe(signal);
    const { tensors = 'auto' } = this.#options;
    const extensions = await this.#way.extensions(signal);
    const isBinary = tensors === 'auto' ? extensions.includes('binary_tensor_data') : tensors === 'binary';
    const signature = await this.#findSignature(signal);
    this.#refuseMute(signature, isBinary);
    const config = extensions.includes('model_configuration') ? await this.#way.config(signal) : undefined;
    return { signature, isBinary, maxBatchSize: sizeIn(config) };
  }

  async #probe(signal: AbortSignal): Promise<void> {
    const isReady = await this.#way.isReady('model', signal);
    if (isReady === true) return;
    if ((await this.#way.isReady('server', signal)) !== true && isReady !== 'not-found')
      throw new TroupeError('REMOTE_UNAVAILABLE', `${this.#way.name} answers and is not ready`);
    if (isReady === 'not-found')
      throw new TroupeError('MODEL_NOT_FOUND', `${this.#name} is not there; see what the server offers`);
    throw new TroupeError('REMOTE_UNAVAILABLE', `${this.#name} is not ready: not loaded, or not there`);
  }

  async #findSignature(signal: AbortSignal): Promise<Signature> {
    const { signature, outputs } = this.#options;
    if (signature !== undefined) return this.#wanted(signature);
    try {
      return signatureIn(await this.#way.metadata(signal), outputs);
    } catch (error) {
      if (!isTroupeError(error) || (error.code !== 'INPUT_INVALID' && error.code !== 'PARSE_FAILED')) throw error;
      throw new TroupeError('SIGNATURE_MISMATCH', `${this.#name}: ${error.message}`, { cause: error });
    }
  }

  #wanted(signature: Signature): Signature {
    const { outputs } = this.#options;
    if (outputs === undefined) return signature;
    const found = signature.outputs.filter(({ name }) => outputs.includes(name));
    const missing = outputs.find((name) => !found.some((output) => output.name === name));
    if (missing === undefined) return { inputs: signature.inputs, outputs: found };
    throw new TroupeError('SIGNATURE_MISMATCH', `${this.#name}: there is no output "${missing}" in options.signature`);
  }

  #refuseMute({ inputs, outputs }: Signature, isBinary: boolean): void {
    if (isBinary) return;
    const mute = [...inputs, ...outputs].find(({ dtype }) => datatypeOf(dtype).json === 'none');
    if (mute === undefined) return;
    const why = `"${mute.name}" is ${datatypeOf(mute.dtype).name}, which JSON does not hold, and the server takes no bytes`;
    throw new TroupeError('SIGNATURE_MISMATCH', `${this.#name}: ${why}`);
  }

  #joined(parts: readonly Columns[], { outputs }: Signature, count: number): Columns {
    const columns: Record<string, Column> = Object.create(null) as Record<string, Column>;
    for (const { name, dtype } of outputs) {
      const each = parts.map((part) => part.columns[name] as Column); // Every answer was read by the signature.
      const [first] = each as [Column];
      const { shape } = first;
      if (each.some((one) => one.shape.join() !== shape.join()))
        throw blamed('PREDICT_FAILED', `${this.#name}: records of one batch have "${name}" of different shapes`, count);
      columns[name] = { dtype, shape, data: joinedData(each) };
    }
    return { count, columns };
  }
}

/** Most records of one request. */
function sizeIn(config: Readonly<Record<string, unknown>> | undefined): number {
  const size = config?.['max_batch_size'];
  return Number.isSafeInteger(size) && (size as number) > 0 ? (size as number) : Infinity;
}

function partOf({ count, columns }: Columns, from: number, to: number): Columns {
  const part: Record<string, Column> = Object.create(null) as Record<string, Column>;
  for (const [name, { dtype, shape, data }] of Object.entries(columns)) {
    const each = data.length / count;
    const [first, last] = [from * each, to * each];
    part[name] = { dtype, shape, data: Array.isArray(data) ? data.slice(first, last) : data.subarray(first, last) };
  }
  return { count: to - from, columns: part };
}

function joinedData(parts: readonly Column[]): Column['data'] {
  const [{ dtype, data: first }] = parts as readonly [Column];
  if (Array.isArray(first)) return parts.flatMap(({ data }) => data as string[]);
  const all = makeValues(
    datatypeOf(dtype),
    parts.reduce((total, { data }) => total + data.length, 0),
  );
  let at = 0;
  for (const { data } of parts) {
    (all as Float32Array).set(data as Float32Array, at); // They are of one class, as the dtype says.
    at += (data as NumericArray).length;
  }
  return all;
}

/** Of a part of one record: what it may have caused is the fault of one of the whole batch. */
function ofWhole(error: unknown): unknown {
  const isOfRecord =
    isTroupeError(error) && ['REMOTE_FAILED', 'PROTOCOL_VIOLATION', 'INPUT_INVALID'].includes(error.code);
  return isOfRecord ? new TroupeError('PREDICT_FAILED', error.message, { cause: error }) : error;
}

function unopened(): never {
  throw new TypeError('OipClient.infer must be called after open() has resolved');
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== '';
}
