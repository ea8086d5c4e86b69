/**
 * What a scrape says of one pool. Everything here is counted by the pool anyway and read when somebody asks; nothing of
 * a record, of an error's message or of options is looked at.
 */
import { SCALE_REASONS } from '../core/autoscaler.js';
import type { BreakerState } from '../core/breaker.js';
import type { RollbackReason, RolloutStep } from '../core/rollout.js';
import type { ErrorCode } from '../kernel/errors.js';
import { type Exposition, OTHER } from '../telemetry/exposition.js';
import { FAMILIES, type LabelsOf, type TaggedName } from '../telemetry/families.js';
import type { LatencyWindow } from '../telemetry/latency.js';
import type { AsyncBatchMeter } from './async-batch.js';
import type { CacheMeter, CacheStats } from './cache-meter.js';
import type { ShadowTotals } from './comparison.js';
import type { EventCounts } from './pool-events.js';
import type { PoolVersions } from './rollouts.js';
import type { ModelStats, PoolStats } from './stats.js';

/** Of one pool: its snapshot, and what a snapshot only sums up. */
export interface PoolMeters {
  readonly stats: PoolStats;
  /** Of its model, as text: behind the labels of Triton's families. */
  readonly tags: string;
  readonly maxBatchSize: number;
  readonly latencyMs: LatencyWindow;
  readonly queueWaitMs: LatencyWindow;
  readonly calls: AsyncBatchMeter;
  /** Where it keeps its answers. */
  readonly cache: CacheMeter | undefined;
  readonly versions: PoolVersions;
  readonly shadow: ShadowTotals;
  readonly shadowDropped: number;
  /** Records that the old and the new version were sent, while both are given work. */
  readonly split: { readonly old: number; readonly new: number } | undefined;
  readonly told: EventCounts;
  readonly residentBytes: readonly { readonly replica: number; readonly bytes: number }[];
}

export const BREAKER_STATES: readonly BreakerState[] = ['closed', 'half-open', 'open'];

export function collectPool(into: Exposition, meters: PoolMeters): void {
  const { stats } = meters;
  const of = { pool: stats.name };
  collectRecords(into, of, meters);
  collectBatches(into, of, meters);
  collectReplicas(into, of, meters);
  collectVersions(into, of, meters);
  collectShadow(into, of, meters);
  if (stats.models !== undefined) collectModels(into, of, stats.models, stats.replicas);
  const { breaker } = stats;
  if (breaker !== undefined) {
    for (const state of BREAKER_STATES)
      into.add('troupe_breaker_state', { ...of, state }, breaker.state === state ? 1 : 0);
    into.add('troupe_breaker_changes_total', of, breaker.changes);
  }
  if (stats.cache !== undefined) collectCache(into, of, stats.cache);
  collectAliases(into, meters);
}

function collectCache(into: Exposition, of: { pool: string }, cache: CacheStats): void {
  into.add('troupe_cache_records', of, cache.records);
  into.add('troupe_cache_bytes', of, cache.bytes);
  into.add('troupe_cache_limit_bytes', of, cache.maxBytes);
  into.add('troupe_cache_hits_total', of, cache.hits);
  into.add('troupe_cache_misses_total', of, cache.misses);
  into.add('troupe_cache_bypassed_total', of, cache.bypassed);
  into.add('troupe_cache_evictions_total', { ...of, reason: 'room' }, cache.evictions);
  into.add('troupe_cache_evictions_total', { ...of, reason: 'ttl' }, cache.expired);
}

function collectRecords(into: Exposition, of: { pool: string }, { stats, told, ...meters }: PoolMeters): void {
  const { mailbox } = stats;
  into.add('troupe_mailbox_records', of, mailbox.held);
  into.add('troupe_mailbox_bytes', of, mailbox.heldBytes);
  into.add('troupe_mailbox_capacity_records', of, mailbox.capacity);
  into.add('troupe_mailbox_capacity_bytes', of, mailbox.capacityBytes);
  into.add('troupe_mailbox_door_records', of, mailbox.waitingAtDoor);
  into.add('troupe_held_records', of, stats.held);
  into.add('troupe_in_flight_batches', of, stats.asyncBatch.inflightBatches);
  let streams = 0;
  for (const { tokenStreams } of stats.replicas) streams += tokenStreams;
  into.add('troupe_token_streams', of, streams);
  into.add('troupe_accepted_records_total', of, stats.accepted);
  into.add('troupe_refused_records_total', { ...of, reason: 'overloaded' }, stats.overloaded);
  into.add('troupe_refused_records_total', { ...of, reason: 'full' }, stats.refused - stats.overloaded);
  into.add('troupe_refused_records_total', { ...of, reason: 'breaker' }, stats.breaker?.refused ?? 0);
  into.add('troupe_results_total', of, stats.results);
  for (const [code, count] of Object.entries(stats.errors)) into.add('troupe_errors_total', { ...of, code }, count);
  into.add('troupe_dead_letters_total', of, told.events.get('dead-letter') ?? 0);
  into.add('troupe_late_results_total', of, stats.lateResults);
  into.addDistribution(
    'troupe_queue_wait_seconds',
    of,
    meters.queueWaitMs.distribution(FAMILIES.troupe_queue_wait_seconds.bounds),
  );
  into.addDistribution(
    'troupe_latency_seconds',
    of,
    meters.latencyMs.distribution(FAMILIES.troupe_latency_seconds.bounds),
  );
}

function collectBatches(into: Exposition, of: { pool: string }, { stats, maxBatchSize, calls }: PoolMeters): void {
  const { asyncBatch } = stats;
  into.addDistribution('troupe_call_seconds', of, calls.durationMs.distribution(FAMILIES.troupe_call_seconds.bounds));
  into.addDistribution(
    'troupe_batch_size_records',
    of,
    calls.size.distribution(FAMILIES.troupe_batch_size_records.bounds),
  );
  into.addDistribution(
    'troupe_batch_wait_seconds',
    of,
    calls.waitedMs.distribution(FAMILIES.troupe_batch_wait_seconds.bounds),
  );
  into.add('troupe_batch_limit_records', of, maxBatchSize);
  into.add('troupe_batch_fill_ratio', of, stats.meanBatchSize / maxBatchSize);
  for (const [trigger, count] of Object.entries(stats.triggers))
    into.add('troupe_batches_total', { ...of, trigger }, count);
  into.add('troupe_batch_failures_total', of, asyncBatch.asyncCallFailures);
  into.add('troupe_batch_retries_total', of, asyncBatch.batchRetryCount);
  into.add('troupe_batch_timeouts_total', of, asyncBatch.batchTimeoutCount);
  into.add('troupe_batch_expected_seconds', of, stats.expectedBatchMs / 1000);
}

function collectReplicas(into: Exposition, of: { pool: string }, { stats, residentBytes }: PoolMeters): void {
  const serving = stats.version ?? '';
  into.add('troupe_replicas', { ...of, state: 'ready', version: serving }, 0);
  for (const { state, isWaiting, version = '' } of stats.replicas)
    into.add('troupe_replicas', { ...of, state: isWaiting ? 'waiting' : state, version }, 1);
  into.add('troupe_replicas_wanted', of, stats.wanted);
  collectScaling(into, of, stats);
  for (const [cause, count] of Object.entries(stats.deaths))
    into.add('troupe_replica_deaths_total', { ...of, cause }, count);
  into.add('troupe_replica_restarts_total', of, stats.restarts);
  into.add('troupe_replica_replacements_total', of, stats.replaced);
  for (const { replica, bytes } of residentBytes)
    into.add('troupe_replica_resident_bytes', { ...of, replica: String(replica) }, bytes);
  into.add('troupe_stale_replies_total', of, stats.staleReplies);
}

function collectScaling(into: Exposition, of: { pool: string }, { scaling }: PoolStats): void {
  if (scaling === undefined) return;
  into.add('troupe_replicas_limit', { ...of, bound: 'min' }, scaling.min);
  into.add('troupe_replicas_limit', { ...of, bound: 'max' }, scaling.max);
  for (const reason of SCALE_REASONS) into.add('troupe_scalings_total', { ...of, reason }, scaling.changes[reason]);
}

/** Of so many models each has series of its own, those asked for first, so that no series changes sides; the others share one. */
const MODELS_MAX = 100;

function collectModels(
  into: Exposition,
  of: { pool: string },
  { maxBytes, resident, known }: ModelStats,
  replicas: PoolStats['replicas'],
): void {
  into.add('troupe_resident_limit_bytes', of, maxBytes);
  for (const { replica } of replicas) {
    const at = { ...of, replica: String(replica) };
    const held = resident.filter((model) => model.replica === replica);
    into.add('troupe_resident_models', at, held.length);
    into.add(
      'troupe_resident_model_bytes',
      at,
      held.reduce((sum, { bytes }) => sum + bytes, 0),
    );
  }
  const names = new Set<string>();
  for (const { model } of known) if (names.size < MODELS_MAX) names.add(model);
  for (const { model, loads, loadFailures, evictions, hits } of known) {
    const which = { ...of, model: names.has(model) ? model : OTHER };
    into.add('troupe_model_loads_total', which, loads);
    into.add('troupe_model_load_failures_total', which, loadFailures);
    into.add('troupe_model_evictions_total', which, evictions);
    into.add('troupe_model_hits_total', which, hits);
  }
}

const STEPS: readonly RolloutStep[] = [
  'loading',
  'verifying',
  'shifting',
  'baking',
  'promoted',
  'kept',
  'draining',
  'freed',
  'rolled-back',
  'restored',
];
const ROLLBACK_REASONS: readonly RollbackReason[] = [
  'load-failed',
  'verification-failed',
  'errors',
  'latency',
  'disagreement',
  'unproven',
  'replicas-died',
  'operator',
  'superseded',
  'stopped',
];

function collectVersions(into: Exposition, of: { pool: string }, { versions, told }: PoolMeters): void {
  const { current = '', next, share = 0 } = versions;
  const isShared = next !== undefined && next !== current;
  into.add('troupe_version_share_ratio', { ...of, version: current }, isShared ? 1 - share : 1);
  if (isShared) into.add('troupe_version_share_ratio', { ...of, version: next }, share);
  into.add('troupe_swaps_total', { ...of, outcome: 'done' }, told.events.get('swapped') ?? 0);
  into.add('troupe_swaps_total', { ...of, outcome: 'failed' }, told.events.get('swap-failed') ?? 0);
  for (const step of STEPS) into.add('troupe_rollout_steps_total', { ...of, step }, told.steps.get(step) ?? 0);
  for (const reason of ROLLBACK_REASONS)
    into.add('troupe_rollbacks_total', { ...of, reason }, told.reasons.get(reason) ?? 0);
}

const SHADOW_OUTCOMES = ['agreed', 'differed', 'failed', 'uncompared'] as const;

function collectShadow(into: Exposition, of: { pool: string }, { shadow, shadowDropped }: PoolMeters): void {
  for (const outcome of SHADOW_OUTCOMES) into.add('troupe_shadow_records_total', { ...of, outcome }, shadow[outcome]);
  into.add('troupe_shadow_records_total', { ...of, outcome: 'dropped' }, shadowDropped);
  const { bounds } = FAMILIES.troupe_shadow_call_seconds;
  into.addDistribution('troupe_shadow_call_seconds', of, shadow.callMs.distribution(bounds));
}

const REASONS = ['REJECTED', 'CANCELED', 'BACKEND', 'OTHER'] as const;

const REASON_OF: Partial<Record<ErrorCode, (typeof REASONS)[number]>> = {
  MAILBOX_DROPPED: 'REJECTED',
  DEADLINE_PASSED: 'REJECTED',
  CANCELLED: 'CANCELED',
  PREDICT_FAILED: 'BACKEND',
  INPUT_INVALID: 'BACKEND',
  PROTOCOL_VIOLATION: 'BACKEND',
  ACTOR_CRASHED: 'BACKEND',
  ACTOR_HUNG: 'BACKEND',
  ACTOR_OOM: 'BACKEND',
};

/**
 * Under Triton's names. A record's compute is what is left of its latency after the queue, so the three durations add
 * up; they are counted for records with a result. One that the cache answers has waited and was not computed.
 */
function collectAliases(into: Exposition, { stats, latencyMs, queueWaitMs, cache, tags }: PoolMeters): void {
  const of = { model: stats.name, version: stats.version ?? '' };
  const failures = { REJECTED: stats.refused + (stats.breaker?.refused ?? 0), CANCELED: 0, BACKEND: 0, OTHER: 0 };
  for (const [code, count] of Object.entries(stats.errors)) failures[REASON_OF[code as ErrorCode] ?? 'OTHER'] += count;
  const add = <Name extends TaggedName>(name: Name, labels: LabelsOf<Name>, value: number): void =>
    into.addTagged(name, labels, tags, value);
  add('nv_inference_request_success', of, stats.results);
  for (const reason of REASONS) add('nv_inference_request_failure', { ...of, reason }, failures[reason]);
  add('nv_inference_count', of, stats.results - (cache?.total.hits ?? 0));
  add('nv_inference_exec_count', of, stats.asyncBatch.totalBatchesProcessed);
  add('nv_inference_pending_request_count', of, stats.mailbox.held + stats.mailbox.waitingAtDoor);
  add('nv_inference_request_duration_us', of, Math.round(latencyMs.sum * 1000));
  add('nv_inference_queue_duration_us', of, Math.round(queueWaitMs.sum * 1000));
  add(
    'nv_inference_compute_infer_duration_us',
    of,
    Math.round(latencyMs.sum * 1000) - Math.round(queueWaitMs.sum * 1000),
  );
  if (cache === undefined) return;
  const { hits, hitMs, misses, missMs } = cache.total;
  add('nv_cache_num_hits_per_model', of, hits);
  add('nv_cache_num_misses_per_model', of, misses);
  add('nv_cache_hit_duration_per_model', of, Math.round(hitMs * 1000));
  add('nv_cache_miss_duration_per_model', of, Math.round(missMs * 1000));
}
