/**
 * One run of the stream, from its restore to its end: source, steps, the driver that delivers, and the coordinator. The
 * rules of stream/run.ts, delivery.ts and the source stage, without promises. It lives in a process that may end at any
 * event; source, sinks and checkpoints stand outside (`Outside`).
 */
import type { Random } from '../../kernel/random.js';
import { decodeItem } from '../../stream/checkpoint/items.js';
import { Control, Envelope, RecordFailure, Stamped } from '../../stream/envelope.js';
import type { SourceItem, SourceReader } from '../../stream/source.js';
import type { HeldState } from '../../stream/stage.js';
import { resumedState, type SavedItem, type SourceState, Tracking } from '../../stream/tracking.js';
import { STREAM_FAULT } from './faults.js';
import { OrderOracle } from './order-oracle.js';
import type { StreamShape } from './scenario.js';
import { SimCoordinator, type SimSnapshot } from './sim-coordinator.js';
import { loadHeld, type SavedHeld, saveHeld, SimInfer } from './sim-infer.js';
import type { Entry, SimSink } from './sim-sink.js';
import type { SimSource } from './sim-source.js';
import { SimFilter, SimFlatMap, SimMap, type SimStage, type StageContext } from './sim-stages.js';
import type { SimStore } from './sim-store.js';
import { nameOf, type UserFunctions, valueOf } from './values.js';
import { STREAM_EVENT, type StreamWorld } from './world.js';

/** What survives a run. */
export interface Outside {
  readonly source: SimSource;
  readonly main: SimSink;
  readonly letters: SimSink;
  readonly store: SimStore | undefined;
  readonly functions: UserFunctions;
  readonly random: Random;
  /** The run began with this checkpoint, or with none. */
  readonly resumed: (cursor: number | undefined) => void;
  readonly over: (job: SimJob, how: 'done' | 'failed') => void;
}

/** Something asked of the outside that takes time. */
export class SimCall {
  isOver = false;
  constructor(
    readonly job: SimJob,
    readonly effect: (part: number) => void,
    readonly done: (isDone: boolean) => void,
    readonly fails: boolean,
  ) {}
}

export class SimJob {
  readonly world: StreamWorld;
  readonly source: SimSource;
  readonly sinks: readonly SimSink[];
  readonly infers: SimInfer[] = [];
  coordinator: SimCoordinator | undefined;
  /** The driver waits for the coordinator. */
  isHeldBack = false;
  isOver = false;
  /** It was asked to end early, and what it leaves is for the next run. */
  isStopped = false;
  why = '';
  readonly #outside: Outside;
  readonly #run: number;
  readonly #shape: StreamShape;
  readonly #order: OrderOracle;
  readonly #calls: SimCall[] = [];
  #tracking: Tracking | undefined;
  #origin: SimOrigin | undefined;
  #last: SimStage | undefined;
  #driver: 'ready' | 'writing' | 'finishing' | 'closing' = 'ready';
  #chunk: Envelope[] = [];
  #from = 0;

  constructor(world: StreamWorld, outside: Outside, run: number, shape: StreamShape) {
    this.world = world;
    this.#outside = outside;
    this.#run = run;
    this.#shape = shape;
    this.source = outside.source;
    this.sinks = [outside.main, outside.letters];
    this.#order = new OrderOracle(world, outside.functions);
  }

  // ------------------------------------------------------------------- birth

  begin(): void {
    const { world } = this;
    const { store, main, letters, resumed } = this.#outside;
    if (store !== undefined && world.strikes(STREAM_FAULT['restore-fail'])) {
      this.fail('restore');
      return;
    }
    const loaded = store?.latest();
    const snapshot = loaded === undefined ? undefined : loaded.snapshot;
    main.open(snapshot?.sinks[0], store === undefined);
    letters.open(snapshot?.sinks[1], store === undefined);
    const state = snapshot === undefined ? undefined : resumedState(snapshot.source);
    if (world.strikes(STREAM_FAULT['open-fail'])) {
      this.fail('open');
      return;
    }
    resumed(loaded?.cursor);
    world.say(
      loaded === undefined
        ? `run ${this.#run} begins anew`
        : `run ${this.#run} goes on from checkpoint ${loaded.number}`,
    );
    this.#build(snapshot, state);
    this.coordinator?.begin();
    this.turn();
  }

  #build(snapshot: SimSnapshot | undefined, state: SourceState | undefined): void {
    const { world } = this;
    const { functions, store, random } = this.#outside;
    const isUsedUp = state !== undefined && state.kind === 'neither' && state.hasEnded;
    const reader: SourceReader<unknown> = isUsedUp
      ? { read: () => undefined, close: () => undefined }
      : this.source.open(state?.place?.position);
    if (store !== undefined || reader.acknowledge !== undefined) {
      this.#tracking = new Tracking(reader, store !== undefined, state);
      this.coordinator = new SimCoordinator(world, this, this.#tracking, store, snapshot !== undefined);
    }
    if (state !== undefined && state.outcomes.length > 0) this.source.acknowledge(state.outcomes);
    const tracker = this.#tracking;
    const context: StageContext = { world, functions, tracker };
    this.#origin = new SimOrigin(this, reader, this.#tracking, state?.items ?? []);
    let last: SimStage = this.#origin;
    world.scenario.steps.forEach((step, index) => {
      if (step === 'map') last = new SimMap(last, context);
      else if (step === 'filter') last = new SimFilter(last, context);
      else if (step === 'flatMap') last = new SimFlatMap(last, context);
      else {
        const held = snapshot === undefined ? undefined : heldById(snapshot.held[index] ?? []);
        const takeHeld = held === undefined ? undefined : (id: string) => taken(held, id);
        const infer = new SimInfer({ context, upstream: last, shape: this.#shape, random, takeHeld });
        this.infers.push(infer);
        last = infer;
      }
    });
    this.#last = last;
  }

  // ------------------------------------------------------------------- turns

  /** All that follows from the event that was just handled. */
  turn(): void {
    const { infers } = this;
    for (let moves = true; moves && !this.isOver; ) {
      moves = false;
      for (let i = infers.length - 1; i >= 0; i--) if ((infers[i] as SimInfer).pump()) moves = true;
      if (this.#drive()) moves = true;
    }
    if (this.isOver) return;
    for (let i = 0; i < infers.length; i++) (infers[i] as SimInfer).endTurn();
  }

  #drive(): boolean {
    const { coordinator } = this;
    if (this.isOver || this.isHeldBack || this.#driver === 'writing' || this.#driver === 'closing') return false;
    if (coordinator?.wants === true) {
      coordinator.step();
      return true;
    }
    if (this.#driver === 'finishing' || coordinator?.isBeginning === true) return false;
    const last = this.#last as SimStage;
    const origin = this.#origin as SimOrigin;
    const { chunkSize } = this.world.scenario;
    const chunk: Envelope[] = [];
    while (chunk.length < chunkSize) {
      const envelope = last.take(chunkSize - chunk.length);
      if (envelope === undefined) break;
      if (envelope.path === '' || this.#tracking?.hadSettled(envelope.seq, envelope.path) !== true)
        chunk.push(envelope);
    }
    if (chunk.length > 0) {
      const lastInfer = this.infers[this.infers.length - 1];
      if (lastInfer !== undefined) lastInfer.isAwaited = false;
      this.#chunk = chunk;
      this.#from = 0;
      this.#deliver();
      return true;
    }
    if (this.isOver) return false;
    // What a filter settled may be acknowledged.
    if (this.coordinator?.wants === true) return true;
    if (origin.hasFailed) {
      this.fail('source');
      return false;
    }
    if (!last.hasEnded) {
      // A record may have left its infer step and come to nothing behind it: the step has room again.
      let hasRoom = false;
      for (const infer of this.infers) hasRoom = infer.hasGivenRoom() || hasRoom;
      return hasRoom;
    }
    this.#driver = 'finishing';
    if (coordinator === undefined) this.closeSinks();
    else coordinator.finish();
    return true;
  }

  /** The rest of the chunk, up to the next write that takes time. */
  #deliver(): void {
    this.#driver = 'ready';
    const chunk = this.#chunk;
    while (this.#from < chunk.length && this.#driver === 'ready' && !this.isOver) {
      const from = this.#from;
      let to = from;
      while (to < chunk.length && (chunk[to] as Envelope).kind !== 'control') to++;
      if (to === from) to++;
      this.#from = to;
      this.#deliverPart(chunk.slice(from, to));
    }
  }

  #deliverPart(part: readonly Envelope[]): void {
    const values: Entry[] = [];
    const letters: Entry[] = [];
    for (const envelope of part) {
      const isControl = envelope.kind === 'control';
      const value = isControl ? valueOf((envelope.value as Control).data as number) : (envelope.value as number);
      const entry: Entry = { value, id: envelope.id, run: this.#run, isControl };
      this.#order.delivered(entry, envelope.kind === 'failed');
      this.world.note(value);
      if (this.world.log !== undefined)
        this.world.say(`delivers ${envelope.kind} ${envelope.id} of record ${nameOf(value)}`);
      (envelope.kind === 'failed' ? letters : values).push(entry);
    }
    const [main, dead] = this.sinks as [SimSink, SimSink];
    this.#write(main, values, () =>
      this.#write(dead, letters, () => {
        const tracking = this.#tracking;
        if (tracking !== undefined) for (const envelope of part) tracking.delivered(envelope, undefined);
      }),
    );
  }

  #write(sink: SimSink, entries: readonly Entry[], then: () => void): void {
    if (entries.length === 0) {
      then();
      return;
    }
    const { world } = this;
    let ms = world.scenario.writeMs;
    if (world.strikes(STREAM_FAULT['write-slow'])) ms = 10 * ms + 5;
    this.#driver = 'writing';
    this.call(
      ms,
      STREAM_FAULT['write-fail'],
      (part) => sink.write(part < 1 ? entries.slice(0, Math.floor(part * (entries.length + 1))) : entries),
      (isDone) => {
        this.#driver = 'ready';
        if (!isDone) {
          this.fail('write');
          return;
        }
        then();
        if ((this.#driver as string) === 'ready') this.#deliver();
      },
    );
  }

  /** What the steps hold, as stream/run.ts saves it. */
  held(tracking: Tracking): SavedHeld[][] {
    if (tracking.kind === 'acknowledging') return [];
    const withOutcomes = tracking.kind === 'neither';
    let infer = 0;
    return this.world.scenario.steps.map((step) => {
      if (step !== 'infer') return [];
      return (this.infers[infer++] as SimInfer)
        .held(withOutcomes)
        .filter(
          ({ attempts, leftMs, outcome }) =>
            attempts > 0 || (withOutcomes && (leftMs !== undefined || outcome !== undefined)),
        )
        .map(saveHeld);
    });
  }

  get sourceCursor(): number {
    return this.source.cursor;
  }

  // -------------------------------------------------------------------- ends

  /** No further record is read, those inside finish. */
  stop(): void {
    this.isStopped = true;
    this.#origin?.stop();
  }

  closeSinks(): void {
    this.#driver = 'closing';
    this.call(
      0,
      STREAM_FAULT['close-fail'],
      () => {
        for (const sink of this.sinks) sink.close();
      },
      (isDone) => {
        if (!isDone) {
          this.fail('close');
          return;
        }
        this.#end();
        this.#outside.over(this, 'done');
      },
    );
  }

  /** Did the source come to its end, and is all of it safe? */
  get isComplete(): boolean {
    return this.#origin?.isAtEnd === true && this.coordinator?.isAllSaved !== false;
  }

  fail(why: string): void {
    if (this.isOver) return;
    this.why = why;
    this.world.say(`run ${this.#run} fails: ${why}`);
    this.#end();
    for (const sink of this.sinks) sink.abandoned();
    this.#outside.over(this, 'failed');
  }

  /** SIGKILL, or the power goes. */
  kill(): void {
    this.world.say(`run ${this.#run} is killed`);
    this.#end();
    for (const sink of this.sinks) sink.lostPower();
  }

  /** What was under way at the outside has been done, or has not. */
  #end(): void {
    this.isOver = true;
    for (const infer of this.infers) infer.close();
    for (const call of this.#calls) {
      call.isOver = true;
      if (this.world.chance.next() < 0.5) call.effect(this.world.chance.next());
    }
    this.#calls.length = 0;
  }

  // ------------------------------------------------------------- the outside

  /** `effect` gets the share that is done: 1, or less of a call that fails or is cut off. */
  call(ms: number, fault: number, effect: (part: number) => void, done: (isDone: boolean) => void): void {
    const { world } = this;
    const fails = fault >= 0 && world.strikes(fault);
    if (ms === 0) {
      if (fails) failing(world, effect);
      else effect(1);
      done(!fails);
      return;
    }
    const call = new SimCall(this, effect, done, fails);
    this.#calls.push(call);
    world.after(ms * world.chance.next(), STREAM_EVENT.done, 0, call);
  }

  answered(call: SimCall): void {
    if (call.isOver) return;
    call.isOver = true;
    this.#calls.splice(this.#calls.indexOf(call), 1);
    if (call.fails) failing(this.world, call.effect);
    else call.effect(1);
    call.done(!call.fails);
  }
}

/** Of what failed, a part may be there. */
function failing(world: StreamWorld, effect: (part: number) => void): void {
  if (world.chance.next() < 0.5) effect(world.chance.next());
}

function heldById(states: readonly SavedHeld[]): Map<string, HeldState> {
  return new Map(states.map((state) => [state.id, loadHeld(state)]));
}

function taken(held: Map<string, HeldState>, id: string): HeldState | undefined {
  const state = held.get(id);
  if (state !== undefined) held.delete(id);
  return state;
}

/** The first stage: reads, puts into envelopes, leaves out what an earlier run is through with. */
class SimOrigin implements SimStage {
  hasFailed = false;
  /** The source gave its end. */
  isAtEnd = false;
  readonly #job: SimJob;
  readonly #reader: SourceReader<unknown>;
  readonly #tracking: Tracking | undefined;
  readonly #restored: SavedItem[];
  #queue: Envelope[] = [];
  #next = 0;
  #isReading = false;
  #isStopped = false;
  #seq = 0;

  constructor(
    job: SimJob,
    reader: SourceReader<unknown>,
    tracking: Tracking | undefined,
    restored: readonly SavedItem[],
  ) {
    this.#job = job;
    this.#reader = reader;
    this.#tracking = tracking;
    this.#restored = [...restored];
  }

  get hasEnded(): boolean {
    if (this.#next < this.#queue.length || this.#restored.length > 0) return false;
    return this.isAtEnd || this.#isStopped;
  }

  stop(): void {
    this.#isStopped = true;
  }

  take(room: number): Envelope | undefined {
    for (;;) {
      const restored = this.#restored.shift();
      if (restored !== undefined) {
        const { seq, item } = restored;
        const envelope = this.#envelope(seq, decodeItem(Buffer.from(item, 'base64')));
        if (envelope !== undefined) return envelope;
        continue;
      }
      const envelope = this.#queue[this.#next];
      if (envelope !== undefined) {
        this.#next++;
        return envelope;
      }
      if (this.#isReading || this.isAtEnd || this.#isStopped || this.hasFailed || this.#job.isOver) return undefined;
      this.#read(room);
      if (this.#isReading) return undefined;
    }
  }

  #read(room: number): void {
    const { world } = this.#job;
    const max = Math.max(1, Math.min(room, world.scenario.chunkSize));
    let ms = world.scenario.readMs;
    if (world.strikes(STREAM_FAULT['read-slow'])) ms = 10 * ms + 3;
    this.#isReading = true;
    let values: readonly SourceItem<unknown>[] | undefined;
    this.#job.call(
      ms,
      STREAM_FAULT['read-fail'],
      (part) => {
        if (part === 1 && !this.#isStopped) values = this.#reader.read(max) as typeof values;
      },
      (isDone) => {
        this.#isReading = false;
        if (this.#isStopped) return;
        if (!isDone) this.hasFailed = true;
        else this.#came(values);
      },
    );
  }

  #came(values: readonly SourceItem<unknown>[] | undefined): void {
    const tracking = this.#tracking;
    if (values === undefined) {
      this.isAtEnd = true;
      tracking?.ended();
      return;
    }
    let seq = tracking === undefined ? this.#seq : tracking.entered(values);
    this.#seq += values.length;
    this.#queue = [];
    this.#next = 0;
    for (const value of values) {
      const envelope = tracking?.hadSettled(seq, '') === true ? undefined : this.#envelope(seq, value);
      if (envelope !== undefined) this.#queue.push(envelope);
      seq += 1;
    }
  }

  /** Undefined: an earlier run was through with it, and the source gives it again. */
  #envelope(place: number, item: unknown): Envelope | undefined {
    const { now } = this.#job.world;
    if (typeof item === 'number') return new Envelope(place, item, now, undefined, undefined);
    const stamped = item instanceof Stamped ? item : undefined;
    const value: unknown = stamped === undefined ? item : stamped.value;
    const tracking = this.#tracking;
    const seq = stamped === undefined || tracking === undefined ? place : tracking.opened(place, stamped.token);
    if (seq === undefined) return undefined;
    const envelope = new Envelope(seq, value, now, undefined, undefined);
    if (value instanceof Control) envelope.kind = 'control';
    else if (value instanceof RecordFailure) {
      this.#job.world.fired(STREAM_FAULT['bad-record']);
      envelope.value = value.input;
      envelope.fail(value.error);
    }
    return envelope;
  }
}
