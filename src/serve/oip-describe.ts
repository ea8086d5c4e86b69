/**
 * What the server tells of itself and its models, in the words of the Open Inference Protocol and of Triton's extensions to
 * it. Plain data, to be sent as JSON; 64-bit fields are numbers there.
 */
import type { System } from '../actor/system.js';
import { ENSEMBLE_PLATFORM } from '../models/ensemble.js';
import type { TensorSpec } from '../wire/tensor.js';
import { datatypeOf } from './oip-datatype.js';
import { allModels, PLAIN_VERSION, type ServedModel, signatureOf } from './served-models.js';
import type { ServedMeter } from './served-meter.js';
import { TEXT_OPTIONAL, TEXT_SIGNATURE } from './text-model.js';

const PLATFORM = 'troupe_actor';
const PLAIN_BATCHING = { max_queue_delay_microseconds: 0, preserve_ordering: false };
/** What works, and nothing else: clients go by it. */
const EXTENSIONS = [
  'classification',
  'model_repository',
  'model_configuration',
  'binary_tensor_data',
  'parameters',
  'statistics',
];

export function serverMetadata(version: string): unknown {
  return { name: 'troupe', version, extensions: EXTENSIONS };
}

export async function modelMetadata(served: ServedModel): Promise<unknown> {
  const { inputs = [], outputs = [], decoupled = false } = (await signatureOf(served)) ?? {};
  const tensor = ({ name, dtype, shape }: TensorSpec): unknown => {
    return { name, datatype: datatypeOf(dtype).name, shape: decoupled ? shape : [-1, ...shape] };
  };
  return {
    name: served.name,
    versions: [versionOf(served)],
    platform: platformOf(served),
    inputs: inputs.map(tensor),
    outputs: outputs.map(tensor),
  };
}

function platformOf({ pool }: ServedModel): string {
  return pool.ensemble === undefined ? PLATFORM : ENSEMBLE_PLATFORM;
}

/** As Triton would print it: an ensemble, a model with dynamic batching, or, where a request is one record, one without batches. */
export async function modelConfig(served: ServedModel): Promise<unknown> {
  const signature = await signatureOf(served);
  const { inputs = [], outputs = [], decoupled = false } = signature ?? {};
  const { ensemble } = served.pool;
  const { stats, maxBatchSize } = served.pool.meters();
  const batching = decoupled ? {} : { dynamic_batching: { preferred_batch_size: [maxBatchSize], ...PLAIN_BATCHING } };
  const instances = [{ name: `${served.name}_0`, kind: 'KIND_CPU', count: stats.wanted }];
  const scheduling =
    ensemble === undefined ? { instance_group: instances, ...batching } : { ensemble_scheduling: ensemble };
  const tensor = ({ name, dtype, shape }: TensorSpec): object => {
    return { name, data_type: datatypeOf(dtype).configName, dims: shape };
  };
  return {
    name: served.name,
    platform: platformOf(served),
    backend: ensemble === undefined ? 'troupe' : '',
    version_policy: { latest: { num_versions: 1 } },
    max_batch_size: decoupled ? 0 : maxBatchSize,
    input: inputs.map((spec) => ({
      ...tensor(spec),
      optional: signature === TEXT_SIGNATURE && TEXT_OPTIONAL.has(spec.name),
    })),
    output: outputs.map(tensor),
    ...scheduling,
    model_transaction_policy: { decoupled },
    response_cache: { enable: stats.cache !== undefined },
  };
}

/** Of every model, or of one. */
export function statistics(models: readonly ServedModel[], meter: ServedMeter): unknown {
  return { model_stats: models.map((served) => modelStatistics(served, meter)) };
}

/** Every key of inference_stats is there: a widespread tool reads them unchecked. */
function modelStatistics(served: ServedModel, meter: ServedMeter): unknown {
  const counts = meter.of(served.name);
  const { stats, latencyMs, queueWaitMs, cache } = served.pool.meters();
  // Of one model among many the pool keeps no times.
  const isWhole = served.model === undefined;
  const records = isWhole ? stats.results : counts.records;
  const queueMs = isWhole ? queueWaitMs.sum : 0;
  const kept = served.model === undefined ? cache?.total : cache?.of(served.name);
  const { hits = 0, hitMs = 0, misses = 0, missMs = 0 } = kept ?? {};
  // Of one model among many, askers of other ways may have hit too.
  const ran = Math.max(0, records - hits);
  return {
    name: served.name,
    version: versionOf(served),
    last_inference: counts.lastAt,
    inference_count: ran,
    execution_count: isWhole ? stats.asyncBatch.totalBatchesProcessed : 0,
    inference_stats: {
      success: { count: counts.success, ns: nanoseconds(counts.successMs) },
      fail: { count: counts.fail, ns: nanoseconds(counts.failMs) },
      queue: { count: records, ns: nanoseconds(queueMs) },
      // They have no times of their own, and as many as there were runs: perf_analyzer ends itself at another count.
      compute_input: { count: ran, ns: 0 },
      compute_infer: { count: ran, ns: isWhole ? nanoseconds(latencyMs.sum - queueMs) : 0 },
      compute_output: { count: ran, ns: 0 },
      cache_hit: { count: hits, ns: nanoseconds(hitMs) },
      cache_miss: { count: misses, ns: nanoseconds(missMs) },
    },
    response_stats: {},
    batch_stats: [],
    memory_usage: [],
  };
}

/** An array, not an object. With `ready`, those that answer without loading first. */
export function repositoryIndex(system: System, onlyReady: boolean): readonly unknown[] {
  const entries = allModels(system).map((served) => {
    const { pool, name, model } = served;
    const { state, models } = pool.stats();
    if (model === undefined) return { name, version: versionOf(served), ...stateOf(state) };
    const loaded = models?.resident.find((one) => one.model === name && one.state === 'ready');
    if (loaded === undefined) return { name, state: 'UNAVAILABLE', reason: 'not loaded; the first request loads it' };
    return { name, version: loaded.version ?? PLAIN_VERSION, ...stateOf(state) };
  });
  return onlyReady ? entries.filter((entry) => entry.state === 'READY') : entries;
}

function stateOf(state: string): { readonly state: string; readonly reason?: string } {
  if (state === 'running') return { state: 'READY' };
  return state === 'starting' ? { state: 'LOADING' } : { state: 'UNAVAILABLE', reason: state };
}

function versionOf({ pool, model, version, name }: ServedModel): string {
  if (model === undefined) return pool.version ?? PLAIN_VERSION;
  const loaded = pool.stats().models?.resident.find((one) => one.model === name);
  return version ?? loaded?.version ?? PLAIN_VERSION;
}

function nanoseconds(ms: number): number {
  return Math.max(0, Math.round(ms * 1e6));
}
