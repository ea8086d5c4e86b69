import type { BreakerLimits } from '../../core/breaker.js';
import type { Order } from '../../core/emission.js';
import type { RetryBudgetLimits } from '../../core/retry-budget.js';
import type { RetryLimits } from '../../core/retry-policy.js';
import type { SourceKind } from '../../stream/tracking.js';
import { between, Chance, pick, whole } from '../seeds.js';
import { noStreamFaults, STREAM_FAULT_KINDS, type StreamFaultRates, USUAL_STREAM_RATES } from './faults.js';

export type SimStep = 'map' | 'filter' | 'flatMap' | 'infer';

/**
 * file: prepare syncs and gives a length, resume cuts back to it. staged: prepare puts a durable transaction aside,
 * commit makes it seen. idempotent: an upsert by id. plain: what is written stays written.
 */
export type SimSinkKind = 'file' | 'staged' | 'idempotent' | 'plain';

/** What may differ from one run of a stream to the next: a restart may bring another configuration. */
export interface StreamShape {
  readonly operatorCapacity: number;
  readonly poolCapacity: number;
  readonly batchMax: number;
  readonly replicas: number;
}

/** Everything that decides a run, besides the code: plain data, printed in full with --verbose. */
export interface StreamScenario {
  readonly seed: number;
  readonly records: number;
  readonly source: SourceKind;
  readonly sink: SimSinkKind;
  readonly hasCheckpoints: boolean;
  readonly onFailure: 'stop' | 'continue';
  readonly intervalMs: number;
  /** On-demand checkpoints asked for, all in all. */
  readonly requests: number;
  readonly steps: readonly SimStep[];
  /** Most records a pull carries. */
  readonly chunkSize: number;
  /** A control element after every so many records; 0 for none. */
  readonly controlEvery: number;
  /** Share of records that a filter refuses. */
  readonly filterShare: number;
  /** A flatMap gives 0 to this many children. */
  readonly childrenMax: number;

  readonly order: Order;
  /** Keys of order keyed. */
  readonly keys: number;
  /** One for each run; the last one serves all further ones. */
  readonly shapes: readonly StreamShape[];
  /** 0 for none. */
  readonly timeoutMs: number;
  readonly timeoutMode: 'element' | 'batch';
  /** `retryIf` is not part of it, so that a scenario stays plain data. */
  readonly retry: Omit<RetryLimits, 'retryIf'> | undefined;
  readonly retryBudget: RetryBudgetLimits;
  readonly breaker: BreakerLimits | undefined;
  readonly fallback: 'none' | 'function' | 'pool';

  /** A small model of a pool, or the real pool core. */
  readonly pool: 'model' | 'core';
  /** How long a partial batch waits for company; Infinity: until it is flushed. */
  readonly maxDelayMs: number;
  readonly costMs: number;
  readonly batchTimeoutMs: number;

  /** Upper ends; what is drawn lies between 0 and them. 0 means at once. */
  readonly readMs: number;
  readonly writeMs: number;
  readonly prepareMs: number;
  readonly saveMs: number;
  readonly commitMs: number;
  readonly acknowledgeMs: number;
  /** From the end of a run to the next one. */
  readonly restartMs: number;

  /** Length of the safety phase. */
  readonly safetyMs: number;
  /** Planned ends of runs, planned disturbances: how many tries. */
  readonly ends: number;
  readonly disturbances: number;
  /** Instants are multiples of it, so that things coincide; 0 for none. */
  readonly quantumMs: number;
  readonly faults: StreamFaultRates;
}

const SOURCES: readonly SourceKind[] = ['replayable', 'replayable', 'acknowledging', 'neither'];
const SINKS: readonly SimSinkKind[] = ['file', 'file', 'staged', 'staged', 'idempotent', 'plain'];
const SINKS_WITHOUT_IDS: readonly SimSinkKind[] = ['file', 'staged', 'plain'];
const STEPS: readonly (readonly SimStep[])[] = [
  ['infer'],
  ['map', 'infer'],
  ['filter', 'infer', 'map'],
  ['flatMap', 'infer'],
  ['infer', 'flatMap'],
  ['infer', 'filter'],
  ['map', 'infer', 'flatMap', 'filter'],
  ['flatMap', 'filter', 'infer', 'flatMap'],
  ['infer', 'infer'],
  ['infer', 'flatMap', 'infer'],
];
const ORDERS: readonly Order[] = ['ordered', 'unordered', 'keyed'];

/** The swarm of streams: what a seed runs. */
export function streamScenario(seed: number): StreamScenario {
  const chance = new Chance(seed, 10);
  const source = pick(chance, SOURCES);
  const hasCheckpoints = source !== 'acknowledging' || chance.next() < 0.7;
  const records = whole(chance, 10, 60);
  const costMs = pick(chance, [0.2, 2, 10]);
  const safetyMs = records * between(chance, 0.3, 2) * (0.5 + costMs / 4) + 5;
  const isTimed = chance.next() < 0.5;
  const faults = swarmFaults(seed);
  return {
    seed,
    records,
    source,
    // Without checkpoints a record that comes again comes under another id, and another record under its own.
    sink: pick(chance, hasCheckpoints ? SINKS : SINKS_WITHOUT_IDS),
    hasCheckpoints,
    onFailure: chance.next() < 0.5 ? 'stop' : 'continue',
    intervalMs: safetyMs / whole(chance, 2, 12),
    requests: chance.next() < 0.3 ? whole(chance, 1, 3) : 0,
    steps: pick(chance, STEPS),
    chunkSize: pick(chance, [1, 2, 4, 8, 16]),
    controlEvery: chance.next() < 0.4 ? whole(chance, 1, 12) : 0,
    filterShare: pick(chance, [0.1, 0.5, 0.9]),
    childrenMax: pick(chance, [1, 2, 4]),
    order: pick(chance, ORDERS),
    keys: pick(chance, [1, 2, 5]),
    shapes: [shape(chance), shape(chance), shape(chance)],
    timeoutMs: isTimed ? costMs * pick(chance, [1, 3, 10, 50]) : 0,
    timeoutMode: chance.next() < 0.7 ? 'element' : 'batch',
    retry: chance.next() < 0.7 ? retry(chance) : undefined,
    retryBudget: {
      share: pick(chance, [0, 0.1, 0.5, Infinity, Infinity]),
      floor: pick(chance, [0, 2, 10]),
      windowMs: pick(chance, [20, 1000]),
    },
    breaker:
      chance.next() < 0.4
        ? {
            windowMs: pick(chance, [20, 200]),
            minCalls: pick(chance, [1, 3, 10]),
            failureRate: pick(chance, [0.2, 0.5, 1]),
            openMs: pick(chance, [2, 20, 100]),
            probes: pick(chance, [1, 1, 2]),
          }
        : undefined,
    fallback: pick(chance, ['none', 'none', 'function', 'pool'] as const),
    pool: new Chance(seed, 15).next() < 0.5 ? 'core' : 'model',
    maxDelayMs: pick(chance, [0, 1, 10, Infinity]),
    costMs,
    batchTimeoutMs: costMs * pick(chance, [3, 20]),
    readMs: pick(chance, [0, 0, 1, 5]),
    writeMs: pick(chance, [0, 0, 1, 5]),
    prepareMs: pick(chance, [0, 0.5, 5]),
    saveMs: pick(chance, [0, 2, 20]),
    commitMs: pick(chance, [0, 0.5, 5]),
    acknowledgeMs: pick(chance, [0, 0.5, 5]),
    restartMs: pick(chance, [0, 1, 50]),
    safetyMs,
    ends: whole(chance, 0, 4),
    disturbances: whole(chance, 0, 2),
    quantumMs: pick(chance, [0, 1, 1]),
    // What was acknowledged after the checkpoint that is left does not come again: nothing is promised then.
    faults: source === 'acknowledging' ? { ...faults, corrupt: 0 } : faults,
  };
}

function shape(chance: Chance): StreamShape {
  return {
    operatorCapacity: pick(chance, [1, 2, 5, 16, 32]),
    poolCapacity: pick(chance, [1, 3, 8, 32]),
    batchMax: pick(chance, [1, 2, 4, 8, 16]),
    replicas: pick(chance, [1, 1, 2, 4]),
  };
}

function retry(chance: Chance): NonNullable<StreamScenario['retry']> {
  return {
    attempts: pick(chance, [1, 2, 3, 5]),
    backoffMs: pick(chance, [0, 1, 10]),
    maxBackoffMs: pick(chance, [5, 40]),
    multiplier: pick(chance, [1, 2]),
    jitter: pick(chance, [0, 0.5, 1]),
    rules:
      chance.next() < 0.5
        ? {}
        : {
            PREDICT_FAILED: chance.next() < 0.5 ? {} : { attempts: 2, backoffMs: 3 },
            ACTOR_OOM: 'never',
          },
  };
}

/** Half the seeds use most kinds at their usual rate, the other half a random few at a high one. */
function swarmFaults(seed: number): StreamFaultRates {
  const chance = new Chance(seed, 11);
  const faults = noStreamFaults();
  const few = chance.next() < 0.5;
  const share = few ? between(chance, 0.05, 0.25) : 0.6;
  const times = few ? between(chance, 2, 5) : 1;
  for (const kind of STREAM_FAULT_KINDS) {
    const range = USUAL_STREAM_RATES[kind];
    const rate = Math.min(0.9, between(chance, range[0], range[1]) * times);
    // Ends are the subject: they strike in most seeds.
    if (chance.next() < (kind === 'kill' ? 0.7 : share)) faults[kind] = rate;
  }
  return faults;
}
