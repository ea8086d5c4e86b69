/**
 * Every metric there is: its name, what it counts and its labels. docs/metrics.md is made from this table, and a sample
 * of a name or a label that does not stand here cannot be written; only the tags of a model, which its config.pbtxt names,
 * are more labels of what Triton gives them. Labels hold names of pools, pipelines and versions, and words of fixed lists;
 * never anything that came in a record, an error's message or the environment.
 */

interface Family {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  /** What it counts; a sentence, for people. */
  readonly help: string;
  /** Of a histogram. */
  readonly bounds?: readonly number[];
}

const powers = (from: number, to: number): readonly number[] =>
  Array.from({ length: to - from + 1 }, (_, index) => 2 ** (from + index));

/** Milliseconds from 1/8 to 65,536; families in seconds show them divided by 1000. */
const TIMES = powers(-3, 16);
/** Records in a batch, up to the most batching.maxSize admits. */
const SIZES = powers(0, 16);

const counter = <const Labels extends readonly string[]>(labels: Labels, help: string) =>
  ({ type: 'counter', labels, help }) as const;
const gauge = <const Labels extends readonly string[]>(labels: Labels, help: string) =>
  ({ type: 'gauge', labels, help }) as const;
const histogram = <const Labels extends readonly string[]>(
  labels: Labels,
  help: string,
  bounds: readonly number[] = TIMES,
) => ({ type: 'histogram', labels, help, bounds }) as const;

const STEP = ['pipeline', 'step', 'pool'] as const;
const MODEL = ['model', 'version'] as const;

export const FAMILIES = {
  // pools: what waits
  troupe_mailbox_records: gauge(['pool'], 'Records that wait in the mailbox.'),
  troupe_mailbox_bytes: gauge(['pool'], 'Bytes of the records that wait in the mailbox.'),
  troupe_mailbox_capacity_records: gauge(['pool'], 'Records the mailbox has room for: mailbox.capacity.'),
  troupe_mailbox_capacity_bytes: gauge(['pool'], 'Bytes the mailbox has room for: mailbox.capacityBytes.'),
  troupe_mailbox_door_records: gauge(
    ['pool'],
    'Records of callers that wait for room in the mailbox (overflow: wait).',
  ),
  troupe_held_records: gauge(
    ['pool'],
    'Records accepted and not settled: waiting, with replicas, or to be tried again.',
  ),
  troupe_in_flight_batches: gauge(['pool'], 'Batches that are with replicas.'),
  troupe_token_streams: gauge(['pool'], 'Token streams that replicas have begun to answer with and not ended.'),
  // pools: what became of records
  troupe_accepted_records_total: counter(['pool'], 'Records the pool took in.'),
  troupe_refused_records_total: counter(
    ['pool', 'reason'],
    'Records it did not take. reason: overloaded (could not be in time), full (no room, or no pool to take it), breaker.',
  ),
  troupe_results_total: counter(['pool'], 'Records that got a result.'),
  troupe_errors_total: counter(['pool', 'code'], 'Accepted records that failed, by the code of their error.'),
  troupe_dead_letters_total: counter(
    ['pool'],
    'Records nobody hears of that failed: told, or dropped by an overflow rule.',
  ),
  troupe_late_results_total: counter(['pool'], 'Results that came when their caller had been told otherwise.'),
  // pools: the stages of a record
  troupe_queue_wait_seconds: histogram(['pool'], 'From the acceptance of a record to the send that answered it.'),
  troupe_call_seconds: histogram(['pool'], 'From the send of a batch to its answer.'),
  troupe_latency_seconds: histogram(['pool'], 'From the acceptance of a record to its result.'),
  // pools: batches
  troupe_batch_size_records: histogram(['pool'], 'Records in a batch.', SIZES),
  troupe_batch_limit_records: gauge(['pool'], 'Most records in a batch: batching.maxSize.'),
  troupe_batch_fill_ratio: gauge(['pool'], 'Mean size of the batches so far, as a share of batching.maxSize.'),
  troupe_batch_wait_seconds: histogram(['pool'], 'From the acceptance of the oldest record of a batch to the send.'),
  troupe_batches_total: counter(['pool', 'trigger'], 'Batches sent, by what made them go.'),
  troupe_batch_failures_total: counter(['pool'], 'Batches that failed as a whole, or whose replica ended.'),
  troupe_batch_retries_total: counter(['pool'], 'Batches sent to try records again.'),
  troupe_batch_timeouts_total: counter(['pool'], 'Batches in which time ran out while they ran.'),
  troupe_batch_expected_seconds: gauge(['pool'], 'What the next batch is expected to take.'),
  // pools: replicas and versions
  troupe_replicas: gauge(
    ['pool', 'state', 'version'],
    'Replicas by state; state ready is always there, with 0 too, and waiting is one whose start waits for its turn.',
  ),
  troupe_replicas_wanted: gauge(['pool'], 'Replicas there are to be.'),
  troupe_replicas_limit: gauge(
    ['pool', 'bound'],
    'Of a pool that scales by itself: bound min and max of its replicas.',
  ),
  troupe_scalings_total: counter(
    ['pool', 'reason'],
    'Of a pool that scales by itself: changes of its number of replicas. reason: queue-age, busy, calm, idle, demand, operator.',
  ),
  troupe_replica_deaths_total: counter(['pool', 'cause'], 'Replicas that ended without being asked to, by cause.'),
  troupe_replica_restarts_total: counter(['pool'], 'Replicas that were ready again after a restart.'),
  troupe_replica_replacements_total: counter(['pool'], 'Replicas ended because nobody waited for what they ran.'),
  troupe_replica_resident_bytes: gauge(['pool', 'replica'], 'Resident memory of a replica that is a child process.'),
  troupe_stale_replies_total: counter(['pool'], 'Replies of replicas that had been told as ended; dropped.'),
  troupe_version_share_ratio: gauge(
    ['pool', 'version'],
    'Part of the records that a version is given: 1 for the one that serves, less while another is on trial beside it.',
  ),
  troupe_swaps_total: counter(['pool', 'outcome'], 'Swaps that ended. outcome: done, failed.'),
  troupe_rollout_steps_total: counter(
    ['pool', 'step'],
    'Steps of swaps: loading, verifying, shifting, baking and so on.',
  ),
  troupe_shadow_records_total: counter(
    ['pool', 'outcome'],
    'Records shown to a version that answers nobody. outcome: agreed, differed, failed, uncompared (no result to compare with), dropped (not shown: no room).',
  ),
  troupe_shadow_call_seconds: histogram(
    ['pool'],
    'From the begin of a batch on a version that answers nobody to its answer.',
  ),
  troupe_rollbacks_total: counter(['pool', 'reason'], 'Swaps that were given up, by reason.'),
  troupe_breaker_state: gauge(['pool', 'state'], "1 for the state of the pool's circuit breaker, 0 for the others."),
  troupe_breaker_changes_total: counter(['pool'], "Changes of state of the pool's circuit breaker."),
  // pools of many models
  troupe_resident_models: gauge(['pool', 'replica'], 'Models that a replica of a pool of many models holds.'),
  troupe_resident_model_bytes: gauge(['pool', 'replica'], 'Bytes of those models, as far as their sizes are known.'),
  troupe_resident_limit_bytes: gauge(['pool'], 'Bytes of models a replica may hold: models.maxBytes.'),
  troupe_model_loads_total: counter(
    ['pool', 'model'],
    'Loads of a model of a pool of many, all its versions together.',
  ),
  troupe_model_load_failures_total: counter(['pool', 'model'], 'Loads that failed.'),
  troupe_model_evictions_total: counter(['pool', 'model'], 'Unloads of it while the pool went on.'),
  troupe_model_hits_total: counter(['pool', 'model'], 'Batches that found it loaded.'),
  // pools that keep their answers
  troupe_cache_records: gauge(['pool'], 'Answers that a pool with a cache holds.'),
  troupe_cache_bytes: gauge(['pool'], 'Bytes that they take, with what they are found by.'),
  troupe_cache_limit_bytes: gauge(['pool'], 'Bytes they may take: cache.maxBytes.'),
  troupe_cache_hits_total: counter(['pool'], 'Records answered from the cache; among the results.'),
  troupe_cache_misses_total: counter(['pool'], 'Records looked for in vain, which went to a replica.'),
  troupe_cache_bypassed_total: counter(
    ['pool'],
    'Records not looked for: with a key, told, no plain data, or while a version is on trial.',
  ),
  troupe_cache_evictions_total: counter(
    ['pool', 'reason'],
    'Answers that went. reason: room (for others), ttl (found too old).',
  ),
  // pipelines
  troupe_pipelines_running: gauge(['pipeline'], 'Runs of the pipeline that are under way.'),
  troupe_pipeline_records_total: counter(
    ['pipeline', 'outcome'],
    'Records that have left the pipeline. outcome: result, failed, dead-letter, filtered.',
  ),
  troupe_pipeline_held_records: gauge(['pipeline'], 'Records inside the pipeline.'),
  troupe_pipeline_fallbacks_total: counter(
    ['pipeline'],
    'Results given in the place of an actor; among outcome result.',
  ),
  troupe_pipeline_errors_total: counter(['pipeline', 'code'], 'Records that failed, by the code of their error.'),
  troupe_pipeline_latency_seconds: histogram(['pipeline'], 'From the read of a record to its hand-over at the end.'),
  troupe_checkpoints_total: counter(['pipeline', 'outcome'], 'Checkpoints. outcome: written, failed.'),
  // steps of pipelines
  troupe_step_records_in_pool: gauge(STEP, 'Records of the step that are with its pool.'),
  troupe_step_retries_total: counter(STEP, 'Tries beyond the first, of single records.'),
  troupe_step_retry_refusals_total: counter(STEP, 'Retries the retry budget refused.'),
  troupe_step_timeouts_total: counter(STEP, 'Tries that ran out of time, and records that expired while they waited.'),
  troupe_step_breaker_refusals_total: counter(STEP, 'Records the breaker of the step refused.'),
  troupe_step_breaker_state: gauge([...STEP, 'state'], '1 for the state of the breaker of the step, 0 for the others.'),
  // the process
  troupe_event_loop_delay_seconds: histogram([], 'How much too late a timer fires that is due every 50 ms.'),
  troupe_resident_bytes: gauge([], 'Resident memory of this process: the host, and replicas in threads.'),
  troupe_served_requests_total: counter(
    ['pool', 'outcome'],
    'Inference requests of clients over HTTP and gRPC. outcome: ok, invalid (their mistake), unavailable (to be tried again), late, failed, gone (the client left).',
  ),
  troupe_cpu_seconds_total: counter([], 'CPU time of this process.'),
  troupe_refused_requests_total: counter(
    ['listener', 'reason'],
    'Requests and connections that were refused or ended. listener: metrics, serve, lane, control. reason: token, scope, host, origin, mark, path, method, body, busy, unread, closing; of control and lane token, protocol, frame, busy, silent, unread.',
  ),
  troupe_series_overflow: gauge(
    [],
    'Samples without a series of their own, because there are too many; they are in those labelled _other.',
  ),
  // the ten figures of Flink's AsyncBatch operator (FLINK-38825) under its names, of the steps of pipelines
  async_batch_batchSize: histogram(STEP, 'Records in a batch.', SIZES),
  async_batch_batchLatencyMs: histogram(STEP, 'From the acceptance of the oldest record of a batch to the send.'),
  async_batch_asyncCallDurationMs: histogram(STEP, 'From the send of a batch to its answer.'),
  async_batch_inflightBatches: gauge(STEP, 'Batches that are with replicas of the pool.'),
  async_batch_totalBatchesProcessed: counter(STEP, 'Batches that have ended.'),
  async_batch_totalRecordsProcessed: counter(STEP, 'Records the step got an outcome for.'),
  async_batch_asyncCallFailures: counter(STEP, 'Batches that failed as a whole, or whose replica ended.'),
  async_batch_pendingOrderedBatches: gauge(STEP, 'Batches that have ended and wait for an earlier one.'),
  async_batch_batchRetryCount: counter(STEP, 'Batches sent to try records again.'),
  async_batch_batchTimeoutCount: counter(STEP, 'Batches in which time ran out while they ran.'),
  // the names of Triton, so that what watches it watches this; model is the pool
  nv_inference_request_success: counter(MODEL, 'Records that got a result.'),
  nv_inference_request_failure: counter(
    [...MODEL, 'reason'],
    'Records that got none. reason: REJECTED (refused, dropped, too late), CANCELED, BACKEND (actor or model), OTHER.',
  ),
  nv_inference_count: counter(MODEL, 'Records inferred, without those that the cache answered.'),
  nv_inference_exec_count: counter(MODEL, 'Batches executed.'),
  nv_inference_pending_request_count: gauge(MODEL, 'Records that wait for a replica.'),
  nv_inference_request_duration_us: counter(MODEL, 'Microseconds from acceptance to result, of all records together.'),
  nv_inference_queue_duration_us: counter(MODEL, 'Microseconds of it before the send.'),
  nv_inference_compute_infer_duration_us: counter(
    MODEL,
    'Microseconds of it after the send, moving the data included.',
  ),
  nv_cache_num_hits_per_model: counter(MODEL, 'Records that the cache answered.'),
  nv_cache_num_misses_per_model: counter(MODEL, 'Records that the cache was asked for in vain.'),
  nv_cache_hit_duration_per_model: counter(MODEL, 'Microseconds to find and to copy the answers to its hits.'),
  nv_cache_miss_duration_per_model: counter(MODEL, 'Microseconds to look for its misses and to keep their answers.'),
  nv_cpu_utilization: gauge(
    [],
    'Part of the CPUs of the machine that was busy since the scrape before, or since it started, from 0 to 1.',
  ),
  nv_cpu_memory_total_bytes: gauge([], 'Memory of the machine.'),
  nv_cpu_memory_used_bytes: gauge([], 'Memory of the machine that is not available.'),
} as const satisfies Record<string, Family>;

export type FamilyName = keyof typeof FAMILIES;
/** Of one family: a value for each of its labels, in any order. */
export type LabelsOf<Name extends FamilyName> = Readonly<Record<(typeof FAMILIES)[Name]['labels'][number], string>>;

/** Those that are told of one model, and have its tags. */
export type TaggedName = Extract<FamilyName, `nv_${'inference' | 'cache'}_${string}`>;

/** The same table without its exact types, for those who go through it. */
export const FAMILY_TABLE: Readonly<Record<FamilyName, Family>> = FAMILIES;

/** Those whose names others gave; ours keep the naming rules of Prometheus. */
export function isAlias(name: string): boolean {
  return name.startsWith('async_batch_') || name.startsWith('nv_');
}
