/**
 * What the page is told, in the words of both sides: the server fills it in, the browser draws it. Imports nothing, for it
 * is compiled for both. Every list is bounded; where there is more, a count says how much.
 */

/** Once a second. */
export interface PageState {
  readonly system: string;
  readonly pid: number;
  readonly upMs: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** What may change the system; null where its control is not open. */
  readonly control: { readonly tokenFile: string } | null;
  readonly pools: readonly PoolState[];
  readonly poolCount: number;
  readonly pipelines: readonly PipelineState[];
  readonly pipelineCount: number;
}

/** Counters go on from the start of the pool; the browser makes rates of them. */
export interface PoolState {
  readonly name: string;
  readonly state: string;
  readonly version: string | null;
  /** What `rollback` would bring back. */
  readonly previous: string | null;
  readonly rollout: RolloutState | null;
  readonly replicas: readonly ReplicaState[];
  readonly replicaCount: number;
  readonly readyCount: number;
  readonly mailbox: { readonly held: number; readonly capacity: number; readonly bytes: number };
  readonly accepted: number;
  readonly refused: number;
  readonly results: number;
  readonly errors: number;
  readonly batches: number;
  /** Records in all of them together. */
  readonly batchedRecords: number;
  readonly batchMax: number;
  readonly restarts: number;
  /** From acceptance to result. */
  readonly latency: { readonly p50Ms: number; readonly p99Ms: number; readonly sumMs: number; readonly count: number };
  /** Of its circuit breaker; null where it has none. */
  readonly breaker: string | null;
  /** Null where the number of replicas is fixed. */
  readonly scaling: ScalingState | null;
  /** Null where it has one model. */
  readonly models: ModelsState | null;
}

/** A pool whose number of replicas follows its load. */
export interface ScalingState {
  readonly min: number;
  readonly max: number;
  /** So many there are to be. */
  readonly wanted: number;
  readonly asleep: boolean;
  /** How often the number was changed, by reason. */
  readonly changes: Readonly<Record<string, number>>;
}

/** What the replicas of a pool of many models hold. */
export interface ModelsState {
  /** Of each replica. */
  readonly maxBytes: number;
  readonly replicas: readonly {
    readonly replica: number;
    /** Of all that it holds. */
    readonly bytes: number;
    /** The one used last first. */
    readonly held: readonly HeldModel[];
    readonly heldCount: number;
  }[];
  readonly loads: number;
  readonly loadFailures: number;
  readonly evictions: number;
}

export interface HeldModel {
  /** With its version. */
  readonly name: string;
  readonly bytes: number;
  readonly state: string;
  readonly isPinned: boolean;
}

/** A version that is being brought in. */
export interface RolloutState {
  readonly to: string | null;
  readonly step: string;
  /** The part of the records it is to have, while it bakes. */
  readonly share: number | null;
  /** Records that each version was sent since; null unless both are given work. */
  readonly sent: { readonly old: number; readonly new: number } | null;
  /** It answers nobody and is compared. */
  readonly shadow: ShadowState | null;
}

/** In records, but for the times. */
export interface ShadowState {
  /** The part of the records that it is to be shown. */
  readonly share: number;
  readonly shown: number;
  /** Both answered. */
  readonly compared: number;
  readonly agreed: number;
  /** It failed where the old version did not. */
  readonly failed: number;
  /** Left out, for it had no room. */
  readonly dropped: number;
  /** What batches took that both were given, in the median. */
  readonly oldMs: number;
  readonly newMs: number;
}

export interface ReplicaState {
  readonly replica: number;
  readonly state: string;
  readonly version: string | null;
  /** How often it was started. */
  readonly starts: number;
  readonly inFlight: number;
}

export interface PipelineState {
  readonly name: string;
  readonly records: number;
  readonly results: number;
  readonly failed: number;
  readonly deadLetters: number;
  readonly held: number;
}

/** As they happen, some at once. A gap in `seq` says how many are missing. */
export interface PageEvent {
  readonly seq: number;
  /** ISO 8601. */
  readonly at: string;
  readonly kind: string;
  readonly pool?: string;
  readonly message: string;
}

/** Answer to a question for the versions of a pool. */
export interface PageVersions {
  readonly current?: string;
  readonly previous?: string;
  readonly available: readonly string[];
}

export interface PageFault {
  readonly code?: string;
  readonly message: string;
}

export const PATHS = {
  feed: '/page/feed',
  versions: '/page/versions',
  unlock: '/page/unlock',
  call: '/page/call',
} as const;

/** The header that the page's code sends with every question; its name alone keeps other sites from asking. */
export const MARK = 'x-troupe-page';

/** Verbs of the control plane that the page may use. */
export const PAGE_VERBS = ['swap', 'canary', 'promote', 'rollback'] as const;
export type PageVerb = (typeof PAGE_VERBS)[number];
