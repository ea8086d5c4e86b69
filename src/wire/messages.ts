import type { ActorDefinition } from './definition.js';
import type { Fault } from './fault.js';
import type { Payload } from './rows.js';
import type { ServedKind } from './served-kinds.js';
import type { Signature } from './tensor.js';
import type { WarmUp } from './warm-up.js';

/**
 * What the two sides say to each other: the only place where host and entry meet. The data lane carries one message per
 * batch; the control lane is a handful of calls. Every message carries the incarnation, and whoever receives one of
 * another incarnation drops it.
 */

/** A call that every replica answers with undefined, and that no method of a definition can have as its name. */
export const PING = '\u0000ping';

export interface BatchMessage {
  readonly kind: 'batch';
  readonly incarnation: number;
  readonly id: number;
  readonly payload: Payload;
  /** Key of the model it is for, where the replica holds many. */
  readonly model?: string;
}

export interface AbandonMessage {
  readonly kind: 'abandon';
  readonly incarnation: number;
  readonly id: number;
}

/** Credit for pieces of one stream: of the batch, and the place in it, whose output it is. */
export interface PullMessage {
  readonly kind: 'pull';
  readonly incarnation: number;
  readonly id: number;
  readonly index: number;
  /** How many more may come. */
  readonly count: number;
}

/** Nobody reads this stream any more. Its end still comes. */
export interface EndStreamMessage {
  readonly kind: 'end-stream';
  readonly incarnation: number;
  readonly id: number;
  readonly index: number;
}

export type ToEntry = BatchMessage | AbandonMessage | PullMessage | EndStreamMessage;

export interface ReplyMessage {
  readonly kind: 'reply';
  readonly incarnation: number;
  readonly id: number;
  /** One entry per record of the batch; what stands in a faulted place means nothing. */
  readonly payload: Payload;
  /** Records that failed alone, by position. */
  readonly faults: readonly (readonly [number, Fault])[] | undefined;
  /** Places whose output is a stream, whose pieces follow. */
  readonly streams?: readonly number[];
}

export interface PieceMessage {
  readonly kind: 'piece';
  readonly incarnation: number;
  readonly id: number;
  readonly index: number;
  readonly value: unknown;
}

/** Once for each stream, after its last piece. */
export interface StreamEndedMessage {
  readonly kind: 'stream-ended';
  readonly incarnation: number;
  readonly id: number;
  readonly index: number;
  /** Why it is not whole. */
  readonly fault?: Fault;
}

export interface FailedMessage {
  readonly kind: 'failed';
  readonly incarnation: number;
  readonly id: number;
  readonly fault: Fault;
}

/** Memory of batches that the actor is done with, transferred back. Threads only. */
export interface SpentMessage {
  readonly kind: 'spent';
  readonly incarnation: number;
  readonly buffers: readonly ArrayBuffer[];
}

/** Last words: an uncaught throw or an unhandled rejection ends the actor, and this says which. */
export interface CrashMessage {
  readonly kind: 'crash';
  readonly incarnation: number;
  readonly fault: Fault;
}

export type ToHost = ReplyMessage | FailedMessage | CrashMessage | SpentMessage | PieceMessage | StreamEndedMessage;

/** What a child needs to run its replica. Plain data, but `actor`, which is a definition object only inline. */
export interface EntrySpec {
  readonly pool: string;
  readonly replica: number;
  readonly replicas: number;
  /** Restart number; every message of this replica belongs to it. */
  readonly incarnation: number;
  /** URL (file:) of the actor module; or the definition itself, for inline actors given as objects. */
  readonly actor: string | ActorDefinition;
  readonly modelDir: string | undefined;
  readonly modelConfig?: Readonly<Record<string, unknown>> | undefined;
  /** What the files of `modelDir` are to be before they are loaded; undefined: whatever they are. */
  readonly modelHash?: string | undefined;
  /** Run once the model is loaded, before the replica counts as ready; undefined: none. */
  readonly warmUps?: readonly WarmUp[] | undefined;
  readonly version: string | undefined;
  readonly options: Readonly<Record<string, unknown>>;
  readonly device: string;
  readonly maxBatchSize: number;
  /** True: nothing is loaded at the start; models come and go by `loadModel` and `unloadModel`. Default false. */
  readonly manyModels?: boolean;
}

/** One of the models that a replica may hold beside others. */
export interface ModelSpec {
  /** What batches for it and its unload say: of no other model or version. */
  readonly key: string;
  readonly model: string;
  readonly version: string | undefined;
  readonly modelDir: string | undefined;
  readonly modelConfig?: Readonly<Record<string, unknown>> | undefined;
  /** What the files of `modelDir` are to be before they are loaded; undefined: whatever they are. */
  readonly modelHash?: string | undefined;
  /** Run once the model is loaded, before the replica counts as ready; undefined: none. */
  readonly warmUps?: readonly WarmUp[] | undefined;
}

/** What the entry says of a model once loaded. */
export interface ModelDescription {
  readonly signature: Signature | undefined;
  /** What load() said it holds; undefined where it said nothing. */
  readonly bytes: number | undefined;
  /** Size and milliseconds of each run that load() reported. */
  readonly costs: readonly (readonly [size: number, ms: number])[];
}

/** What the entry says of itself once loaded. */
export interface EntryDescription {
  readonly signature: Signature | undefined;
  readonly methods: readonly string[];
  readonly repeatable: boolean;
  readonly native: boolean;
  readonly kinds?: readonly ServedKind[];
  /** It takes rows whatever its signature. */
  readonly relays?: true;
  readonly pid: number;
  /** Size and milliseconds of each run that load() reported. */
  readonly costs: readonly (readonly [size: number, ms: number])[];
}

/** Errors cross as faults, never as throws: comlink keeps only name, message and stack of a thrown one. */
export type Answer<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly fault: Fault };

/** The control lane, served by the entry. */
export interface ControlApi {
  start(spec: EntrySpec): Promise<Answer<EntryDescription>>;
  call(method: string, args: readonly unknown[]): Promise<Answer<unknown>>;
  /**
   * Finishes the batches that were sent, unloads, then answers and ends. `sentCount`: how many were sent in all, because
   * this call may overtake the last ones on the data lane. `now` aborts what runs instead, and waits for nothing else.
   */
  stop(now: boolean, sentCount: number): Promise<Answer<undefined>>;
  /** Loads one model more, while batches of others run. */
  loadModel(spec: ModelSpec): Promise<Answer<ModelDescription>>;
  /** Frees one; no batch for it is sent from here on, and none is under way. */
  unloadModel(key: string): Promise<Answer<undefined>>;
}

/** How a shell talks to the host: whole messages, with a wait where the lane is full. */
export interface HostLane {
  /** Undefined: the message is out of our memory and its arrays may be used again. Otherwise wait for it. */
  post(message: ToHost): Promise<void> | undefined;
  /** Throws when a value cannot cross this lane. Returns what would arrive. */
  copy(value: unknown): unknown;
  /** Takes buffers of a batch that nobody uses any more. Absent where batches have no memory of their own. */
  giveBack?(buffers: readonly ArrayBuffer[]): void;
}

/** The runner of one replica, the same in every isolation. */
export interface Runner extends ControlApi {
  receive(message: ToEntry): void;
  /** Aborts the batch that runs, starts no other one, and unloads nothing: the host has given this replica up. */
  fence(): void;
}

/** What `entry/inline.js` exports: the host loads it by URL, as it loads the entries of threads and children. */
export interface InlineEntry {
  readonly openInline: (lane: HostLane, state: Int32Array) => Runner;
}

/** Places in the shared state words by which a host judges, without asking, whether a thread may be terminated. */
export const STATE_BUSY = 0;
export const STATE_NATIVE = 1;
export const STATE_WORD_COUNT = 2;

/** What a thread is started with. */
export interface ThreadData {
  readonly incarnation: number;
  readonly state: Int32Array;
  readonly control: unknown;
  readonly data: unknown;
}

/**
 * File descriptors of a child. Its data lane and its pulse are socket pairs it inherits: Unix sockets without a name, so
 * there is no path to be too long, stale or open to others, and both ends are gone when either side dies.
 */
export const DATA_FD = 4;
export const PULSE_FD = 5;

/** Bytes on the pulse: the child lives; the child is over its memory limit and about to end itself. */
export const PULSE_BEAT = 1;
export const PULSE_OUT_OF_MEMORY = 2;

/** What a child is started with, as JSON in its arguments. */
export interface ProcessData {
  readonly incarnation: number;
  readonly parentPid: number;
  readonly heartbeatMs: number;
  readonly memoryLimitBytes: number | undefined;
}
