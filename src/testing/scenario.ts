import type { Overflow } from '../core/mailbox.js';
import type { PoolLimits } from '../core/pool-core.js';
import type { RestartType, Strategy } from '../core/supervisor.js';
import { FAULT_KINDS, type FaultRates, noFaults, USUAL_RATES } from './faults.js';
import { between, Chance, pick, whole } from './seeds.js';

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
  const chance = new Chance(seed, 0);
  const maxSize = pick(chance, [1, 1, 2, 3, 4, 7, 8, 16, 32, 64]);
  const capacity = pick(chance, [1, 2, 3, 5, 8, 16, 32, 64]);
  const records = whole(chance, 75, 240);
  const gapMs = pick(chance, [0.5, 1, 2, 5]);
  const costMs = pick(chance, [0.1, 1, 5, 20]);
  const timed = chance.next() < 0.5;
  const safetyMs = 1 + records * gapMs * between(chance, 0.7, 1.5);
  const bytesHigh = pick(chance, [1, 100, 1000]);
  return {
    seed,
    replicas: pick(chance, [1, 1, 2, 2, 3, 4, 6, 8]),
    limits: {
      name: 'sim',
      mailbox: {
        capacity,
        capacityBytes: chance.next() < 0.3 ? Math.ceil(capacity * bytesHigh * between(chance, 0.3, 0.9)) : 64_000_000,
        ageingMs: pick(chance, [0, 5, 50, 1000]),
      },
      batching: {
        maxSize,
        maxBytes: chance.next() < 0.2 ? Math.ceil(bytesHigh * between(chance, 0.5, 8)) : 16_000_000,
        maxWeight: chance.next() < 0.2 ? whole(chance, 1, 40) : Infinity,
        maxDelayMs: chance.next() < 0.6 ? 0 : pick(chance, [0.5, 2, 10, 50]),
        targetLatencyMs: chance.next() < 0.7 ? Infinity : between(chance, 5, 100),
      },
      maxInFlight: whole(chance, 1, 2),
      batchTimeoutMs: pick(chance, [50, 200, 1000]) + 12 * costMs,
      attempts: pick(chance, [1, 2, 3, 5, 5]),
      // A chance of its own: a seed runs what it ran before there was the choice.
      cancellation: pick(new Chance(seed, 2), ['signal', 'signal', 'replace'] as const),
      restart: {
        max: pick(chance, [0, 1, 3, 5, 20, 50]),
        withinMs: pick(chance, [50, 500, 60_000]),
        backoffMs: pick(chance, [1, 10, 100]),
        maxBackoffMs: pick(chance, [10, 500, 2000]),
        jitter: pick(chance, [0, 0.2, 1]),
        quarantineMax: pick(chance, [0, 1, 5, 20]),
      },
      restartType: pick(chance, TYPES),
      strategy: pick(chance, STRATEGIES),
    },
    overflow: pick(chance, OVERFLOWS),
    repeatable: chance.next() < 0.85,
    records,
    askers: whole(chance, 0, 3),
    operators: whole(chance, 1, 3),
    operatorCapacity: pick(chance, [1, 4, 16, 64, 256]),
    ordered: chance.next() < 0.6,
    priorities: pick(chance, [1, 1, 2, 4]),
    buckets: pick(chance, [1, 1, 1, 2, 3]),
    recordBytes: [1, bytesHigh],
    gapMs,
    burst: pick(chance, [1, 1, 4, 32]),
    timeoutMs: timed ? pick(chance, [5, 30, 200, 2000]) : 0,
    consumeMs: between(chance, 0.1, 3) * gapMs,
    costMs,
    costPerRecordMs: pick(chance, [0, 0.1, 0.5]),
    loadMs: pick(chance, [1, 10, 50]),
    loadTimeoutMs: 600,
    stopTimeoutMs: pick(chance, [20, 200]),
    exitDelayMs: pick(chance, [0, 1, 10]),
    netMs: pick(chance, [
      [0, 0],
      [0.1, 0.3],
      [0.1, 5],
    ] as const),
    quantumMs: pick(chance, [0, 1, 1]),
    transfer: chance.next() < 0.5,
    safetyMs,
    disturbEveryMs: safetyMs / whole(chance, 2, 12),
    swaps: chance.next() < 0.4 ? whole(chance, 1, 3) : 0,
    scales: chance.next() < 0.3 ? whole(chance, 1, 4) : 0,
    holds: chance.next() < 0.15 ? whole(chance, 1, 2) : 0,
    drainAtMs: chance.next() < 0.15 ? chance.next() * safetyMs : 0,
    stopAtMs: chance.next() < 0.1 ? chance.next() * safetyMs : 0,
    reviveMs: chance.next() < 0.5 ? between(chance, 1, 100) : 0,
    faults: swarmFaults(seed),
  };
}

/** Half the seeds use every kind at its usual rate, the other half a random few at a high one. */
function swarmFaults(seed: number): FaultRates {
  const chance = new Chance(seed, 1);
  const faults = noFaults();
  const few = chance.next() < 0.5;
  const share = few ? between(chance, 0.05, 0.25) : 0.7;
  const times = few ? between(chance, 2, 6) : 1;
  for (const kind of FAULT_KINDS) {
    const range = USUAL_RATES[kind];
    const rate = between(chance, range[0], range[1]) * times;
    if (chance.next() < share) faults[kind] = Math.min(kind === 'slow-consumer' ? 1 : 0.8, rate);
  }
  return faults;
}
