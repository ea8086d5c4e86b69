import type { Overflow } from '../core/mailbox.js';
import type { PoolLimits } from '../core/pool-core.js';
import type { RestartType, Strategy } from '../core/supervisor.js';
import { FAULT_KINDS, type FaultRates, noFaults, USUAL_RATES } from './faults.js';
import { between, forkRandom, pick, whole } from './seeds.js';

/** Everything that decides a run, besides the code: plain data, printed in full with --verbose. */
export interface Scenario {
  readonly seed: number;
  readonly replicas: number;
  readonly limits: PoolLimits;
  readonly overflow: Overflow;
  readonly repeatable: boolean;
  // clients
  /** Records offered over the whole run. */
  readonly records: number;
  readonly askers: number;
  readonly operators: number;
  /** Records an operator holds at most: offered and not yet consumed. */
  readonly operatorCapacity: number;
  readonly ordered: boolean;
  readonly priorities: number;
  readonly buckets: number;
  readonly recordBytes: readonly [number, number];
  readonly gapMs: number;
  readonly burst: number;
  /** 0: none. */
  readonly timeoutMs: number;
  readonly consumeMs: number;
  // replicas
  readonly costMs: number;
  readonly costPerRecordMs: number;
  readonly loadMs: number;
  readonly loadTimeoutMs: number;
  readonly stopTimeoutMs: number;
  /** Time between the end of a process and the host hearing of it, up to. */
  readonly exitDelayMs: number;
  // transport
  readonly netMs: readonly [number, number];
  /** Instants are multiples of this, 0 for any; a coarse clock makes many things happen at once. */
  readonly quantumMs: number;
  /** Buffers cross by transfer instead of copy; the link must keep the caller's whole. */
  readonly transfer: boolean;
  // operations
  readonly safetyMs: number;
  readonly disturbEveryMs: number;
  readonly swaps: number;
  readonly scales: number;
  /** How often a supervisor holds the whole pool, and lets it go again after a while. */
  readonly holds: number;
  /** Drained, or stopped at once, in mid-run; 0: not before the end. */
  readonly drainAtMs: number;
  readonly stopAtMs: number;
  /** A pool that failed is restarted after this long; 0: never. */
  readonly reviveMs: number;
  readonly faults: Readonly<FaultRates>;
}

const STRATEGIES: readonly Strategy[] = ['one-for-one', 'one-for-one', 'one-for-one', 'rest-for-one', 'one-for-all'];
const TYPES: readonly RestartType[] = ['permanent', 'permanent', 'permanent', 'transient', 'temporary'];
const OVERFLOWS: readonly Overflow[] = ['reject', 'wait', 'drop-oldest', 'drop-newest'];

/** The swarm: what a seed runs. Ranges are wide on purpose, corners more likely than the middle. */
export function swarmScenario(seed: number): Scenario {
  const random = forkRandom(seed, 0);
  const maxSize = pick(random, [1, 1, 2, 3, 4, 7, 8, 16, 32, 64]);
  const capacity = pick(random, [1, 2, 3, 5, 8, 16, 32, 64]);
  const records = whole(random, 75, 240);
  const gapMs = pick(random, [0.5, 1, 2, 5]);
  const costMs = pick(random, [0.1, 1, 5, 20]);
  const timed = random() < 0.5;
  const safetyMs = 1 + records * gapMs * between(random, 0.7, 1.5);
  const bytesHigh = pick(random, [1, 100, 1000]);
  return {
    seed,
    replicas: pick(random, [1, 1, 2, 2, 3, 4, 6, 8]),
    limits: {
      name: 'sim',
      mailbox: {
        capacity,
        capacityBytes: random() < 0.3 ? Math.ceil(capacity * bytesHigh * between(random, 0.3, 0.9)) : 64_000_000,
        ageingMs: pick(random, [0, 5, 50, 1000]),
      },
      batching: {
        maxSize,
        maxBytes: random() < 0.2 ? Math.ceil(bytesHigh * between(random, 0.5, 8)) : 16_000_000,
        maxWeight: random() < 0.2 ? whole(random, 1, 40) : Infinity,
        maxDelayMs: random() < 0.6 ? 0 : pick(random, [0.5, 2, 10, 50]),
        targetLatencyMs: random() < 0.7 ? Infinity : between(random, 5, 100),
      },
      maxInFlight: whole(random, 1, 2),
      batchTimeoutMs: pick(random, [50, 200, 1000]) + 12 * costMs,
      attempts: pick(random, [1, 2, 3, 5, 5]),
      // A chance of its own: a seed runs what it ran before there was the choice.
      cancellation: pick(forkRandom(seed, 2), ['signal', 'signal', 'replace'] as const),
      restart: {
        max: pick(random, [0, 1, 3, 5, 20, 50]),
        withinMs: pick(random, [50, 500, 60_000]),
        backoffMs: pick(random, [1, 10, 100]),
        maxBackoffMs: pick(random, [10, 500, 2000]),
        jitter: pick(random, [0, 0.2, 1]),
        quarantineMax: pick(random, [0, 1, 5, 20]),
      },
      restartType: pick(random, TYPES),
      strategy: pick(random, STRATEGIES),
    },
    overflow: pick(random, OVERFLOWS),
    repeatable: random() < 0.85,
    records,
    askers: whole(random, 0, 3),
    operators: whole(random, 1, 3),
    operatorCapacity: pick(random, [1, 4, 16, 64, 256]),
    ordered: random() < 0.6,
    priorities: pick(random, [1, 1, 2, 4]),
    buckets: pick(random, [1, 1, 1, 2, 3]),
    recordBytes: [1, bytesHigh],
    gapMs,
    burst: pick(random, [1, 1, 4, 32]),
    timeoutMs: timed ? pick(random, [5, 30, 200, 2000]) : 0,
    consumeMs: between(random, 0.1, 3) * gapMs,
    costMs,
    costPerRecordMs: pick(random, [0, 0.1, 0.5]),
    loadMs: pick(random, [1, 10, 50]),
    loadTimeoutMs: 600,
    stopTimeoutMs: pick(random, [20, 200]),
    exitDelayMs: pick(random, [0, 1, 10]),
    netMs: pick(random, [
      [0, 0],
      [0.1, 0.3],
      [0.1, 5],
    ] as const),
    quantumMs: pick(random, [0, 1, 1]),
    transfer: random() < 0.5,
    safetyMs,
    disturbEveryMs: safetyMs / whole(random, 2, 12),
    swaps: random() < 0.4 ? whole(random, 1, 3) : 0,
    scales: random() < 0.3 ? whole(random, 1, 4) : 0,
    holds: random() < 0.15 ? whole(random, 1, 2) : 0,
    drainAtMs: random() < 0.15 ? random() * safetyMs : 0,
    stopAtMs: random() < 0.1 ? random() * safetyMs : 0,
    reviveMs: random() < 0.5 ? between(random, 1, 100) : 0,
    faults: swarmFaults(seed),
  };
}

/** Half the seeds use every kind at its usual rate, the other half a random few at a high one. */
function swarmFaults(seed: number): FaultRates {
  const random = forkRandom(seed, 1);
  const faults = noFaults();
  const few = random() < 0.5;
  const share = few ? between(random, 0.05, 0.25) : 0.7;
  const times = few ? between(random, 2, 6) : 1;
  for (const kind of FAULT_KINDS) {
    const range = USUAL_RATES[kind];
    const rate = between(random, range[0], range[1]) * times;
    if (random() < share) faults[kind] = Math.min(kind === 'slow-consumer' ? 1 : 0.8, rate);
  }
  return faults;
}
