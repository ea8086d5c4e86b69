/**
 * The methods of `inference.GRPCInferenceService`, as Triton has them, and of `grpc.health.v1.Health`, over the pools of a
 * system. What they tell is what the routes of oip-listener.ts tell, and who may is the same.
 */
import type { System } from '../actor/system.js';
import { systemClock } from '../kernel/clock.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { isName } from '../models/names.js';
import { busy, type ByteBudget, type HeldBytes, Refusal } from '../stream/http-body.js';
import type { accessOf, Scope } from './access.js';
import type { GrpcCall } from './grpc-call.js';
import { type HealthStatus, HealthWatch } from './grpc-health.js';
import { encodeInferResponse, encodeStreamFailure, type InferMessage, readInferMessage } from './grpc-infer-message.js';
import type { GrpcMethod } from './grpc-listener.js';
import {
  type Asked,
  decodeMessage,
  decodePlain,
  EMPTY,
  encodeMessage,
  HEALTH_REQUEST,
  HEALTH_RESPONSE,
  LOAD_PARAMETER,
  type MessageTable,
  MODEL_CONFIG,
  MODEL_METADATA,
  MODEL_REQUEST,
  MODEL_STATISTICS,
  READY,
  REPOSITORY_INDEX,
  REPOSITORY_INDEX_REQUEST,
  REPOSITORY_MODEL_REQUEST,
  SERVER_LIVE,
  SERVER_METADATA,
} from './grpc-messages.js';
import { answerDecoupled, HeldMessage } from './grpc-decoupled.js';
import { answerStream, type StreamAnswer, type StreamWork } from './grpc-stream.js';
import { answerRequest, refuseLarge } from './oip-answer.js';
import { modelConfig, modelMetadata, repositoryIndex, serverMetadata, statistics } from './oip-describe.js';
import { shownName } from './oip-invalid.js';
import { versionToLoad } from './load-parameters.js';
import { failureOf, UNSERVED } from './oip-status.js';
import {
  allModels,
  findModel,
  isServerReady,
  loadModel,
  type ServedModel,
  signatureOf,
  tensorsOfModel,
  unloadModel,
} from './served-models.js';
import type { ServedMeter } from './served-meter.js';
import type { ResolvedServe } from './serve-options.js';

export interface GrpcServiceParts {
  readonly system: System;
  readonly options: ResolvedServe;
  readonly budget: ByteBudget;
  readonly meter: ServedMeter;
  readonly access: ReturnType<typeof accessOf>;
  readonly version: string;
  /** Names of pools that have to be there for the server to be ready, besides those that are. */
  readonly pools: () => readonly string[];
}

const SERVICE = 'inference.GRPCInferenceService';
const HEALTH = 'grpc.health.v1.Health';
/** It needs no token, and lasts. */
const WATCHES_MAX = 1024;

export function grpcMethods(parts: GrpcServiceParts): ReadonlyMap<string, GrpcMethod> {
  return new GrpcService(parts).methods;
}

type Tell = (asked: Asked) => unknown;

class GrpcService {
  readonly methods = new Map<string, GrpcMethod>();
  readonly #parts: GrpcServiceParts;
  readonly #health: HealthWatch;
  #watching = 0;

  constructor(parts: GrpcServiceParts) {
    this.#parts = parts;
    this.#health = new HealthWatch(() => isServerReady(parts.system, parts.pools()));
    this.#addServer();
    this.#addModels();
    this.#addRepository();
    this.#addUnserved();
    this.#addHealth();
    this.#add('ModelInfer', 'infer', false, (call) => this.#inferOnce(call));
    this.#add('ModelStreamInfer', 'infer', true, (call) => this.#inferMany(call));
  }

  #addServer(): void {
    this.#tell('ServerLive', 'open', EMPTY, SERVER_LIVE, () => ({ live: true }));
    this.#tell('ServerReady', 'open', EMPTY, READY, async () => ({
      ready: (await this.#health.status()) === 'SERVING',
    }));
    this.#tell('ServerMetadata', 'infer', EMPTY, SERVER_METADATA, () => serverMetadata(this.#parts.version));
  }

  #addModels(): void {
    const { system, meter } = this.#parts;
    this.#tell('ModelReady', 'infer', MODEL_REQUEST, READY, async (asked) => ({ ready: await this.#isReady(asked) }));
    this.#tell('ModelMetadata', 'infer', MODEL_REQUEST, MODEL_METADATA, (asked) => modelMetadata(this.#model(asked)));
    this.#tell('ModelConfig', 'infer', MODEL_REQUEST, MODEL_CONFIG, async (asked) => ({
      config: await modelConfig(this.#model(asked)),
    }));
    this.#tell('ModelStatistics', 'infer', MODEL_REQUEST, MODEL_STATISTICS, (asked) =>
      statistics(asked.text('name') === '' ? allModels(system) : [this.#model(asked)], meter),
    );
  }

  #addRepository(): void {
    const { system } = this.#parts;
    this.#tell('RepositoryIndex', 'infer', REPOSITORY_INDEX_REQUEST, REPOSITORY_INDEX, (asked) => {
      refuseRepository(asked);
      return { models: repositoryIndex(system, asked.flag('ready')) };
    });
    this.#tell('RepositoryModelLoad', 'admin', REPOSITORY_MODEL_REQUEST, EMPTY, async (asked) => {
      refuseRepository(asked);
      const served = this.#find(asked.text('model_name'), undefined);
      await loadModel(served, await versionToLoad(loadParameters(asked), () => modelConfig(served)));
      return {};
    });
    this.#tell('RepositoryModelUnload', 'admin', REPOSITORY_MODEL_REQUEST, EMPTY, (asked) => {
      refuseRepository(asked);
      unloadModel(this.#find(asked.text('model_name'), undefined));
      return {};
    });
  }

  /** Of shared memory there is none, so that none is told, and taking it all back is done. */
  #addUnserved(): void {
    const refused = (name: string, why: string): void =>
      this.#tell(name, 'infer', EMPTY, EMPTY, () => {
        throw new Refusal(501, why);
      });
    for (const kind of ['System', 'Cuda']) {
      this.#tell(`${kind}SharedMemoryStatus`, 'infer', EMPTY, EMPTY, () => ({}));
      this.#tell(`${kind}SharedMemoryUnregister`, 'infer', EMPTY, EMPTY, () => ({}));
      refused(`${kind}SharedMemoryRegister`, UNSERVED.sharedMemory);
    }
    refused('TraceSetting', UNSERVED.settings);
    refused('LogSettings', UNSERVED.settings);
  }

  #addHealth(): void {
    const check = async (call: GrpcCall): Promise<void> => {
      const asked = await this.#asked(call, HEALTH_REQUEST);
      if (!isServed(asked)) throw new Refusal(404, 'there is no such service');
      const status = await this.#health.status();
      await call.send([encodeMessage(HEALTH_RESPONSE, { status })]);
      call.end();
    };
    const { access } = this.#parts;
    this.methods.set(`/${HEALTH}/Check`, { admits: access.open, isStream: false, take: check });
    this.methods.set(`/${HEALTH}/Watch`, { admits: access.open, isStream: true, take: (call) => this.#watch(call) });
  }

  /** As the protocol says: the status now, and each time it is another; of a service that is not here, that it is unknown. */
  async #watch(call: GrpcCall): Promise<void> {
    if (this.#watching === WATCHES_MAX) throw new Refusal(429, `${WATCHES_MAX} watch already`);
    this.#watching++;
    try {
      await this.#tellHealth(call);
    } finally {
      this.#watching--;
    }
  }

  async #tellHealth(call: GrpcCall): Promise<void> {
    const asked = await this.#asked(call, HEALTH_REQUEST);
    let last: HealthStatus | 'SERVICE_UNKNOWN' | undefined;
    const tell = (status: HealthStatus | 'SERVICE_UNKNOWN'): void => {
      if (status === last) return;
      last = status;
      void call.send([encodeMessage(HEALTH_RESPONSE, { status })]);
    };
    if (!isServed(asked)) tell('SERVICE_UNKNOWN');
    else tell(await this.#health.status());
    const stop = isServed(asked) ? this.#health.watch(tell) : (): void => undefined;
    try {
      await call.over();
    } finally {
      stop();
    }
    if (isServed(asked)) tell('NOT_SERVING');
    throw new TroupeError('POOL_STOPPED', 'The server is stopping');
  }

  async #inferOnce(call: GrpcCall): Promise<void> {
    const message = await onlyMessage(call);
    const of = new HeldMessage(this.#parts.budget, message.held);
    try {
      const { parts, held } = await this.#answered(call, readInferMessage(message.bytes), of, false);
      await call.send(parts, held);
    } finally {
      of.release();
    }
    call.end();
  }

  async #inferMany(call: GrpcCall): Promise<void> {
    const failsWhole = call.headers['triton_grpc_error'] === 'true';
    await answerStream(call, failsWhole, (message) => this.#begin(call, message));
  }

  /** One of a stream. */
  async #begin(call: GrpcCall, message: HeldBytes | Refusal): Promise<StreamWork> {
    const asked = { modelName: '', modelVersion: '', id: '' };
    const failed = (error: unknown): StreamAnswer => {
      return { kind: 'failed', error, parts: encodeStreamFailure(failureOf(error).message, asked) };
    };
    if (message instanceof Refusal) return { kind: 'once', answer: Promise.resolve(failed(message)) };
    const held = new HeldMessage(this.#parts.budget, message.held);
    try {
      const infer = readInferMessage(message.bytes);
      Object.assign(asked, { modelName: infer.modelName, id: infer.id });
      const served = this.#find(infer.modelName, infer.modelVersion);
      // One that has not been loaded yet, or has no tensors, fails below.
      const signature = await signatureOf(served).catch(() => undefined);
      if (signature?.decoupled === true) {
        const run = answerDecoupled(this.#parts, call, served, signature, infer, held);
        return { kind: 'many', run: (send) => run(send).catch(failed) };
      }
      const answered = this.#answered(call, infer, held, true);
      return { kind: 'once', answer: answered.then((got) => ({ kind: 'answered', ...got }), failed) };
    } catch (error) {
      held.release();
      return { kind: 'once', answer: Promise.resolve(failed(error)) };
    }
  }

  /** The budget has `held` of the answer, and nothing of the message. */
  async #answered(
    call: GrpcCall,
    message: InferMessage,
    held: HeldMessage,
    isOfStream: boolean,
  ): Promise<{ readonly parts: readonly Uint8Array[]; readonly held: number }> {
    try {
      const parts = await this.#infer(call, message, isOfStream, (size) => {
        held.release();
        if (!this.#parts.budget.take(size)) throw busy();
      });
      return { parts, held: sizeOf(parts) };
    } finally {
      held.release();
    }
  }

  /** `take` has to find room for the answer, or to throw. */
  async #infer(
    call: GrpcCall,
    message: InferMessage,
    isOfStream: boolean,
    take: (size: number) => void,
  ): Promise<readonly Uint8Array[]> {
    const { options, meter } = this.#parts;
    const receivedAt = systemClock.now();
    const { deadlineAt, signal } = call;
    const traceparent = textOf(call.headers['traceparent']);
    const served = this.#find(message.modelName, message.modelVersion);
    let parts: readonly Uint8Array[] = [];
    const work = async (): Promise<number> => {
      const signature = await tensorsOfModel(served);
      const request = message.decode();
      const terms = { receivedAt, deadlineAt, traceparent, signal };
      const { response, records } = await answerRequest(served, signature, request, options, terms);
      parts = encodeInferResponse(response, isOfStream);
      refuseLarge(sizeOf(parts), options);
      take(sizeOf(parts));
      return records;
    };
    await meter.during(served, work, (error) =>
      call.isLate ? 'late' : signal.aborted ? 'gone' : failureOf(error).outcome,
    );
    return parts;
  }

  /** As Triton says it: what is not there is not ready. */
  async #isReady(asked: Asked): Promise<boolean> {
    try {
      return (await this.#model(asked).pool.health()).ready;
    } catch (error) {
      if (isTroupeError(error) && ['MODEL_NOT_FOUND', 'VERSION_NOT_FOUND'].includes(error.code)) return false;
      throw error;
    }
  }

  #model(asked: Asked): ServedModel {
    const version = asked.text('version');
    return this.#find(asked.text('name'), version === '' ? undefined : version);
  }

  /** What cannot be a name is no name of a model, as over HTTP. */
  #find(name: string, version: string | undefined): ServedModel {
    if (isName(name) && (version === undefined || isName(version))) return findModel(this.#parts.system, name, version);
    throw new TroupeError('MODEL_NOT_FOUND', `There is no model ${shownName(name)} here`);
  }

  async #asked(call: GrpcCall, request: MessageTable): Promise<Asked> {
    const { bytes, held } = await onlyMessage(call);
    try {
      return decodeMessage(request, bytes);
    } finally {
      this.#parts.budget.give(held);
    }
  }

  /** One that is told with what `tell` finds, by the names of the fields. */
  #tell(name: string, scope: Scope, request: MessageTable, reply: MessageTable, tell: Tell): void {
    this.#add(name, scope, false, async (call) => {
      const told = await tell(await this.#asked(call, request));
      await call.send([encodeMessage(reply, told as object)]);
      call.end();
    });
  }

  #add(name: string, scope: Scope, isStream: boolean, take: GrpcMethod['take']): void {
    this.methods.set(`/${SERVICE}/${name}`, { admits: this.#parts.access[scope], isStream, take });
  }
}

async function onlyMessage(call: GrpcCall): Promise<HeldBytes> {
  const message = await call.next();
  if (message === undefined) throw new Refusal(400, 'the call has no message');
  if (message instanceof Refusal) throw message;
  return message;
}

function isServed(asked: Asked): boolean {
  return ['', SERVICE].includes(asked.text('service'));
}

function refuseRepository(asked: Asked): void {
  if (asked.text('repository_name') !== '') throw new Refusal(501, UNSERVED.repositories);
}

/** One that is no text is undefined, which no parameter is. */
function loadParameters(asked: Asked): ReadonlyMap<string, unknown> {
  return new Map(
    asked.messages('parameters').map((bytes) => {
      const { key, value } = decodePlain(LOAD_PARAMETER, bytes);
      return [String(key), (value as { readonly string_param?: unknown } | undefined)?.string_param];
    }),
  );
}

function sizeOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((total, part) => total + part.length, 0);
}

/** Of a header that is given once. */
function textOf(header: string | string[] | undefined): string | undefined {
  return Array.isArray(header) ? header.join(', ') : header;
}
