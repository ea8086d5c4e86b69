import type { Clock } from '../kernel/clock.js';
import type { ScalingLimits } from '../core/autoscaler.js';
import type { PoolLimits } from '../core/pool-limits.js';
import type { Random } from '../kernel/random.js';
import { cpuCount } from '../host/cpus.js';
import type { StartLink } from '../host/link.js';
import type { ModelRepository } from '../models/repository.js';
import type { Log } from '../telemetry/log.js';
import type { MetricsRegistry } from '../telemetry/registry.js';
import type { Tracing } from '../telemetry/tracing.js';
import type { ActorDefinition, Isolation } from '../wire/definition.js';
import type { Ensembles } from './ensembles.js';
import type { ResolvedPoolOptions } from './pool-options.js';

/** What a pool is made of: what it was spawned with, and what it is given of the world around it. */

/** Everything a pool needs that a test may want to replace. */
export interface PoolParts {
  readonly startLink: StartLink;
  readonly log: Log;
  readonly metrics?: MetricsRegistry;
  readonly tracing?: Tracing | undefined;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Where models are looked for. Default: one without roots, for models given by their paths. */
  readonly models?: ModelRepository;
}

export interface PoolSpec<In> {
  readonly name: string;
  readonly options: ResolvedPoolOptions;
  readonly actor: string | ActorDefinition<any, any, any>;
  readonly isolation: Isolation;
  /** Weight of one record, for batching.maxWeight. Default 1 each. */
  readonly weigh: ((input: In) => number) | undefined;
  /** `metric_tags` of its model's config.pbtxt, as it was read when the pool was spawned. */
  readonly metricTags?: Readonly<Record<string, string>> | undefined;
  /** Where the actor is an ensemble: those of its system. */
  readonly ensembles?: Ensembles;
}

/** What of the options is the core's business. */
export function limitsOf<In>({ name, options }: PoolSpec<In>): PoolLimits {
  const { mailbox, batching, restart, batchTimeoutMs, attempts, cancellation, models, loadTimeoutMs } = options;
  const { replicas } = options;
  const { maxWaitMs = Infinity } = mailbox;
  return {
    name,
    mailbox: {
      capacity: mailbox.capacity,
      capacityBytes: mailbox.capacityBytes,
      ageingMs: mailbox.ageingMs,
      maxWaitMs,
    },
    batching: {
      adaptive: batching.adaptive,
      maxSize: batching.maxSize,
      maxBytes: batching.maxBytes,
      maxWeight: batching.maxWeight ?? Infinity,
      // What is held back for company must be sent before it has waited too long.
      maxDelayMs: Math.min(batching.maxDelayMs, maxWaitMs / 2),
      targetLatencyMs: batching.targetLatencyMs ?? Infinity,
    },
    maxInFlight: batching.maxInFlight,
    maxStreams: batching.maxStreams,
    batchTimeoutMs,
    attempts,
    cancellation,
    restart,
    restartType: restart.type,
    strategy: restart.strategy,
    scaling: typeof replicas === 'number' ? undefined : scalingOf(replicas),
    models:
      models === undefined ? undefined : { maxBytes: models.maxBytes, ttlMs: models.ttlMs ?? Infinity, loadTimeoutMs },
  };
}

/** Without `max` as many as there are CPUs to use: more would only take them from each other. */
function scalingOf(replicas: Exclude<ResolvedPoolOptions['replicas'], number>): ScalingLimits {
  return { ...replicas, max: replicas.max ?? Math.max(1, replicas.min, cpuCount()) };
}
