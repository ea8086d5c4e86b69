import type { AsyncBatchMeter, AsyncBatchStats } from './async-batch.js';
import type { ErrorCode } from '../kernel/errors.js';
import type { ScaleReason } from '../core/autoscaler.js';
import type { Breaker, BreakerState } from '../core/breaker.js';
import type { BucketBelief } from '../core/adaptive-size.js';
import type { Trigger } from '../core/batcher.js';
import type { PoolState, ReplicaState } from '../core/lifecycles.js';
import type { ModelDesk } from '../core/model-desk.js';
import { modelOf, versionOf } from '../core/model-key.js';
import type { PoolCore } from '../core/pool-core.js';
import type { ResidentState } from '../core/resident-models.js';
import type { LatencySummary } from '../telemetry/latency.js';
import type { CacheMeter, CacheStats } from './cache-meter.js';
import type { ProbeCounts } from './readiness.js';

export interface ScalingStats {
  readonly min: number;
  readonly max: number;
  /** It has no replica and loads one for the next record. */
  readonly asleep: boolean;
  /** How often the number was changed, by reason. */
  readonly changes: Readonly<Record<ScaleReason, number>>;
}

/** What `pool.stats()` gives: counters since the pool began, and what is true now. */
export interface PoolStats {
  readonly name: string;
  readonly state: PoolState;
  readonly version: string | undefined;
  readonly replicas: readonly {
    readonly replica: number;
    readonly state: ReplicaState;
    /** It is to start, and waits for its turn: others of the system start before it. */
    readonly isWaiting: boolean;
    /** How often this replica has been started. */
    readonly incarnation: number;
    readonly version: string | undefined;
    readonly inFlightBatches: number;
    /** Token streams it has begun to answer with and not ended. */
    readonly tokenStreams: number;
  }[];
  /** How many replicas there are to be. */
  readonly wanted: number;
  /** Of a pool that scales by itself. */
  readonly scaling?: ScalingStats | undefined;
  readonly mailbox: {
    readonly held: number;
    readonly heldBytes: number;
    readonly capacity: number;
    readonly capacityBytes: number;
    readonly waitingAtDoor: number;
  };
  /** accepted = settled + held; settled = results + the sum of errors. */
  readonly accepted: number;
  readonly refused: number;
  /** Of those refused: they could not have been answered before their deadline. */
  readonly overloaded: number;
  readonly settled: number;
  readonly results: number;
  readonly held: number;
  readonly errors: Partial<Record<ErrorCode, number>>;
  readonly batches: number;
  readonly meanBatchSize: number;
  readonly triggers: Readonly<Record<Trigger, number>>;
  /** What a batch is expected to take, from those seen. */
  readonly expectedBatchMs: number;
  /** What the batcher believes of the shapes of records seen last, at most 16; empty unless batching.adaptive. */
  readonly batcher: readonly BucketBelief[];
  readonly restarts: number;
  /** How often a replica was ended because nobody waited any more for what it ran (cancellation: replace). */
  readonly replaced: number;
  readonly deaths: Readonly<Record<'init' | 'crash' | 'hang' | 'oom' | 'quarantine', number>>;
  readonly staleReplies: number;
  readonly lateResults: number;
  /** From acceptance to result, and from acceptance to the send that answered it. */
  readonly latencyMs: LatencySummary;
  readonly queueWaitMs: LatencySummary;
  /** The figures of Flink's AsyncBatch operator, by its names. */
  readonly asyncBatch: AsyncBatchStats;
  /** undefined where the pool has none. */
  readonly breaker: BreakerStats | undefined;
  /** undefined where the pool keeps no answers. */
  readonly cache: CacheStats | undefined;
  /** undefined where the pool holds one model. */
  readonly models: ModelStats | undefined;
  readonly upMs: number;
}

/** Of a pool that holds many models. */
export interface ModelStats {
  /** Of each replica. */
  readonly maxBytes: number;
  /** What replicas hold now, the one used longest ago first. */
  readonly resident: readonly {
    readonly replica: number;
    readonly model: string;
    readonly version: string | undefined;
    readonly bytes: number;
    readonly state: ResidentState;
    readonly isPinned: boolean;
  }[];
  /** Every model that was ever asked for, of the last thousands. */
  readonly known: readonly {
    readonly model: string;
    readonly version: string | undefined;
    /** What it holds where it is loaded; undefined before somebody has looked. */
    readonly bytes: number | undefined;
    readonly loads: number;
    readonly loadFailures: number;
    readonly evictions: number;
    /** Batches that found it loaded. */
    readonly hits: number;
    /** What its last load took. */
    readonly loadMs: number;
  }[];
}

export interface BreakerStats {
  readonly state: BreakerState;
  /** Verdicts within windowMs. */
  readonly calls: number;
  readonly failures: number;
  /** Changes of state, and records refused with BREAKER_OPEN, since the pool began. */
  readonly changes: number;
  readonly refused: number;
  /** While open: how long it still refuses every record. */
  readonly retryAfterMs: number;
}

/** What the edge of a pool has seen, beside its core. */
export interface SeenByEdge {
  readonly latencyMs: LatencySummary;
  readonly queueWaitMs: LatencySummary;
  readonly calls: AsyncBatchMeter;
  readonly breaker: Breaker | undefined;
  readonly cache: CacheMeter | undefined;
  /** What of the core's counters is no work, but probes of readiness. */
  readonly probes: ProbeCounts;
  readonly probesInFlight: number;
  /** Of the replica in this cell: its start waits for its turn. */
  readonly isWaiting: (cell: number) => boolean;
  readonly startedAt: number;
}

const BELIEFS_MAX = 16;

/** The snapshot of one pool, from its core and what its edge has seen. */
export function poolStats(core: PoolCore, edge: SeenByEdge, now: number): PoolStats {
  const { probes } = edge;
  const batches = core.counts.batches - probes.batches;
  return {
    name: core.limits.name,
    state: core.state,
    version: core.fleet.version,
    replicas: [...core.fleet.cells.values()].map((cell) => ({
      replica: cell.replica,
      state: cell.state,
      isWaiting: edge.isWaiting(cell.id),
      incarnation: cell.incarnation,
      version: cell.version,
      inFlightBatches: core.ledger.count(cell.id),
      tokenStreams: cell.streams,
    })),
    wanted: core.fleet.replicas,
    scaling: scalingStats(core),
    mailbox: {
      held: core.mailbox.held,
      heldBytes: core.mailbox.heldBytes,
      capacity: core.mailbox.limits.capacity,
      capacityBytes: core.mailbox.limits.capacityBytes,
      waitingAtDoor: core.mailbox.doorCount,
    },
    accepted: core.counts.accepted - probes.accepted,
    refused: core.counts.refused,
    overloaded: core.counts.overloaded,
    settled: core.counts.settled - probes.settled,
    results: core.counts.resolved - probes.results,
    held: core.heldCount - (probes.accepted - probes.settled),
    errors: errorsOf(core, probes),
    batches,
    meanBatchSize: batches === 0 ? 0 : (core.counts.batched - probes.batches) / batches,
    triggers: triggersOf(core, probes),
    expectedBatchMs: core.batcher.expectedMs,
    batcher: core.batcher.beliefs(BELIEFS_MAX),
    restarts: core.fleet.restartCount,
    replaced: core.fleet.replacedCount,
    deaths: { ...core.fleet.deathCounts },
    staleReplies: core.ledger.staleReplyCount,
    lateResults: core.counts.lateResults,
    latencyMs: edge.latencyMs,
    queueWaitMs: edge.queueWaitMs,
    asyncBatch: edge.calls.stats(core.ledger.size - edge.probesInFlight, 0),
    breaker: edge.breaker === undefined ? undefined : breakerStats(edge.breaker, now),
    cache: edge.cache?.stats(),
    models: core.models === undefined ? undefined : modelStats(core, core.models),
    upMs: now - edge.startedAt,
  };
}

function modelStats({ fleet }: PoolCore, desk: ModelDesk): ModelStats {
  const resident = fleet.list.flatMap((cell) =>
    desk.holdings.listOf(cell).map(({ key, bytes, state }) => ({
      replica: cell.replica,
      model: modelOf(key),
      version: versionOf(key),
      bytes,
      state,
      isPinned: desk.isPinned(key),
    })),
  );
  const known = [...desk.book.all()].map(({ key, ...model }) => ({
    model: modelOf(key),
    version: versionOf(key),
    bytes: model.bytes,
    loads: model.loadCount,
    loadFailures: model.failureCount,
    evictions: model.evictionCount,
    hits: model.hitCount,
    loadMs: model.loadMs,
  }));
  return { maxBytes: desk.limits.maxBytes, resident, known };
}

function errorsOf({ counts }: PoolCore, { errors }: ProbeCounts): PoolStats['errors'] {
  const ours = [...counts.errors].map(([code, count]) => [code, count - (errors[code] ?? 0)] as const);
  return Object.fromEntries(ours.filter(([, count]) => count !== 0)) as PoolStats['errors'];
}

function triggersOf({ counts }: PoolCore, { triggers }: ProbeCounts): PoolStats['triggers'] {
  const rest = { ...counts.triggers };
  for (const trigger of Object.keys(triggers) as Trigger[]) rest[trigger] -= triggers[trigger] ?? 0;
  return rest;
}

function scalingStats({ limits, fleet, rest }: PoolCore): ScalingStats | undefined {
  if (limits.scaling === undefined) return undefined;
  const { min, max } = limits.scaling;
  return { min, max, asleep: rest === 'asleep', changes: { ...fleet.scaleCounts } };
}

function breakerStats(breaker: Breaker, now: number): BreakerStats {
  const { state, changeCount: changes, refusedCount: refused } = breaker;
  return { state, ...breaker.counts(now), changes, refused, retryAfterMs: breaker.retryAfterMs(now) };
}
