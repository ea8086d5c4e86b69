import { TroupeError } from '../kernel/errors.js';
import { FaultDice } from './fault-dice.js';
import { FAULT_KINDS } from './faults.js';
import type { Scenario } from './scenario.js';
import { Scheduler } from './scheduler.js';
import { type Lies, quietMs, SimPool } from './sim-pool.js';
import { Violated, type Violation, World } from './world.js';

/** What one run showed. */
export interface RunReport {
  readonly seed: number;
  readonly eventCount: number;
  readonly virtualMs: number;
  /** Same seed, same code: same hash, in every process. */
  readonly traceHash: number;
  /** By index of FAULT_KINDS. */
  readonly firedCounts: readonly number[];
  readonly violation: Violation | undefined;
  readonly pool: SimPool | undefined;
}

/** Far above what any scenario of its size needs. */
const EVENTS_PER_RECORD = 200;

/** From one run to the next: to make its arrays costs as much as dozens of events. */
let spare: { readonly scheduler: Scheduler; readonly dice: FaultDice } | undefined;

/** Runs one scenario from the first start to the last exit: faults first, then quiet until everything has come out. */
export function runScenario(
  scenario: Scenario,
  {
    lies = {},
    log,
    prepare,
  }: { lies?: Lies; log?: (line: string) => void; prepare?: (pool: SimPool, world: World) => void } = {},
): RunReport {
  const room = spare ?? { scheduler: new Scheduler(0), dice: new FaultDice() };
  spare = undefined;
  const world = new World(scenario, room.scheduler, room.dice);
  world.log = log;
  let pool: SimPool | undefined;
  let violation: Violation | undefined;
  try {
    pool = new SimPool(world, lies);
    prepare?.(pool, world);
    world.run(pool, 2000 + EVENTS_PER_RECORD * scenario.records, virtualLimitMs(world));
    pool.oracle.ended();
  } catch (error) {
    if (error instanceof Violated) violation = error.violation;
    else {
      const checker = error instanceof TroupeError && error.code === 'INTERNAL' ? 'invariant' : 'crash';
      violation = { checker, what: error instanceof Error ? error.message : String(error), at: world.now };
    }
  }
  const virtualMs = world.now;
  spare = room;
  return {
    seed: scenario.seed,
    eventCount: world.eventCount,
    virtualMs,
    traceHash: world.traceHash >>> 0,
    firedCounts: world.firedCounts,
    violation,
    pool,
  };
}

/** The liveness bound: with no new fault, everything held comes out within this. */
function virtualLimitMs(world: World): number {
  const { records, safetyMs, gapMs, consumeMs, costMs, costPerRecordMs, loadMs, exitDelayMs, netMs, limits } =
    world.scenario;
  const oneMs =
    2 * gapMs + 2 * consumeMs + 12 * (costMs + costPerRecordMs) + 2 * netMs[1] + limits.batching.maxDelayMs + 4;
  // A record that kills its replica does so twice at most: two loads and two waits.
  const restartMs = 4 * (15 * loadMs + exitDelayMs + limits.restart.maxBackoffMs);
  const suspects = world.scenario.faults['poison-crash'] * records + 4;
  return 2 * safetyMs + 8 * quietMs(world) + records * oneMs + suspects * restartMs;
}

export function firedByKind(counts: ArrayLike<number>): Record<string, number> {
  return Object.fromEntries(FAULT_KINDS.map((kind, index) => [kind, counts[index] as number]));
}
