import { systemClock, type Timer } from '../kernel/clock.js';
import { deferred } from '../kernel/deferred.js';
import { invariant, isTroupeError, TroupeError } from '../kernel/errors.js';
import { type LifecycleTable, transition } from '../kernel/lifecycle.js';
import { packColumns } from '../wire/columns.js';
import { fromFault } from '../wire/fault.js';
import type {
  Answer,
  BatchMessage,
  ControlApi,
  EntryDescription,
  EndStreamMessage,
  EntrySpec,
  ModelDescription,
  ModelSpec,
  PieceMessage,
  PullMessage,
  ReplyMessage,
  StreamEndedMessage,
  ToHost,
} from '../wire/messages.js';
import { Recycler } from '../wire/recycler.js';
import { packRows, type Payload, payloadCount } from '../wire/rows.js';
import type { Column, Signature } from '../wire/tensor.js';
import type { Carrier, CarrierEvents, RawEnd } from './carrier.js';
import { deathError, judgeDeath, type Verdict } from './death.js';
import { asTroupeError, type InFlightBatch, refusedResults, resultsOf } from './in-flight-batch.js';
import type { Death, Link, LinkEvents, RecordResult, ReplicaSpec, ReplyStreams } from './link.js';
import { IncomingStream } from './incoming-stream.js';
import { type LiveReplica, trackLive } from './shutdown.js';

/**
 * The part of a link that is the same in every isolation: start, batches, calls, the stop ladder, and the one death.
 * It owns what was sent and not answered; the carrier owns the thread, the child or the shell.
 *
 * L1 `ready` at most once, `exited` exactly once and last but for `stale`.
 * L2 A reply is told once per batch that was sent, and only while the link has not ended; everything else is dropped, and
 *    what comes after the end is counted.
 * L3 A promise of the control lane is never waited for alone: a call to a dead peer never settles.
 * L4 The inputs of a batch stay the caller's: what is transferred was copied first.
 * L5 A replica that cannot be killed safely is told as ended (fenced), but stays counted as live until it really ends.
 * L6 A token stream that has begun ends: by its own end, or with the death of the replica, which is not taken for it.
 * L7 One that is given up, and whose generator has not ended when a piece would have been overdue, makes the replica hung.
 */
export type Phase = 'starting' | 'ready' | 'stopping' | 'ended';
type PhaseEvent = 'loaded' | 'stop' | 'end';

export const LINK_LIFECYCLE: LifecycleTable<Phase, PhaseEvent> = {
  starting: { loaded: 'ready', stop: 'stopping', end: 'ended' },
  ready: { stop: 'stopping', end: 'ended' },
  stopping: { stop: 'stopping', end: 'ended' },
  ended: {},
};

export class LinkCore implements Link, CarrierEvents, LiveReplica {
  readonly spec: ReplicaSpec;
  readonly closed: Promise<void>;
  /** Memory of batches on the way out. */
  readonly recycler = new Recycler();
  /**
   * Memory of replies whose results were copied from it. A thread's replies come in new buffers, which serve the next
   * batches; a child's are read into these again, and would take the warm buffers of batches if they shared them.
   */
  readonly arrived: Recycler;
  private readonly events: LinkEvents;
  private readonly inFlight = new Map<number, InFlightBatch>();
  private readonly calls = new Set<(error: TroupeError) => void>();
  /** Token streams that have not ended, by batch and place. */
  private readonly streams = new Map<string, OpenStream>();
  /** L7. Of those that were given up, by batch and place. */
  private readonly endings = new Map<string, Timer>();
  private modelChanges = 0;
  private readonly close: () => void;
  private carrier: Carrier | undefined;
  private phase: Phase = 'starting';
  private description: EntryDescription | undefined;
  /** Of the models it holds, where they come and go. */
  private readonly signatures = new Map<string, Signature | undefined>();
  private verdict: Verdict | undefined;
  private death: Death | undefined;
  private crashError: Error | undefined;
  private sentCount = 0;
  private isForced = false;
  private isClosed = false;
  private timer: Timer | undefined;

  constructor(spec: ReplicaSpec, events: LinkEvents) {
    this.spec = spec;
    this.events = events;
    this.arrived = spec.isolation === 'process' ? new Recycler() : this.recycler;
    const closed = deferred<void>();
    this.closed = closed.promise;
    this.close = () => closed.resolve();
    trackLive(this);
  }

  /** Not ready and not told to stop. */
  get isLoading(): boolean {
    return this.phase === 'starting';
  }

  /** Begins to load. The carrier has begun to start and will tell `closed` once. */
  begin(carrier: Carrier): void {
    this.carrier = carrier;
    this.arm(this.spec.loadTimeoutMs, () => {
      const { pool, loadTimeoutMs } = this.spec;
      const message = `Actor "${pool}" was not loaded after ${loadTimeoutMs} ms; raise loadTimeoutMs if the model is large`;
      this.condemn({ cause: 'load-failed', error: new TroupeError('ACTOR_LOAD_FAILED', message, this.where()) });
    });
    carrier.control.start(entrySpecOf(this.spec)).then(
      (answer) => this.started(answer),
      (error: unknown) => this.startFailed(error),
    );
  }

  /** Instead of begin, where not even a thread or child could be made. */
  failToStart(cause: unknown): void {
    const message = `Actor "${this.spec.pool}" cannot be started with isolation ${this.spec.isolation}: ${messageOf(cause)}`;
    const error = isTroupeError(cause)
      ? cause
      : new TroupeError('ACTOR_LOAD_FAILED', message, { ...this.where(), cause });
    this.verdict = { cause: 'load-failed', error };
    setImmediate(() => this.closedBy({}));
  }

  send(batchId: number, inputs: readonly unknown[], shared = false, model?: string): void {
    if (this.phase === 'stopping' || this.phase === 'ended') return; // The caller learns of it by `exited`.
    const { carrier, description } = this;
    invariant(carrier !== undefined && description !== undefined, 'a batch is sent only after ready');
    try {
      const own = description.relays === true ? undefined : description.signature;
      const signature = model === undefined ? own : this.signatures.get(model);
      this.dispatch(batchId, inputs, { shared, model, signature }, carrier);
    } catch (cause) {
      // Larger than a frame or a buffer may be: nothing was sent, and a smaller batch may fit.
      const message = `A batch of ${inputs.length} records cannot be sent to actor "${this.spec.pool}": ${messageOf(cause)}`;
      const error = new TroupeError('INPUT_INVALID', message, { ...this.where(), cause });
      setImmediate(() => {
        if (this.phase !== 'ended') this.events.failed(batchId, error);
      });
    }
  }

  abandon(batchId: number): void {
    if (this.phase === 'ended' || !this.inFlight.has(batchId)) return;
    void this.carrier?.post({ kind: 'abandon', incarnation: this.spec.incarnation, id: batchId });
  }

  call(method: string, args: readonly unknown[]): Promise<unknown> {
    return this.control(
      (api) => api.call(method, args),
      () => `Method "${method}" of actor "${this.spec.pool}": its arguments or its result cannot be copied`,
    );
  }

  async loadModel(spec: ModelSpec): Promise<ModelDescription> {
    const description = await this.changing(
      (api) => api.loadModel(spec),
      () => `Model "${spec.key}" of actor "${this.spec.pool}": what describes it cannot be copied`,
    );
    this.signatures.set(spec.key, description.signature);
    return description;
  }

  async unloadModel(key: string): Promise<void> {
    this.signatures.delete(key);
    await this.changing(
      (api) => api.unloadModel(key),
      () => `Model "${key}" of actor "${this.spec.pool}" cannot be unloaded`,
    );
  }

  stop(options: { readonly now?: boolean } = {}): void {
    const now = options.now === true;
    const { carrier } = this;
    if (this.isClosed || carrier === undefined || this.isForced || (this.phase === 'stopping' && !now)) return;
    if (this.phase === 'ended') return; // Fenced: nothing more can be done than wait for it.
    this.phase = transition('link', LINK_LIFECYCLE, this.phase, 'stop');
    this.isForced = now;
    this.disarm();
    if (now) {
      this.verdict ??= { cause: 'stopped' };
      if (this.killed(carrier, this.verdict)) return;
    }
    carrier.control.stop(now, this.sentCount).then(
      (answer) => this.unloaded(answer),
      // The lane is broken, which only a death does: the carrier tells it, and the ladder goes on.
      () => undefined,
    );
    this.climb(now ? ['kill'] : ['terminate', 'kill'], carrier);
  }

  kill(reason: 'hung'): void {
    const error = new TroupeError(
      'ACTOR_HUNG',
      `Replica ${this.spec.replica} of "${this.spec.pool}" did not answer in time`,
      this.where(),
    );
    this.condemn({ cause: reason, error });
  }

  message(message: ToHost): void {
    if (message.incarnation !== this.spec.incarnation) return; // L2
    if (message.kind === 'spent') {
      for (const buffer of message.buffers) this.recycler.give(buffer);
      return;
    }
    if (this.phase === 'ended') {
      if (message.kind === 'reply' || message.kind === 'failed') this.events.stale(message.id); // L2
      return;
    }
    if (message.kind === 'crash') {
      this.crashError = fromFault(message.fault);
      return;
    }
    if (message.kind === 'piece' || message.kind === 'stream-ended') {
      this.streamed(message);
      return;
    }
    const batch = this.inFlight.get(message.id);
    if (batch === undefined) return; // L2
    this.inFlight.delete(message.id);
    if (message.kind === 'failed') {
      this.events.failed(message.id, asTroupeError(fromFault(message.fault)));
      return;
    }
    let results: RecordResult[];
    try {
      // Inline, the columns are the actor's own.
      const isActors = this.spec.isolation === 'inline' && message.payload.kind === 'columns';
      results = resultsOf(batch, message, isActors ? undefined : (data) => this.arrived.giveWhole(data));
    } catch (error) {
      this.events.failed(message.id, isTroupeError(error) ? error : this.violation(error));
      return;
    }
    if (message.streams === undefined) this.events.reply(message.id, results);
    else this.events.reply(message.id, results, this.openStreams(message, batch, results), batch.model);
  }

  garbled(error: unknown): void {
    this.condemn({ cause: 'protocol', error: isTroupeError(error) ? error : this.violation(error) });
  }

  silent(what: string): void {
    const message = `Replica ${this.spec.replica} of "${this.spec.pool}" shows no sign of life: ${what}`;
    this.condemn({ cause: 'hung', error: new TroupeError('ACTOR_HUNG', message, this.where()) });
  }

  closedBy(end: RawEnd): void {
    this.isClosed = true;
    const whole = this.crashError === undefined || end.error !== undefined ? end : { ...end, error: this.crashError };
    this.exit(judgeDeath(this.spec, whole, this.verdict, this.phase === 'stopping'));
    this.carrier?.release();
    this.close();
  }

  /** Puts a stream into each place that has one. */
  private openStreams({ id, streams = [] }: ReplyMessage, batch: InFlightBatch, results: RecordResult[]): ReplyStreams {
    const { pool, incarnation, pieceTimeoutMs = PIECE_TIMEOUT_MS } = this.spec;
    return streams.map((sent) => {
      const name = `${id}:${sent}`;
      const lane = {
        pull: (count: number) => this.tellStream({ kind: 'pull', incarnation, id, index: sent, count }),
        giveUp: () => {
          this.tellStream({ kind: 'end-stream', incarnation, id, index: sent });
          this.awaitEnd(name, pieceTimeoutMs);
        },
      };
      const stream = new IncomingStream(pool, lane, systemClock, pieceTimeoutMs);
      this.streams.set(name, { stream, model: batch.model });
      const index = placeOf(sent, batch);
      results[index] = { ok: true, value: stream };
      return [index, stream];
    });
  }

  private tellStream(message: PullMessage | EndStreamMessage): void {
    if (this.phase !== 'ended') void this.carrier?.post(message);
  }

  /** L7. A stop has its own ladder; and while a model comes or goes, the actor may not get to anything else. */
  private awaitEnd(name: string, ms: number): void {
    if (this.phase === 'ended') return;
    const timer = systemClock.at(systemClock.now() + ms, () => {
      if (this.phase !== 'ready') return;
      if (this.modelChanges > 0) {
        this.awaitEnd(name, ms);
        return;
      }
      const { replica, pool } = this.spec;
      const message = `Replica ${replica} of "${pool}" has not ended a token stream ${ms} ms after it was given up; let its generator look at the signal of its batch`;
      this.condemn({ cause: 'hung', error: new TroupeError('ACTOR_HUNG', message, this.where()) });
    });
    timer.hold?.(false);
    this.endings.set(name, timer);
  }

  private streamed(message: PieceMessage | StreamEndedMessage): void {
    const name = `${message.id}:${message.index}`;
    const open = this.streams.get(name);
    if (open === undefined) return;
    const { stream, model } = open;
    if (message.kind === 'piece') {
      stream.piece(message.value);
      return;
    }
    this.streams.delete(name);
    this.endings.get(name)?.cancel();
    this.endings.delete(name);
    stream.ended(message.fault === undefined ? undefined : asTroupeError(fromFault(message.fault)));
    this.events.streamEnded?.(model);
  }

  private async changing<Value>(run: (api: ControlApi) => Promise<Answer<Value>>, what: () => string): Promise<Value> {
    this.modelChanges++;
    try {
      return await this.control(run, what);
    } finally {
      this.modelChanges--;
    }
  }

  /** L3: the death of the replica rejects it. */
  private control<Value>(run: (api: ControlApi) => Promise<Answer<Value>>, what: () => string): Promise<Value> {
    const { carrier } = this;
    if (this.death !== undefined || carrier === undefined) return Promise.reject(this.endedError());
    return new Promise((resolve, reject) => {
      const settle = (): boolean => this.calls.delete(reject);
      this.calls.add(reject);
      run(carrier.control).then(
        (answer) => {
          if (!settle()) return;
          if (answer.ok) resolve(answer.value);
          else reject(fromFault(answer.fault));
        },
        (cause: unknown) => {
          if (settle()) reject(new TroupeError('METHOD_FAILED', what(), { ...this.where(), cause }));
        },
      );
    });
  }

  private started(answer: Answer<EntryDescription>): void {
    if (this.phase !== 'starting' || this.verdict !== undefined) return;
    if (!answer.ok) {
      this.condemn({ cause: 'load-failed', error: fromFault(answer.fault) });
      return;
    }
    this.disarm();
    this.phase = transition('link', LINK_LIFECYCLE, this.phase, 'loaded');
    this.description = answer.value;
    const { signature, methods, repeatable, kinds, relays, pid, costs } = answer.value;
    this.events.ready({
      signature,
      methods,
      repeatable,
      ...(kinds === undefined ? {} : { kinds }),
      ...(relays === undefined ? {} : { relays }),
      pid,
      costs,
    });
  }

  private startFailed(cause: unknown): void {
    if (this.phase !== 'starting') return;
    const message = `Actor "${this.spec.pool}" cannot be started: its options cannot be copied to it; use plain data`;
    this.condemn({
      cause: 'load-failed',
      error: new TroupeError('ACTOR_LOAD_FAILED', message, { ...this.where(), cause }),
    });
  }

  private unloaded(answer: Answer<undefined>): void {
    if (!answer.ok && this.verdict === undefined) this.verdict = { cause: 'stopped', error: fromFault(answer.fault) };
  }

  /** Rungs of the stop ladder, each after stopTimeoutMs without an end. */
  private climb(rungs: readonly ('terminate' | 'kill')[], carrier: Carrier): void {
    const [rung, ...rest] = rungs;
    this.arm(this.spec.stopTimeoutMs, () => {
      if (rung === 'terminate') {
        carrier.terminate();
        this.climb(rest, carrier);
        return;
      }
      this.verdict ??= { cause: 'stopped' }; // A terminated thread only says exit code 1.
      if (!this.killed(carrier, this.verdict)) {
        this.fence('it was asked to stop, is busy in code that cannot be interrupted, and was set aside');
      }
    });
  }

  /** Ends the replica for a reason of ours. */
  private condemn(verdict: Verdict): void {
    if (this.phase === 'ended' || this.verdict !== undefined) return;
    this.disarm();
    this.verdict = verdict;
    if (this.carrier === undefined || this.killed(this.carrier, verdict)) return;
    // L5. Told later, never inside a call to the link.
    setImmediate(() => this.exit(judgeDeath(this.spec, {}, verdict, false)));
  }

  /** Kills, and does not wait for ever: a thread inside a blocking system call ends only when the call returns. */
  private killed(carrier: Carrier, verdict: Verdict): boolean {
    if (!carrier.kill()) return false;
    this.arm(KILL_GRACE_MS, () => this.exit(judgeDeath(this.spec, {}, verdict, false)));
    return true;
  }

  private fence(what: string): void {
    this.verdict = { cause: 'hung', error: deathError(this.spec, 'hung', { error: new Error(what) }) };
    this.exit(judgeDeath(this.spec, {}, this.verdict, false));
  }

  private exit(death: Death): void {
    if (this.phase === 'ended') return;
    this.disarm();
    this.phase = transition('link', LINK_LIFECYCLE, this.phase, 'end');
    this.death = death;
    this.inFlight.clear();
    const error = this.endedError();
    for (const reject of this.calls) reject(error);
    this.calls.clear();
    for (const { stream } of this.streams.values()) stream.ended(error); // L6
    this.streams.clear();
    for (const timer of this.endings.values()) timer.cancel();
    this.endings.clear();
    this.events.exited(death);
  }

  private dispatch(batchId: number, inputs: readonly unknown[], terms: BatchTerms, carrier: Carrier): void {
    const count = inputs.length;
    const { signature } = terms;
    if (signature !== undefined) {
      const { columns, faults } = packColumns(inputs, signature.inputs, this.recycler.take);
      this.post(batchId, batchOf(count, faults, terms), { kind: 'columns', columns }, terms, carrier);
    } else if (carrier.isLocal) {
      const rows = { kind: 'rows', values: inputs.slice() } as const;
      this.post(batchId, batchOf(count, NO_REFUSALS, terms), rows, terms, carrier);
    } else {
      this.postRows(batchId, inputs, terms, carrier);
    }
  }

  private postRows(batchId: number, inputs: readonly unknown[], terms: BatchTerms, carrier: Carrier): void {
    const count = inputs.length;
    try {
      const packed = packRows(inputs, this.recycler.take);
      this.post(batchId, batchOf(count, NO_REFUSALS, terms), packed, terms, carrier);
    } catch {
      // Some record cannot be copied: find which, so that only it fails.
      const refusals: [number, TroupeError][] = [];
      const values: unknown[] = [];
      for (let index = 0; index < count; index++) {
        try {
          values.push(carrier.copy(inputs[index]));
        } catch (cause) {
          const message = `Record ${index} of the batch cannot be copied to the actor: ${messageOf(cause)}`;
          refusals.push([index, new TroupeError('INPUT_INVALID', message, { ...this.where(), cause })]);
        }
      }
      this.post(batchId, batchOf(count, refusals, terms), { kind: 'rows', values }, terms, carrier);
    }
  }

  private post(batchId: number, batch: InFlightBatch, payload: Payload, { model }: BatchTerms, carrier: Carrier): void {
    if (payloadCount(payload) === 0 && batch.count > 0) {
      setImmediate(() => {
        if (this.phase !== 'ended') this.events.reply(batchId, refusedResults(batch.refusals));
      });
      return;
    }
    const { incarnation } = this.spec;
    const message: BatchMessage =
      model === undefined
        ? { kind: 'batch', incarnation, id: batchId, payload }
        : { kind: 'batch', incarnation, id: batchId, payload, model };
    const flushed = carrier.post(message);
    this.sentCount++;
    this.inFlight.set(batchId, batch);
    if (carrier.isLocal) return; // The actor has the batch itself.
    if (flushed === undefined) this.reclaim(payload);
    else void flushed.then(() => this.reclaim(payload));
  }

  /** What was packed for a batch that is out of our memory; what was transferred is empty by now. */
  private reclaim(payload: Payload): void {
    if (payload.kind === 'packed') this.recycler.giveWhole(payload.data);
    if (payload.kind !== 'columns') return;
    const { columns } = payload.columns;
    for (const name of Object.keys(columns)) {
      const { data } = columns[name] as Column;
      if (!Array.isArray(data)) this.recycler.giveWhole(data);
    }
  }

  private endedError(): TroupeError {
    const { death } = this;
    if (death !== undefined && isTroupeError(death.error) && death.cause !== 'stopped') return death.error;
    return deathError(this.spec, death?.cause ?? 'stopped', {});
  }

  private violation(cause: unknown): TroupeError {
    return new TroupeError('PROTOCOL_VIOLATION', `The reply of actor "${this.spec.pool}" cannot be read`, {
      ...this.where(),
      cause,
    });
  }

  private where(): { actor: string; replica: number; incarnation: number } {
    const { pool: actor, replica, incarnation } = this.spec;
    return { actor, replica, incarnation };
  }

  private arm(ms: number, fn: () => void): void {
    this.disarm();
    this.timer = systemClock.at(systemClock.now() + ms, fn);
  }

  private disarm(): void {
    this.timer?.cancel();
    this.timer = undefined;
  }
}

/** After this long a killed replica that has not ended is told as ended all the same, and is only counted as live. */
const KILL_GRACE_MS = 500;

/** As batchTimeoutMs of a pool. */
const PIECE_TIMEOUT_MS = 30_000;

const NO_REFUSALS: readonly never[] = [];

/** What a batch is sent by, beside its records. */
interface BatchTerms {
  readonly shared: boolean;
  readonly model: string | undefined;
  readonly signature: Signature | undefined;
}

interface OpenStream {
  readonly stream: IncomingStream;
  readonly model: string | undefined;
}

/** Where in the batch of the caller the record stands that was sent as this one. */
function placeOf(sent: number, { refusals }: InFlightBatch): number {
  let index = sent;
  for (const [refused] of refusals) if (refused <= index) index++;
  return index;
}

function batchOf(count: number, refusals: InFlightBatch['refusals'], { shared, model }: BatchTerms): InFlightBatch {
  return { count, refusals, shared, model };
}

function entrySpecOf(spec: ReplicaSpec): EntrySpec {
  const { pool, replica, replicas, incarnation, actor, version, options, device, maxBatchSize } = spec;
  const { modelDir, modelConfig, modelHash, warmUps, manyModels = false } = spec;
  return {
    pool,
    replica,
    replicas,
    incarnation,
    actor,
    modelDir,
    modelConfig,
    modelHash,
    warmUps,
    version,
    options,
    device,
    maxBatchSize,
    manyModels,
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
