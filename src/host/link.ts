import type { CoreResult, DeathNotice } from '../core/effects.js';
import type { TroupeError } from '../kernel/errors.js';
import type { Isolation } from '../wire/definition.js';
import type { EntrySpec, ModelDescription, ModelSpec } from '../wire/messages.js';
import type { ServedKind } from '../wire/served-kinds.js';
import type { Signature } from '../wire/tensor.js';
import type { IncomingStream } from './incoming-stream.js';

/** Everything a replica needs to start, for every isolation. Plain data, but `actor`, which is a definition only inline. */
export interface ReplicaSpec extends EntrySpec {
  readonly isolation: Isolation;
  /** Start-up deadline: module import, engine, load and warm-up together. */
  readonly loadTimeoutMs: number;
  /** The child's watchdog thread beats this often; the host declares `hung` after two missed beats. Process only. */
  readonly heartbeatMs: number;
  /** Budget of each rung of the stop ladder. */
  readonly stopTimeoutMs: number;
  /** How long the reader of a token stream waits for a piece. Default 30,000. */
  readonly pieceTimeoutMs?: number;
  /** Hard limits; thread: V8 heap (resourceLimits), process: --max-old-space-size and an RSS watchdog. */
  readonly memoryLimitBytes: number | undefined;
}

/** What a replica says of itself once loaded. */
export interface Description {
  readonly signature: Signature | undefined;
  readonly methods: readonly string[];
  readonly repeatable: boolean;
  readonly kinds?: readonly ServedKind[];
  /** It takes rows whatever its signature. */
  readonly relays?: true;
  readonly pid: number;
  /** Size and milliseconds of each run of the warm-up, where the actor reported them. */
  readonly costs?: readonly (readonly [size: number, ms: number])[];
}

/** How a replica ended, and the answer to one record: what the core is told, word for word. */
export type Death = DeathNotice;
export type RecordResult = CoreResult;

export type ReplyStreams = readonly (readonly [index: number, stream: IncomingStream])[];

/** Told by a link, always asynchronously (never inside a call to it), each at most as often as said. */
export interface LinkEvents {
  /** Once, after load and warm-up. */
  ready(description: Description): void;
  /**
   * One entry per record, in order. `streams`: those results that are token streams, by place; none where there are none.
   * `model`: the key that their batch was sent with.
   */
  reply(batchId: number, results: readonly RecordResult[], streams?: ReplyStreams, model?: string): void;
  /** Nothing of the actor runs for one token stream (of `model`) any more. Once for each, unless the replica ends first. */
  streamEnded?(model?: string): void;
  /** The batch as a whole failed: predict threw (PREDICT_FAILED) or broke the contract (PROTOCOL_VIOLATION). */
  failed(batchId: number, error: TroupeError): void;
  /** Once, last: after it nothing more is told but `stale`. Also after a failed load. */
  exited(death: Death): void;
  /** A reply came from a replica that had been told as ended: it is dropped, and told only to be counted. */
  stale(batchId: number): void;
}

/** Parent's handle on one incarnation of one replica. */
export interface Link {
  readonly spec: ReplicaSpec;
  /** Its start waits for its turn, and nothing of it is there. Absent where it never waits. */
  readonly isWaiting?: boolean;
  /**
   * Sends one batch. `inputs` stay the caller's: the link copies what it transfers, so a retry finds them whole. `shared`:
   * one caller gets all results and takes views over one buffer; else each result has memory of its own. `model`: the key
   * of the one it is for, which is loaded, where the replica holds many.
   */
  send(batchId: number, inputs: readonly unknown[], shared?: boolean, model?: string): void;
  /** Nobody waits for this batch any more: aborts its signal inside the actor. The reply still comes. */
  abandon(batchId: number): void;
  /** Control lane. Rejects with METHOD_NOT_FOUND, METHOD_FAILED or the death of the replica. */
  call(method: string, args: readonly unknown[]): Promise<unknown>;
  /** Loads one model more. Rejects with what load() threw, or the death of the replica. */
  loadModel(spec: ModelSpec): Promise<ModelDescription>;
  /** Frees one, when no batch for it is under way. Rejects with METHOD_FAILED where unload() threw, or the death. */
  unloadModel(key: string): Promise<void>;
  /**
   * Stop ladder: fence, let the running batch finish, unload, then (process) SIGTERM, SIGKILL, or (thread) terminate
   * only when it is safe. Ends in `exited`. `now: true` skips the drain. May be called again with now: true.
   */
  stop(options?: { readonly now?: boolean }): void;
  /** Declares the replica hung: kills it at once (process), fences it (thread in native code). Ends in `exited` with `hung`. */
  kill(reason: 'hung'): void;
}

/** Starts a replica in its isolation. Never throws: trouble arrives as `exited`. */
export type StartLink = (spec: ReplicaSpec, events: LinkEvents) => Link;
