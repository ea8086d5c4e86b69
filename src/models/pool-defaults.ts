import { maxWaitMsOf } from './dynamic-batching.js';
import { instancesOf, isForCpu, type ModelConfigFile } from './model-config.js';
import type { ModelConfig } from './model-config-fields.js';
import type { TextPosition } from './text-proto.js';

/** A pool's option that its model's config.pbtxt decides where the user says nothing. */
export interface PoolDefault {
  /** Path in the options of `spawn`: `['batching', 'maxSize']`. */
  readonly path: readonly [string, ...string[]];
  readonly value: number | boolean | string;
  readonly file: string;
  readonly at: TextPosition;
}

/** The most that `batching.maxSize` takes, and the durations; and the least of a wait. */
const SIZE_MAX = 65_536;
const DELAY_MAX_MS = 2 ** 40;
const WAIT_LEAST_MS = 1;
const REPLICAS_MAX = 1024;

type Say = (path: PoolDefault['path'], value: PoolDefault['value'], field: string) => void;

/**
 * `max_batch_size` and the largest of `preferred_batch_size` bound the batches, `max_queue_delay_microseconds` is how long
 * a record waits for company, the counts of `instance_group` make the replicas, and where
 * all are for the CPU that is the device. A `max_batch_size` of 0 says that the model
 * takes one record at a time. `default_queue_policy` bounds the mailbox and the wait in it, and levels of priority are those
 * that clients may name. `response_cache` says whether the pool keeps its answers; in an ensemble it says nothing, as the
 * steps change their versions without it.
 */
export function poolDefaults({ config, places, file }: ModelConfigFile): readonly PoolDefault[] {
  const defaults: PoolDefault[] = [];
  const say: Say = (path, value, field) => {
    defaults.push({ path, value, file, at: places.get(field) ?? { line: 1, col: 1 } });
  };
  const { max_batch_size: maxBatch, dynamic_batching: batching, response_cache: cache } = config;
  const preferred = batching?.preferred_batch_size ?? [];
  if (preferred.length > 0) {
    // As arguments of one call they could be too many.
    const largest = preferred.reduce((most, size) => Math.max(most, size));
    say(['batching', 'maxSize'], Math.min(SIZE_MAX, largest), 'dynamic_batching.preferred_batch_size');
  } else if (maxBatch !== undefined) {
    say(['batching', 'maxSize'], Math.min(SIZE_MAX, Math.max(1, maxBatch)), 'max_batch_size');
  }
  const delay = batching?.max_queue_delay_microseconds;
  if (delay !== undefined)
    say(
      ['batching', 'maxDelayMs'],
      Math.min(DELAY_MAX_MS, delay / 1000),
      'dynamic_batching.max_queue_delay_microseconds',
    );
  if (batching !== undefined) sayOfQueue(batching, say);
  if (config.ensemble_scheduling !== undefined) sayOfEnsemble(config, defaults, say);
  const count = instancesOf(config);
  if (count > 0) say(['replicas'], count, 'instance_group');
  if (isForCpu(config)) say(['device'], 'cpu', 'instance_group.kind');
  if (cache?.enable !== undefined && config.ensemble_scheduling === undefined)
    say(['cache'], cache.enable, 'response_cache.enable');
  return defaults;
}

function sayOfQueue(batching: NonNullable<ModelConfig['dynamic_batching']>, say: Say): void {
  const { max_queue_size: capacity = 0 } = batching.default_queue_policy ?? {};
  if (capacity > 0) say(['mailbox', 'capacity'], capacity, 'dynamic_batching.default_queue_policy.max_queue_size');
  const waitMs = maxWaitMsOf(batching);
  if (waitMs !== undefined)
    say(
      ['mailbox', 'maxWaitMs'],
      Math.min(DELAY_MAX_MS, Math.max(WAIT_LEAST_MS, waitMs)),
      'dynamic_batching.default_queue_policy.default_timeout_microseconds',
    );
  const { priority_levels: levels = 0, default_priority_level: normal = 0 } = batching;
  if (levels > 0) {
    say(['mailbox', 'priorityLevels'], levels, 'dynamic_batching.priority_levels');
    say(['mailbox', 'defaultPriorityLevel'], normal, 'dynamic_batching.default_priority_level');
  }
}

/** Batches of an ensemble that are under way at the same time: each only waits, and while it is in one step others are in others. */
const ENSEMBLE_REPLICAS = 8;
/** The pools of the steps find out what hangs; here a batch may wait for them as long as they are busy. */
const ENSEMBLE_BATCH_TIMEOUT_MS = 86_400_000;
/** As the schema of a pool has it. */
const SIZE_DEFAULT = 32;

/** `max_inflight_requests` is how many records may be in its steps: as many replicas, times as large batches, at most. */
function sayOfEnsemble(config: ModelConfig, defaults: PoolDefault[], say: Say): void {
  const field = 'ensemble_scheduling';
  say(['batchTimeoutMs'], ENSEMBLE_BATCH_TIMEOUT_MS, field);
  const most = config.ensemble_scheduling?.max_inflight_requests ?? 0;
  if (most === 0) {
    say(['replicas'], ENSEMBLE_REPLICAS, field);
    return;
  }
  const at = defaults.findIndex(({ path }) => path.join('.') === 'batching.maxSize');
  const wanted = Number(defaults[at]?.value ?? SIZE_DEFAULT);
  const size = Math.min(most, wanted);
  if (size < wanted) {
    if (at !== -1) defaults.splice(at, 1);
    say(['batching', 'maxSize'], size, `${field}.max_inflight_requests`);
  }
  say(['replicas'], Math.min(REPLICAS_MAX, Math.floor(most / size)), `${field}.max_inflight_requests`);
}

/** The options with what `defaults` say where they say nothing. What is no map is left for the schema to refuse. */
export function withPoolDefaults<Options extends Readonly<Record<string, unknown>>>(
  options: Options,
  defaults: readonly PoolDefault[],
): Options {
  let filled = options;
  for (const { path, value } of defaults) filled = withDefault(filled, path, value) as Options;
  return filled;
}

function withDefault(value: unknown, [key, ...rest]: readonly string[], leaf: PoolDefault['value']): unknown {
  if (key === undefined) return value === undefined ? leaf : value;
  if (value !== undefined && (typeof value !== 'object' || value === null || Array.isArray(value))) return value;
  const map = (value ?? {}) as Readonly<Record<string, unknown>>;
  return { ...map, [key]: withDefault(map[key], rest, leaf) };
}
