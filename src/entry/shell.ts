import { types } from 'node:util';
import { deferred, type Deferred } from '../kernel/deferred.js';
import { type ErrorDetails, isTroupeError, TroupeError } from '../kernel/errors.js';
import { checkColumns, numericClassOf } from '../wire/columns.js';
import type { ActorDefinition, LoadContext } from '../wire/definition.js';
import { type Fault, retryAfterOf, toFault } from '../wire/fault.js';
import {
  type Answer,
  type BatchMessage,
  type EntryDescription,
  type EntrySpec,
  type HostLane,
  type ModelDescription,
  type ModelSpec,
  PING,
  type Runner,
  STATE_BUSY,
  STATE_NATIVE,
  type ToEntry,
} from '../wire/messages.js';
import { ownsMemory, Recycler } from '../wire/recycler.js';
import { packRows, type Payload, payloadCount, viewRows } from '../wire/rows.js';
import type { Column, Columns, Signature } from '../wire/tensor.js';
import { isTokenStream } from '../wire/token-stream.js';
import { BatchContext } from './batch-context.js';
import { decoupledOutputs } from './decoupled-outputs.js';
import { loadDefinition } from './load-definition.js';
import { OutgoingStreams } from './outgoing-streams.js';
import { checkPinned, type LoadedState, loadState, type WarmUpPlan } from './load-state.js';

/**
 * The runner of one replica, the same inline, in a thread and in a child process. It owns the definition, its loaded
 * state and the batches that were received; it does not own the lane (the entry files do) or any decision about what
 * happens after a failure (the host side does).
 *
 * S1 One predict at a time, those of warm-ups too; batches run in the order they came.
 * S2 Every batch that was received is answered once, by `reply` or `failed`, unless the replica ends or is fenced first.
 * S3 The next predict starts only when the last reply no longer needs the arrays of the actor.
 * S4 unload runs once, after the last predict, and only when load succeeded.
 * S5 STATE_BUSY is above zero while code of the actor runs or may run.
 * S6 Where it holds many models, each is loaded and unloaded on its own, while batches of others run; what is loaded when
 *    the replica stops is unloaded then.
 * S7 Token streams run beside the batches that come after theirs; nothing that they may use is unloaded before their end.
 */
export function createShell(lane: HostLane, state: Int32Array, options: ShellOptions = {}): Runner {
  return new Shell(lane, state, options);
}

export interface ShellOptions {
  /** Whether output columns are copied before they are posted: the actor may use its arrays again. False where the lane copies. Default true. */
  readonly copiesOutputs?: boolean;
  /** Whether each of several records has a copy of its part of a column when `post` is back. Default false. */
  readonly slicesAtOnce?: boolean;
}

/** What a batch is run with. */
interface Loaded {
  readonly definition: ActorDefinition;
  readonly model: string | undefined;
  readonly version: string | undefined;
  readonly state: unknown;
  readonly signature: Signature | undefined;
}

type PlainContext = Omit<LoadContext, 'warmedUp' | 'usesBytes' | 'signal'>;

/** Of a replica that has only its definition so far. */
const NOTHING_LOADED: LoadedState = {
  state: undefined,
  description: { signature: undefined, bytes: undefined, costs: [] },
};

class Shell implements Runner {
  private readonly lane: HostLane;
  private readonly words: Int32Array;
  private readonly copiesOutputs: boolean;
  private readonly slicesAtOnce: boolean;
  private readonly recycler = new Recycler();
  private readonly queue: BatchMessage[] = [];
  private readonly abandoned = new Set<number>();
  private readonly loadAbort = new AbortController();
  private spec: EntrySpec | undefined;
  private loading: Promise<unknown> | undefined;
  private loaded: Loaded | undefined;
  /** By key; empty but where the replica holds many. */
  private readonly models = new Map<string, Loaded>();
  private readonly loadingModels = new Set<Promise<unknown>>();
  /** Runs of warm-ups that wait for theirs; and whether one has it. */
  private readonly turns: Deferred<void>[] = [];
  private isWarming = false;
  private readonly streams = new OutgoingStreams({
    post: (message) => (this.isFenced ? undefined : this.lane.post(message)),
    faultOf: (error) => toFault(this.asPredictError(error)),
    enter: () => this.enter(),
    leave: () => this.leave(),
  });
  private running:
    | { readonly id: number; readonly context: BatchContext; readonly loaded: Loaded; hasStreams: boolean }
    | undefined;
  private stopping: Promise<Answer<undefined>> | undefined;
  private receivedCount = 0;
  private expectedCount = 0;
  private isFenced = false;
  private idle: Deferred<void> | undefined;

  constructor(lane: HostLane, words: Int32Array, { copiesOutputs = true, slicesAtOnce = false }: ShellOptions) {
    this.lane = lane;
    this.words = words;
    this.copiesOutputs = copiesOutputs;
    this.slicesAtOnce = slicesAtOnce;
  }

  start(spec: EntrySpec): Promise<Answer<EntryDescription>> {
    const answer = this.load(spec).catch(
      (error: unknown): Answer<EntryDescription> => ({ ok: false, fault: toFault(asLoadError(error, spec)) }),
    );
    this.loading = answer;
    return answer;
  }

  receive(message: ToEntry): void {
    if (message.incarnation !== this.spec?.incarnation || this.isFenced) return;
    if (message.kind === 'abandon') {
      if (this.running?.id === message.id) this.running.context.abort();
      else if (this.queue.some((batch) => batch.id === message.id)) this.abandoned.add(message.id);
      return;
    }
    if (message.kind === 'pull') {
      this.streams.pull(message);
      return;
    }
    if (message.kind === 'end-stream') {
      this.streams.giveUp(message.id, message.index);
      return;
    }
    this.receivedCount++;
    this.queue.push(message);
    this.pump();
  }

  async call(method: string, args: readonly unknown[]): Promise<Answer<unknown>> {
    if (method === PING) return { ok: true, value: undefined };
    const { loaded } = this;
    const methods = loaded?.definition.methods;
    if (loaded === undefined || methods === undefined || !Object.hasOwn(methods, method)) {
      const names = Object.keys(methods ?? {});
      const known = names.length === 0 ? 'it has none' : `it has ${names.join(', ')}`;
      const message = `Actor "${this.spec?.pool ?? ''}" has no method "${method.slice(0, 128)}"; ${known}`;
      return { ok: false, fault: toFault(new TroupeError('METHOD_NOT_FOUND', message)) };
    }
    this.enter();
    try {
      const value = await (methods[method] as (...all: unknown[]) => unknown)(loaded.state, ...args);
      return { ok: true, value };
    } catch (cause) {
      const message = `Method "${method}" of actor "${this.spec?.pool}" failed: ${messageOf(cause)}`;
      return { ok: false, fault: toFault(new TroupeError('METHOD_FAILED', message, { ...this.where(), cause })) };
    } finally {
      this.leave();
    }
  }

  stop(now: boolean, sentCount: number): Promise<Answer<undefined>> {
    this.expectedCount = now ? 0 : sentCount;
    if (now) this.abortAll();
    if (this.isDrained()) this.idle?.resolve();
    this.loadAbort.abort();
    this.stopping ??= this.drainAndUnload();
    return this.stopping;
  }

  loadModel(spec: ModelSpec): Promise<Answer<ModelDescription>> {
    const answer = this.loadOne(spec).catch((error: unknown): Answer<ModelDescription> => {
      return { ok: false, fault: toFault(asLoadError(error, this.spec, spec)) };
    });
    this.loadingModels.add(answer);
    void answer.then(() => this.loadingModels.delete(answer));
    return answer;
  }

  async unloadModel(key: string): Promise<Answer<undefined>> {
    const held = this.models.get(key);
    this.models.delete(key);
    if (held === undefined) return { ok: true, value: undefined };
    await this.streams.ended(held); // S7
    return this.unload(held);
  }

  fence(): void {
    this.isFenced = true;
    this.loadAbort.abort();
    this.abortAll();
  }

  private async load(spec: EntrySpec): Promise<Answer<EntryDescription>> {
    this.spec = spec;
    this.enter();
    try {
      const definition = await loadDefinition(spec.actor);
      Atomics.store(this.words, STATE_NATIVE, definition.native === true ? 1 : 0);
      const many = spec.manyModels === true;
      if (!many) await checkPinned(spec);
      const { state, description } = many
        ? NOTHING_LOADED
        : await loadState(definition, this.plainContext(spec, spec), this.warmUpPlan(spec), this.loadAbort.signal);
      const { signature, costs } = description;
      this.loaded = { definition, model: undefined, version: spec.version, state, signature };
      return {
        ok: true,
        value: {
          signature,
          methods: Object.keys(definition.methods ?? {}),
          repeatable: definition.repeatable !== false,
          native: definition.native === true,
          ...(definition.kinds === undefined ? {} : { kinds: [...definition.kinds] }),
          ...(definition.relays === true ? { relays: true as const } : {}),
          pid: process.pid,
          costs,
        },
      };
    } finally {
      this.leave();
    }
  }

  private async loadOne(model: ModelSpec): Promise<Answer<ModelDescription>> {
    const { spec, loaded } = this;
    if (spec === undefined || loaded === undefined || this.models.has(model.key))
      throw new TroupeError('INTERNAL', `Model "${model.key}" was to be loaded twice, or before the actor`);
    const { definition } = loaded;
    this.enter();
    try {
      await checkPinned(model);
      const plain = this.plainContext(spec, model);
      const { state, description } = await loadState(definition, plain, this.warmUpPlan(model), this.loadAbort.signal);
      const { signature } = description;
      this.models.set(model.key, { definition, model: model.model, version: model.version, state, signature });
      return { ok: true, value: description };
    } finally {
      this.leave();
    }
  }

  private plainContext(spec: EntrySpec, { modelDir, modelConfig, version, model }: Partial<ModelSpec>): PlainContext {
    const { pool, options, device, replica, replicas, maxBatchSize } = spec;
    return { pool, model, modelDir, modelConfig, version, options, device, replica, replicas, maxBatchSize };
  }

  private warmUpPlan({ warmUps, version }: Pick<ModelSpec, 'warmUps' | 'version'>): WarmUpPlan {
    const where = { ...this.where(), ...(version === undefined ? {} : { modelVersion: version }) };
    return { warmUps, where, inTurn: (run) => this.inTurn(run) };
  }

  /** S1: one run of a warm-up, when no batch of another model runs; none begins before its end. */
  private async inTurn<Value>(run: () => Value | Promise<Value>): Promise<Value> {
    if (this.running !== undefined || this.isWarming) {
      const turn = deferred<void>();
      this.turns.push(turn);
      await turn.promise;
    }
    this.isWarming = true;
    try {
      return await run();
    } finally {
      this.isWarming = false;
      this.pump();
    }
  }

  private pump(): void {
    while (this.running === undefined && !this.isWarming) {
      const turn = this.turns.shift();
      if (turn !== undefined) {
        this.isWarming = true; // At once: a batch may come before it goes on.
        turn.resolve();
        return;
      }
      const { loaded } = this;
      const batch = loaded === undefined || this.isFenced ? undefined : this.queue.shift();
      if (loaded === undefined || batch === undefined) {
        if (this.isDrained()) this.idle?.resolve();
        return;
      }
      if (this.abandoned.delete(batch.id)) {
        this.refuse(batch.id);
        continue;
      }
      const held = batch.model === undefined ? loaded : this.models.get(batch.model);
      if (held === undefined) {
        const message = `A batch came for model "${batch.model}", which this replica does not hold`;
        void this.fail(batch.id, new TroupeError('INTERNAL', message, this.where()));
      } else this.run(batch, held);
    }
  }

  /** A batch that was given up before it began: it never runs, and its reply still comes (S2). */
  private refuse(id: number): void {
    const details: ErrorDetails = { ...this.where(), ran: 'not-started' };
    void this.fail(id, new TroupeError('CANCELLED', 'Every record of the batch was given up before it began', details));
  }

  private run(batch: BatchMessage, loaded: Loaded): void {
    const context = new BatchContext(loaded.state, loaded.version, loaded.model);
    this.running = { id: batch.id, context, loaded, hasStreams: false };
    const count = payloadCount(batch.payload);
    this.enter();
    let outputs: unknown;
    let isLater: boolean;
    try {
      outputs = loaded.definition.predict(inputsOf(batch.payload), context);
      isLater = isThenable(outputs);
    } catch (error) {
      this.finish(batch, this.fail(batch.id, this.asPredictError(error)));
      return;
    }
    if (!isLater) {
      this.finish(batch, this.answer(batch.id, outputs, count));
      return;
    }
    // Promise.resolve tames a thenable that settles twice or throws.
    void Promise.resolve(outputs).then(
      (settled) => this.finish(batch, this.answer(batch.id, settled, count)),
      (error: unknown) => this.finish(batch, this.fail(batch.id, this.asPredictError(error))),
    );
  }

  private finish(batch: BatchMessage, flushed: Promise<void> | undefined): void {
    this.leave();
    if (flushed === undefined) this.goOn(batch);
    else void flushed.then(() => this.goOn(batch)); // S3: the lane still reads the actor's arrays.
  }

  private goOn({ payload }: BatchMessage): void {
    // A stream may read what it was asked until its end.
    if (this.handsOver && this.running?.hasStreams !== true) this.giveBack(payload);
    this.running = undefined;
    this.pump();
  }

  /** The large buffers of a batch that is answered. What went out as an output is empty by now (thread) or written (process). */
  private giveBack(payload: Payload): void {
    const { lane } = this;
    if (payload.kind === 'rows') return;
    const buffers: ArrayBuffer[] = [];
    const arrays =
      payload.kind === 'packed' ? [payload.data] : Object.values(payload.columns.columns).map(({ data }) => data);
    for (const data of arrays) {
      if (Array.isArray(data) || data.byteLength < GIVE_BACK_BYTES_MIN || !ownsMemory(data)) continue;
      buffers.push(data.buffer as ArrayBuffer);
    }
    if (buffers.length > 0) lane.giveBack?.(buffers);
  }

  /** Inline there is no boundary, and what is handed over would be seen on both sides of it. */
  private get handsOver(): boolean {
    return this.lane.giveBack !== undefined && this.loaded?.definition.handsOver === true;
  }

  private answer(id: number, outputs: unknown, count: number): Promise<void> | undefined {
    if (this.isFenced) return undefined;
    try {
      return this.answerWith(id, outputs, count);
    } catch (error) {
      // Outputs are foreign objects: a getter or a trap may throw when they are looked at (S2).
      return this.fail(id, this.asPredictError(error));
    }
  }

  private answerWith(id: number, outputs: unknown, count: number): Promise<void> | undefined {
    const loaded = this.running?.loaded;
    const hasTensors = loaded?.signature !== undefined && loaded.definition.relays !== true;
    if (hasTensors && loaded.signature.decoupled !== true) {
      let columns: Columns;
      try {
        columns = checkColumns(outputs, loaded.signature.outputs, count);
      } catch (error) {
        return this.fail(id, this.asPredictError(error));
      }
      if (this.copiesOutputs) columns = copyColumns(columns, this.handsOver, this.slicesAtOnce && count > 1);
      return this.reply(id, { kind: 'columns', columns }, undefined);
    }
    if (!Array.isArray(outputs) || outputs.length !== count) {
      const got = Array.isArray(outputs) ? `${outputs.length} outputs` : `a value of type ${typeof outputs}`;
      const message = `predict of actor "${this.spec?.pool}" was given ${count} records and returned ${got}`;
      return this.fail(id, new TroupeError('PROTOCOL_VIOLATION', message, this.where()));
    }
    return this.answerRows(id, hasTensors ? decoupledOutputs(outputs, loaded.signature.outputs) : outputs);
  }

  private answerRows(id: number, outputs: unknown[]): Promise<void> | undefined {
    let values = outputs;
    let faults: [number, Fault][] | undefined;
    let streams: [number, AsyncIterable<unknown>][] | undefined;
    for (let index = 0; index < outputs.length; index++) {
      const value = outputs[index];
      // Most outputs are arrays, and asking whether one is an Error costs a call into C++.
      if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) continue;
      const isStream = isTokenStream(value);
      if (!isStream && !isError(value)) continue;
      if (values === outputs) values = outputs.slice();
      values[index] = undefined;
      if (isStream) (streams ??= []).push([index, value]);
      else (faults ??= []).push([index, toFault(this.asPredictError(value))]);
    }
    if (streams !== undefined) return this.replyWithStreams(id, values, faults, streams);
    let payload: Payload;
    try {
      payload = packRows(values, this.recycler.take, !this.copiesOutputs || this.handsOver);
    } catch {
      return this.replyOneByOne(id, values, faults ?? []); // Some typed array has lost its memory.
    }
    const flushed = this.reply(id, payload, faults);
    // Not where the host gets the message itself; and a lone record may be the actor's own array.
    if (!this.copiesOutputs && payload.kind === 'packed' && payload.data !== values[0]) {
      const { data } = payload;
      if (flushed === undefined) this.recycler.giveWhole(data);
      else void flushed.then(() => this.recycler.giveWhole(data));
    }
    return flushed;
  }

  /** Their pieces come after the answer that tells of them. */
  private replyWithStreams(
    id: number,
    values: unknown[],
    faults: [number, Fault][] | undefined,
    streams: [number, AsyncIterable<unknown>][],
  ): Promise<void> | undefined {
    const { running } = this;
    if (running === undefined) return undefined;
    running.hasStreams = true;
    const incarnation = this.spec?.incarnation ?? 0;
    this.streams.begin(id, incarnation, streams, running.context, running.loaded);
    const places = streams.map(([index]) => index);
    return this.reply(id, { kind: 'rows', values }, faults, places);
  }

  private reply(
    id: number,
    payload: Payload,
    faults: [number, Fault][] | undefined,
    streams?: readonly number[],
  ): Promise<void> | undefined {
    const incarnation = this.spec?.incarnation ?? 0;
    try {
      const message = { kind: 'reply', incarnation, id, payload, faults } as const;
      return this.lane.post(streams === undefined ? message : { ...message, streams });
    } catch (error) {
      // Some output cannot cross (a function, a getter that throws): find which, and let only those fail.
      if (payload.kind !== 'rows') return this.fail(id, this.asPredictError(error));
      return this.replyOneByOne(id, payload.values, faults ?? [], streams);
    }
  }

  private replyOneByOne(
    id: number,
    values: readonly unknown[],
    known: [number, Fault][],
    streams?: readonly number[],
  ): Promise<void> | undefined {
    const faults = new Map(known);
    const copies: unknown[] = [];
    for (let index = 0; index < values.length; index++) {
      try {
        copies.push(this.lane.copy(values[index]));
      } catch (cause) {
        copies.push(undefined);
        const message = `The output of this record cannot be sent to the host: ${messageOf(cause)}`;
        faults.set(index, toFault(new TroupeError('PREDICT_FAILED', message, { ...this.where(), cause })));
      }
    }
    const inOrder = [...faults].sort((a, b) => a[0] - b[0]);
    try {
      const incarnation = this.spec?.incarnation ?? 0;
      return this.lane.post({
        kind: 'reply',
        incarnation,
        id,
        payload: { kind: 'rows', values: copies },
        faults: inOrder,
        ...(streams === undefined ? {} : { streams }),
      });
    } catch (error) {
      for (const index of streams ?? []) this.streams.giveUp(id, index);
      return this.fail(id, this.asPredictError(error));
    }
  }

  private fail(id: number, error: TroupeError): Promise<void> | undefined {
    if (this.isFenced) return undefined;
    return this.lane.post({ kind: 'failed', incarnation: this.spec?.incarnation ?? 0, id, fault: toFault(error) });
  }

  private asPredictError(error: unknown): TroupeError {
    const relays = this.loaded?.definition.relays === true;
    if (isTroupeError(error) && (relays || OWN_CODES.has(error.code))) return error;
    const message = `predict of actor "${this.spec?.pool}" failed: ${messageOf(error)}`;
    const retryAfterMs = retryAfterOf(error);
    const details = { ...this.where(), cause: error, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) };
    return new TroupeError('PREDICT_FAILED', message, details);
  }

  private where(): ErrorDetails {
    const { spec } = this;
    if (spec === undefined) return {};
    const { pool: actor, replica, incarnation } = spec;
    const version = this.running === undefined ? spec.version : this.running.loaded.version;
    return { actor, replica, incarnation, ...(version === undefined ? {} : { modelVersion: version }) };
  }

  private abortAll(): void {
    this.queue.length = 0;
    this.running?.context.abort();
    this.streams.giveUpAll();
  }

  private async drainAndUnload(): Promise<Answer<undefined>> {
    await this.loading;
    if (this.loaded === undefined) return { ok: true, value: undefined };
    this.idle = deferred<void>();
    if (this.isDrained()) this.idle.resolve();
    await this.idle.promise;
    await this.streams.ended(); // S7
    // S4: what is received from here on never runs.
    await Promise.all(this.loadingModels);
    const held = this.spec?.manyModels === true ? [...this.models.values()] : [this.loaded];
    this.loaded = undefined;
    this.models.clear();
    const answers: Answer<undefined>[] = [];
    for (const one of held) answers.push(await this.unload(one));
    return answers.find(({ ok }) => !ok) ?? { ok: true, value: undefined };
  }

  private async unload({ definition, model, version, state }: Loaded): Promise<Answer<undefined>> {
    this.enter();
    try {
      await definition.unload?.(state);
      return { ok: true, value: undefined };
    } catch (cause) {
      const of = model === undefined ? '' : ` for model "${model}"`;
      const message = `unload() of actor "${this.spec?.pool}" failed${of}: ${messageOf(cause)}`;
      const details = { ...this.where(), cause, ...(version === undefined ? {} : { modelVersion: version }) };
      return { ok: false, fault: toFault(new TroupeError('METHOD_FAILED', message, details)) };
    } finally {
      this.leave();
    }
  }

  private isDrained(): boolean {
    return this.running === undefined && this.queue.length === 0 && this.receivedCount >= this.expectedCount;
  }

  private enter(): void {
    Atomics.add(this.words, STATE_BUSY, 1);
  }

  private leave(): void {
    Atomics.sub(this.words, STATE_BUSY, 1);
  }
}

/** Codes that predict may use itself; every other error is the cause of a PREDICT_FAILED. */
const OWN_CODES: ReadonlySet<string> = new Set([
  'PREDICT_FAILED',
  'PROTOCOL_VIOLATION',
  'INPUT_INVALID',
  'REMOTE_UNAVAILABLE',
  'REMOTE_FAILED',
  'REMOTE_REFUSED',
]);

function asLoadError(error: unknown, spec: EntrySpec | undefined, model?: ModelSpec): TroupeError {
  // MODEL_NOT_FOUND, ENGINE_NOT_INSTALLED and the like say more than "load failed".
  if (isTroupeError(error)) return error;
  const of = model === undefined ? '' : ` for model "${model.key}"`;
  const message = `load() of actor "${spec?.pool}" failed${of}: ${messageOf(error)}`;
  if (spec === undefined) return new TroupeError('ACTOR_LOAD_FAILED', message, { cause: error });
  const { pool: actor, replica, incarnation } = spec;
  return new TroupeError('ACTOR_LOAD_FAILED', message, { actor, replica, incarnation, cause: error });
}

function inputsOf(payload: Payload): unknown {
  return payload.kind === 'columns' ? payload.columns : viewRows(payload);
}

/** Below, memory is cheaper to take anew than to send back. */
const GIVE_BACK_BYTES_MIN = 65_536;

/** `handsOver`: columns that own their memory, and no two the same, go as they are; `areSliced`: all that slice copies. */
function copyColumns(columns: Columns, handsOver: boolean, areSliced: boolean): Columns {
  const given = new Set<ArrayBufferLike>();
  const copies: Record<string, Column> = Object.create(null) as Record<string, Column>;
  for (const name of Object.keys(columns.columns)) {
    const { dtype, shape, data } = columns.columns[name] as Column;
    if (Array.isArray(data)) {
      copies[name] = { dtype, shape, data: data.slice() };
      continue;
    }
    if (handsOver && ownsMemory(data) && !given.has(data.buffer)) {
      given.add(data.buffer);
      copies[name] = { dtype, shape, data };
      continue;
    }
    if (areSliced && PLAIN_ARRAYS.has(Object.getPrototypeOf(data) as object)) {
      copies[name] = { dtype, shape, data };
      continue;
    }
    // Not slice(): that of a Buffer makes a view.
    const copy = numericClassOf(dtype)?.make(data.length) ?? data;
    (copy as Float32Array).set(data as Float32Array);
    copies[name] = { dtype, shape, data: copy };
  }
  return { count: columns.count, columns: copies };
}

/** Of the arrays whose own `slice` makes a copy. */
const PLAIN_ARRAYS: ReadonlySet<object> = new Set(
  [
    ...[Uint8Array, Uint16Array, Uint32Array, BigUint64Array],
    ...[Int8Array, Int16Array, Int32Array, BigInt64Array, Float32Array, Float64Array],
  ].map(({ prototype }) => prototype),
);

function isError(value: object): boolean {
  try {
    return types.isNativeError(value) || value instanceof Error;
  } catch {
    return false; // A proxy whose traps throw; sending it will say so.
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}

/** The message of anything thrown, at most 1 KiB of it. Never throws. */
function messageOf(error: unknown): string {
  return toFault(error).message.slice(0, 1024);
}
