import type { ScalingLimits } from '../core/autoscaler.js';
import type { Overflow } from '../core/mailbox.js';
import type { PoolLimits } from '../core/pool-limits.js';
import type { SwapStrategy } from '../core/rollout.js';
import { FAULT_KINDS, type FaultKind, type FaultRates, noFaults, USUAL_RATES } from './faults.js';
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
  // how a swap goes; 0 or 1 for at once and for good
  readonly swapStrategy: SwapStrategy;
  /** The part of the records for a new version while it bakes. */
  readonly share: number;
  /** The part of the records that it is only shown instead; 0: none. */
  readonly shadow: number;
  readonly bakeMs: number;
  /** How long the version before stays loaded. */
  readonly keepMs: number;
  readonly verifies: boolean;
  readonly promotes: number;
  readonly rollbacks: number;
  /** So many keys are in use; 0: records have none. */
  readonly keys: number;
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

/** What is picked from, made once: a list made anew for every draw costs more than the draw. */
const CHOICES = {
  replicas: [1, 1, 2, 2, 3, 4, 6, 8],
  maxSize: [1, 1, 2, 3, 4, 7, 8, 16, 32, 64],
  capacity: [1, 2, 3, 5, 8, 16, 32, 64],
  gapMs: [0.5, 1, 2, 5],
  costMs: [0.1, 1, 5, 20],
  bytesHigh: [1, 100, 1000],
  ageingMs: [0, 5, 50, 1000],
  maxWaitMs: [Infinity, Infinity, Infinity, 1000, 50, 5, 1],
  maxDelayMs: [0.5, 2, 10, 50],
  batchTimeoutMs: [50, 200, 1000],
  attempts: [1, 2, 3, 5, 5],
  cancellation: ['signal', 'signal', 'replace'],
  restarts: [0, 1, 3, 5, 20, 50],
  withinMs: [50, 500, 60_000],
  backoffMs: [1, 10, 100],
  maxBackoffMs: [10, 500, 2000],
  jitter: [0, 0.2, 1],
  quarantineMax: [0, 1, 5, 20],
  operatorCapacity: [1, 4, 16, 64, 256],
  priorities: [1, 1, 2, 4],
  buckets: [1, 1, 1, 2, 3],
  burst: [1, 1, 4, 32],
  timeoutMs: [5, 30, 200, 2000],
  costPerRecordMs: [0, 0.1, 0.5],
  loadMs: [1, 10, 50],
  stopTimeoutMs: [20, 200],
  exitDelayMs: [0, 1, 10],
  quantumMs: [0, 1, 1],
  netMs: [
    [0, 0],
    [0.1, 0.3],
    [0.1, 5],
  ],
  strategy: ['one-for-one', 'one-for-one', 'one-for-one', 'rest-for-one', 'one-for-all'],
  restartType: ['permanent', 'permanent', 'permanent', 'transient', 'temporary'],
  share: [0.05, 0.2, 0.5, 0.9, 1],
  shadow: [0.1, 0.5, 1],
  leastReplicas: [0, 0, 0, 1, 2],
  swapStrategy: ['beside', 'beside', 'beside', 'beside', 'rolling', 'recreate'],
  overflow: ['reject', 'wait', 'drop-oldest', 'drop-newest'],
} as const;

/** The swarm: what a seed runs. Ranges are wide on purpose, corners more likely than the middle. */
export function swarmScenario(seed: number): Scenario {
  const chance = new Chance(seed, 0);
  const maxSize = pick(chance, CHOICES.maxSize);
  const capacity = pick(chance, CHOICES.capacity);
  const records = whole(chance, 75, 240);
  const gapMs = pick(chance, CHOICES.gapMs);
  const costMs = pick(chance, CHOICES.costMs);
  const timed = chance.next() < 0.5;
  const safetyMs = 1 + records * gapMs * between(chance, 0.7, 1.5);
  const bytesHigh = pick(chance, CHOICES.bytesHigh);
  return {
    seed,
    replicas: pick(chance, CHOICES.replicas),
    limits: {
      name: 'sim',
      mailbox: {
        capacity,
        capacityBytes: chance.next() < 0.3 ? Math.ceil(capacity * bytesHigh * between(chance, 0.3, 0.9)) : 64_000_000,
        ageingMs: pick(chance, CHOICES.ageingMs),
        // A chance of its own: a seed runs what it ran before there was the choice.
        maxWaitMs: pick(new Chance(seed, 16), CHOICES.maxWaitMs),
      },
      batching: {
        // A chance of its own: a seed runs what it ran before there was the choice.
        adaptive: new Chance(seed, 3).next() < 0.75,
        maxSize,
        maxBytes: chance.next() < 0.2 ? Math.ceil(bytesHigh * between(chance, 0.5, 8)) : 16_000_000,
        maxWeight: chance.next() < 0.2 ? whole(chance, 1, 40) : Infinity,
        maxDelayMs: chance.next() < 0.6 ? 0 : pick(chance, CHOICES.maxDelayMs),
        targetLatencyMs: chance.next() < 0.7 ? Infinity : between(chance, 5, 100),
      },
      maxInFlight: whole(chance, 1, 2),
      batchTimeoutMs: pick(chance, CHOICES.batchTimeoutMs) + 12 * costMs,
      attempts: pick(chance, CHOICES.attempts),
      // A chance of its own: a seed runs what it ran before there was the choice.
      cancellation: pick(new Chance(seed, 2), CHOICES.cancellation),
      restart: {
        max: pick(chance, CHOICES.restarts),
        withinMs: pick(chance, CHOICES.withinMs),
        backoffMs: pick(chance, CHOICES.backoffMs),
        maxBackoffMs: pick(chance, CHOICES.maxBackoffMs),
        jitter: pick(chance, CHOICES.jitter),
        quarantineMax: pick(chance, CHOICES.quarantineMax),
      },
      restartType: pick(chance, CHOICES.restartType),
      strategy: pick(chance, CHOICES.strategy),
      scaling: swarmScaling(seed),
    },
    overflow: pick(chance, CHOICES.overflow),
    repeatable: chance.next() < 0.85,
    records,
    askers: whole(chance, 0, 3),
    operators: whole(chance, 1, 3),
    operatorCapacity: pick(chance, CHOICES.operatorCapacity),
    ordered: chance.next() < 0.6,
    priorities: pick(chance, CHOICES.priorities),
    buckets: pick(chance, CHOICES.buckets),
    recordBytes: [1, bytesHigh],
    gapMs,
    burst: pick(chance, CHOICES.burst),
    timeoutMs: timed ? pick(chance, CHOICES.timeoutMs) : 0,
    consumeMs: between(chance, 0.1, 3) * gapMs,
    costMs,
    costPerRecordMs: pick(chance, CHOICES.costPerRecordMs),
    loadMs: pick(chance, CHOICES.loadMs),
    loadTimeoutMs: 600,
    stopTimeoutMs: pick(chance, CHOICES.stopTimeoutMs),
    exitDelayMs: pick(chance, CHOICES.exitDelayMs),
    netMs: pick(chance, CHOICES.netMs),
    quantumMs: pick(chance, CHOICES.quantumMs),
    transfer: chance.next() < 0.5,
    safetyMs,
    disturbEveryMs: safetyMs / whole(chance, 2, 12),
    swaps: chance.next() < 0.4 ? whole(chance, 1, 3) : 0,
    ...swarmTrials(seed, safetyMs),
    scales: chance.next() < 0.3 ? whole(chance, 1, 4) : 0,
    holds: chance.next() < 0.15 ? whole(chance, 1, 2) : 0,
    drainAtMs: chance.next() < 0.15 ? chance.next() * safetyMs : 0,
    stopAtMs: chance.next() < 0.1 ? chance.next() * safetyMs : 0,
    reviveMs: chance.next() < 0.5 ? between(chance, 1, 100) : 0,
    faults: swarmFaults(seed),
  };
}

/** A chance of its own: a seed without it runs what it ran before there was the choice. Times fit the length of a run. */
function swarmScaling(seed: number): ScalingLimits | undefined {
  const chance = new Chance(seed, 13);
  if (chance.next() < 0.75) return undefined;
  const min = pick(chance, CHOICES.leastReplicas);
  return {
    min,
    max: whole(chance, Math.max(1, min), 8),
    targetWaitMs: between(chance, 1, 20),
    targetUtilization: between(chance, 0.5, 1),
    upAfterMs: between(chance, 8, 120),
    downAfterMs: between(chance, 8, 100),
    idleAfterMs: between(chance, 5, 100),
  };
}

/** A swap takes over at once, and nothing comes in by hand. */
export const NO_ROLLOUT = {
  swapStrategy: 'beside',
  share: 1,
  shadow: 0,
  bakeMs: 0,
  keepMs: 0,
  verifies: false,
  promotes: 0,
  rollbacks: 0,
  keys: 0,
} as const;

/** A chance of its own: a seed without trials runs what it ran before there were any. */
function swarmTrials(seed: number, safetyMs: number): Pick<Scenario, keyof typeof NO_ROLLOUT> {
  const chance = new Chance(seed, 11);
  const swapStrategy = pick(new Chance(seed, 14), CHOICES.swapStrategy);
  if (chance.next() < 0.5) return { ...NO_ROLLOUT, swapStrategy };
  const isBeside = swapStrategy === 'beside';
  // Later choices have a chance of their own: a seed runs what it ran before there were any.
  const later = new Chance(seed, 13);
  const shadow = later.next() < 0.25 && isBeside ? pick(later, CHOICES.shadow) : 0;
  const share = pick(chance, CHOICES.share);
  return {
    swapStrategy,
    share: shadow > 0 || !isBeside ? 1 : share,
    shadow,
    bakeMs: safetyMs * between(chance, 0.05, 0.5),
    keepMs: later.next() < 0.4 && isBeside ? safetyMs * between(later, 0.05, 0.3) : 0,
    verifies: chance.next() < 0.3,
    promotes: whole(chance, 0, 2),
    rollbacks: whole(chance, 0, 2),
    keys: chance.next() < 0.35 ? 0 : whole(chance, 1, 12),
  };
}

const LOWEST = FAULT_KINDS.map((kind) => USUAL_RATES[kind][0]);
const HIGHEST = FAULT_KINDS.map((kind) => USUAL_RATES[kind][1]);

/** Half the seeds use every kind at its usual rate, the other half a random few at a high one. */
function swarmFaults(seed: number): FaultRates {
  const chance = new Chance(seed, 1);
  const faults = noFaults();
  const few = chance.next() < 0.5;
  const share = few ? between(chance, 0.05, 0.25) : 0.7;
  const times = few ? between(chance, 2, 6) : 1;
  for (let at = 0; at < FAULT_KINDS.length; at++) {
    const rate = between(chance, LOWEST[at] as number, HIGHEST[at] as number) * times;
    if (chance.next() >= share) continue;
    const kind = FAULT_KINDS[at] as FaultKind;
    faults[kind] = Math.min(kind === 'slow-consumer' ? 1 : 0.8, rate);
  }
  return faults;
}
