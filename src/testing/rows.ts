/**
 * The rows of the reliability scorecard that have a subject in the cores, one named scenario each: what strikes, what
 * must hold beyond the checks that every run makes, and proof that the row's own fault struck.
 */

import type { ErrorCode } from '../kernel/errors.js';
import { askCycle } from './ask-cycle.js';
import { FAULT, type FaultKind, noFaults } from './faults.js';
import { fairShare, metastableOverload } from './open-loop.js';
import { runLearningRows } from './learning-rows.js';
import type { SwapStrategy } from '../core/rollout.js';
import { type RunReport, runScenario } from './run.js';
import { NO_ROLLOUT, type Scenario, swarmScenario } from './scenario.js';
import type { SimPool } from './sim-pool.js';
import type { SimRecord } from './sim-record.js';
import { runStreamRows } from './streams/rows.js';
import { supervisorMatrix } from './supervisor-matrix.js';

/** What running one row of the scorecard showed. */
export interface RowResult {
  readonly id: string;
  readonly title: string;
  readonly runs: number;
  /** How often what the row is about happened; a row where it never did has failed. */
  readonly fired: number;
  readonly problem: string | undefined;
}

interface Row {
  readonly id: string;
  readonly title: string;
  readonly runs: number;
  readonly scenario: (seed: number) => Scenario;
  /** Fault kinds that must strike; or what else is counted as the row's event. */
  readonly fired: readonly FaultKind[] | ((pool: SimPool) => number);
  /** What is wrong, if anything. */
  readonly check: (pool: SimPool, scenario: Scenario) => string | undefined;
}

interface RowChanges extends Partial<Omit<Scenario, 'limits' | 'faults' | 'seed'>> {
  readonly limits?: Partial<Scenario['limits']>;
  readonly faults?: Partial<Scenario['faults']>;
}

/** A healthy, generous pool of the swarm's shape; the row adds its own trouble. */
function calm(seed: number, changes: RowChanges = {}): Scenario {
  const swarm = swarmScenario(seed);
  const { limits, faults, ...rest } = changes;
  return {
    ...swarm,
    repeatable: true,
    timeoutMs: 0,
    swaps: 0,
    ...NO_ROLLOUT,
    scales: 0,
    holds: 0,
    drainAtMs: 0,
    stopAtMs: 0,
    reviveMs: 0,
    overflow: 'wait',
    askers: 1,
    operators: 2,
    ...rest,
    limits: {
      ...swarm.limits,
      mailbox: { ...swarm.limits.mailbox, capacityBytes: 64_000_000, maxWaitMs: Infinity },
      attempts: 100,
      batchTimeoutMs: 10_000,
      restartType: 'permanent',
      restart: { ...swarm.limits.restart, max: 10_000, quarantineMax: 10_000, maxBackoffMs: 10 },
      ...limits,
    },
    faults: { ...noFaults(), ...faults },
  };
}

const onlyErrors =
  (...allowed: ErrorCode[]) =>
  ({ core }: SimPool): string | undefined => {
    for (const [code, count] of core.counts.errors)
      if (!allowed.includes(code)) return `${count} records ended as ${code}`;
    return undefined;
  };

const errors = ({ core }: SimPool): number => core.counts.settled - core.counts.resolved;

const countRecords = (pool: SimPool, which: (record: SimRecord) => boolean): number =>
  pool.oracle.accepted.filter((request) => which(request.owner as SimRecord)).length;

const equal = (what: string, found: number, expected: number): string | undefined =>
  found === expected ? undefined : `${what}: ${found}, expected ${expected}`;

/** Every third seed has another. */
function strategyOf(seed: number): SwapStrategy {
  return (['beside', 'rolling', 'recreate'] as const)[seed % 3] ?? 'beside';
}

const ROWS: readonly Row[] = [
  {
    id: 'A1',
    title: 'a predict that throws fails only the records it is about',
    runs: 40,
    scenario: (seed) => calm(seed, { faults: { 'poison-throw': 0.05, 'poison-row': 0.05 } }),
    fired: ['poison-throw', 'poison-row'],
    check: (pool) =>
      onlyErrors('PREDICT_FAILED')(pool) ??
      equal(
        'failed records',
        errors(pool),
        countRecords(pool, (record) => record.poison > 0),
      ) ??
      equal('deaths', pool.oracle.restarts.deathCount, 0),
  },
  {
    id: 'A2',
    title: 'replicas killed from outside cost no record its result',
    runs: 40,
    scenario: (seed) => calm(seed, { disturbEveryMs: 20, faults: { kill: 0.8 } }),
    fired: ['kill'],
    check: (pool) => equal('results', pool.core.counts.resolved, pool.core.counts.accepted),
  },
  {
    id: 'A3',
    title: 'an exit without a reply is a crash, exit code 0 included',
    runs: 40,
    scenario: (seed) => calm(seed, { faults: { crash: 0.1, 'exit-0': 0.1 } }),
    fired: ['crash', 'exit-0'],
    check: (pool) =>
      onlyErrors('ACTOR_CRASHED')(pool) ??
      equal(
        'records that failed without having crashed alone',
        errors(pool),
        countRecords(pool, (r) => r.diedAlone),
      ),
  },
  {
    id: 'A4',
    title: 'running out of memory is told as such and counted apart',
    runs: 40,
    scenario: (seed) => calm(seed, { limits: { attempts: 1 }, faults: { oom: 0.1 } }),
    fired: ['oom'],
    check: (pool) =>
      onlyErrors('ACTOR_OOM')(pool) ??
      equal('deaths of another kind', pool.core.fleet.deathCounts.crash + pool.core.fleet.deathCounts.hang, 0),
  },
  {
    id: 'A5',
    title: 'a hung replica is replaced, and its callers hear by their deadline',
    runs: 40,
    scenario: (seed) => calm(seed, { timeoutMs: 60, limits: { batchTimeoutMs: 100 }, faults: { hang: 0.1 } }),
    fired: ['hang'],
    check: (pool) => onlyErrors('DEADLINE_PASSED', 'ACTOR_HUNG')(pool),
  },
  {
    id: 'A6',
    title: 'a crash loop ends exactly when its restarts are used up, and callers fail fast',
    runs: 40,
    scenario: (seed) =>
      calm(seed, {
        disturbEveryMs: 5,
        safetyMs: 3000,
        limits: {
          restart: { max: 3, withinMs: 60_000, backoffMs: 1, maxBackoffMs: 10, jitter: 0.2, quarantineMax: 3 },
        },
        faults: { kill: 1, 'load-fail': 0.1 },
      }),
    fired: (pool) => pool.oracle.restarts.giveUpCount,
    check: (pool) => onlyErrors('NO_REPLICA')(pool),
  },
  {
    id: 'A8',
    title: 'stop ends every replica, those that ignore it included',
    runs: 40,
    scenario: (seed) => calm(seed, { stopAtMs: 50, faults: { 'stop-ignored': 0.8, pause: 0.3 } }),
    fired: ['stop-ignored'],
    check: (pool) => onlyErrors('POOL_STOPPED')(pool) ?? equal('replicas left', pool.live.length, 0),
  },
  {
    id: 'A9',
    title: 'a replica that was stopped, replaced and continued is not listened to',
    runs: 60,
    scenario: (seed) =>
      calm(seed, {
        disturbEveryMs: 15,
        costMs: 5,
        limits: { batchTimeoutMs: 30 },
        faults: { pause: 1, 'reply-late': 0.1 },
      }),
    fired: (pool) => pool.core.ledger.staleReplyCount,
    // That a stale reply settles nothing is checked at each one.
    check: (pool) => onlyErrors('ACTOR_HUNG')(pool),
  },
  {
    id: 'B1',
    title: 'a swap under full load fails no request and mixes no versions',
    runs: 60,
    scenario: (seed) => calm(seed, { swaps: 4, burst: 8, swapStrategy: strategyOf(seed) }),
    fired: (pool) => pool.oracle.upCount - 1,
    check: (pool) => equal('results', pool.core.counts.resolved, pool.core.counts.accepted),
  },
  {
    id: 'B2',
    title: 'a version that does not load changes nothing',
    runs: 60,
    scenario: (seed) =>
      calm(seed, { swaps: 4, burst: 8, swapStrategy: strategyOf(seed), faults: { 'bad-version': 1 } }),
    fired: ['bad-version'],
    check: (pool) =>
      equal('results', pool.core.counts.resolved, pool.core.counts.accepted) ??
      equal('version', Number(pool.core.fleet.version), 1),
  },
  {
    id: 'B3',
    title: 'a version that turns out bad is taken back by itself, and the old one answers for it',
    runs: 60,
    scenario: (seed) =>
      calm(seed, {
        swaps: 3,
        share: seed % 3 === 0 ? 1 : 0.5,
        shadow: seed % 3 === 0 ? 1 : 0,
        bakeMs: 20_000,
        records: 600,
        burst: 4,
        faults: { 'poor-version': 1 },
      }),
    fired: (pool) => [...pool.oracle.trial.rolledBack.values()].filter((reason) => reason === 'errors').length,
    check: (pool) => equal('results', pool.core.counts.resolved, pool.core.counts.accepted),
  },
  {
    id: 'B4',
    title: 'of swaps that come while others load and bake the last one wins, with two versions resident at most',
    runs: 60,
    scenario: (seed) =>
      calm(seed, { swaps: 12, share: 0.2, bakeMs: 50, rollbacks: 2, promotes: 2, loadMs: 20, burst: 8 }),
    fired: (pool) => [...pool.oracle.trial.rolledBack.values()].filter((reason) => reason === 'superseded').length,
    // That there are never three is checked at every start.
    check: (pool) => equal('results', pool.core.counts.resolved, pool.core.counts.accepted),
  },
  {
    id: 'B5',
    title:
      'replicas of both versions crash and are killed at every step of a swap: one version is left, nothing is lost',
    runs: 60,
    scenario: (seed) =>
      calm(seed, {
        swaps: 6,
        ...(strategyOf(seed) === 'beside'
          ? { share: seed % 2 === 0 ? 0.3 : 1, shadow: seed % 4 === 1 ? 0.5 : 0, keepMs: seed % 5 === 0 ? 30 : 0 }
          : { swapStrategy: strategyOf(seed) }),
        bakeMs: 40,
        verifies: seed % 3 === 0,
        promotes: 2,
        rollbacks: 2,
        keys: 5,
        burst: 8,
        disturbEveryMs: 10,
        faults: { crash: 0.05, 'exit-0': 0.05, kill: 0.5, 'bad-version': 0.2, 'stop-ignored': 0.3 },
      }),
    fired: (pool) => pool.oracle.trial.promotedCount + pool.oracle.trial.rolledBack.size,
    check: (pool) =>
      onlyErrors('ACTOR_CRASHED')(pool) ??
      // What dies alone on a version on trial may still be answered by the old one.
      equal(
        'records that failed without having crashed alone',
        Math.max(0, errors(pool) - countRecords(pool, (r) => r.diedAlone)),
        0,
      ),
  },
  ...(['reject', 'wait', 'drop-oldest', 'drop-newest'] as const).map(
    (overflow): Row => ({
      id: 'C1',
      title: `ten times the load under ${overflow}: batches run full, the rest is turned away as the rule says`,
      runs: 15,
      scenario: (seed) =>
        calm(seed, {
          overflow,
          askers: 3,
          operators: 0,
          burst: 1,
          records: 600,
          replicas: 1,
          buckets: 1,
          priorities: 1,
          costMs: 10,
          costPerRecordMs: 0,
          loadMs: 1,
          netMs: [0, 0],
          quantumMs: 0,
          // Eight records per 10 ms is what the replica can do; ten times that arrives.
          gapMs: 0.125 * 3,
          safetyMs: 400,
          limits: {
            maxInFlight: 1,
            mailbox: { capacity: 16, capacityBytes: 64_000_000, ageingMs: 1000 },
            batching: {
              adaptive: true,
              maxSize: 8,
              maxBytes: 16_000_000,
              maxWeight: Infinity,
              maxDelayMs: 0,
              targetLatencyMs: Infinity,
            },
          },
        }),
      fired: (pool) => pool.core.counts.refused + (pool.core.counts.errors.get('MAILBOX_DROPPED') ?? 0),
      check: (pool, { records }) => {
        const { core } = pool;
        const dropped = core.counts.errors.get('MAILBOX_DROPPED') ?? 0;
        const drops = overflow === 'drop-oldest' || overflow === 'drop-newest';
        if (drops ? core.counts.refused > 0 : dropped > 0) return `${core.counts.refused} refused, ${dropped} dropped`;
        // Goodput: the replica never runs less than nine tenths of a full batch on average.
        if (core.counts.batched / core.counts.batches < 0.9 * 8)
          return `batches of ${core.counts.batched / core.counts.batches}`;
        return equal('results and records turned away', core.counts.resolved + dropped + core.counts.refused, records);
      },
    }),
  ),
  {
    id: 'C3',
    title: 'a slow consumer stops its operator and loses nothing',
    runs: 40,
    scenario: (seed) => calm(seed, { askers: 0, consumeMs: 20, operatorCapacity: 4, faults: { 'slow-consumer': 1 } }),
    fired: ['slow-consumer'],
    check: (pool, { operatorCapacity }) =>
      equal('results', pool.core.counts.resolved, pool.core.counts.accepted) ??
      (pool.clients.some((client) => client.mostHeld > operatorCapacity) ? 'an operator holds too much' : undefined),
  },
  {
    id: 'C4',
    title: 'huge records are bounded by bytes, not by count alone',
    runs: 40,
    scenario: (seed) =>
      calm(seed, {
        recordBytes: [1_000_000, 20_000_000],
        limits: { mailbox: { capacity: 64, capacityBytes: 50_000_000, ageingMs: 1000 } },
        burst: 16,
      }),
    fired: (pool) => pool.oracle.fullCount,
    check: (pool) => equal('results', pool.core.counts.resolved, pool.core.counts.accepted),
  },
  {
    id: 'C6',
    title: 'what expires in the queue never runs, and every expiry is told on time',
    runs: 40,
    scenario: (seed) => calm(seed, { timeoutMs: 15, costMs: 10, burst: 8, faults: { slow: 0.2 } }),
    fired: (pool) => pool.core.counts.errors.get('DEADLINE_PASSED') ?? 0,
    check: (pool) =>
      onlyErrors('DEADLINE_PASSED')(pool) ??
      equal(
        'records that ran though they never started',
        pool.oracle.accepted.filter((r) => r.error?.ran === 'not-started' && (r.owner as SimRecord).runCount > 0)
          .length,
        0,
      ),
  },
  {
    id: 'C7',
    title: 'a cancelled record leaves from wherever it is, and no replica dies for it',
    runs: 40,
    scenario: (seed) => calm(seed, { burst: 8, faults: { cancel: 0.5 } }),
    fired: ['cancel'],
    check: (pool) => onlyErrors('CANCELLED')(pool) ?? equal('deaths', pool.oracle.restarts.deathCount, 0),
  },
  {
    id: 'D1',
    title: 'poison records cost at most 2k x ceil(log2 n) further calls and no neighbour',
    runs: 60,
    scenario: (seed) => calm(seed, { burst: 32, costMs: 10, faults: { 'poison-throw': 0.08 } }),
    fired: ['poison-throw'],
    check: (pool) =>
      equal(
        'failed records',
        errors(pool),
        countRecords(pool, (record) => record.poison > 0),
      ) ?? (pool.oracle.splitCount > pool.oracle.splitAllowance ? `${pool.oracle.splitCount} splits` : undefined),
  },
  {
    id: 'D2',
    title: 'records that kill their replica cost one crash each beside the first, and no neighbour',
    runs: 60,
    // With a batch staged behind it, a batch whose answer was still on its way is taken for the culprit's.
    scenario: (seed) =>
      calm(seed, { burst: 16, costMs: 10, limits: { maxInFlight: 1 }, faults: { 'poison-crash': 0.03 } }),
    fired: ['poison-crash'],
    check: (pool) => {
      const culprits = countRecords(pool, (record) => record.poison > 0);
      const { deathCount, quarantineDeathCount, giveUpCount } = pool.oracle.restarts;
      return (
        equal('failed records', errors(pool), culprits) ??
        equal('crashes in quarantine', quarantineDeathCount, culprits) ??
        (deathCount > culprits ? `${deathCount} crashes outside quarantine for ${culprits} culprits` : undefined) ??
        equal('replicas given up', giveUpCount, 0)
      );
    },
  },
  {
    id: 'D3',
    title: 'a lying actor misaligns nothing: wrong counts, doubled, late and invented replies',
    runs: 60,
    scenario: (seed) =>
      calm(seed, {
        limits: { batchTimeoutMs: 200 },
        faults: { 'wrong-count': 0.1, 'reply-twice': 0.3, 'reply-invented': 0.3, 'reply-late': 0.1 },
      }),
    fired: ['wrong-count', 'reply-twice', 'reply-invented', 'reply-late'],
    check: (pool) => onlyErrors('PROTOCOL_VIOLATION', 'ACTOR_HUNG')(pool),
  },
  {
    id: 'D4',
    title: 'a record sent again after a transfer arrives whole',
    runs: 40,
    scenario: (seed) => calm(seed, { transfer: true, disturbEveryMs: 20, faults: { throw: 0.2, kill: 0.5 } }),
    fired: (pool) => countRecords(pool, (record) => record.sendCount > 1),
    check: (pool) => onlyErrors('PREDICT_FAILED')(pool),
  },
  {
    id: 'D6',
    title: 'an ordered operator keeps order under mixed latencies, failures and timeouts',
    runs: 60,
    scenario: (seed) =>
      calm(seed, {
        limits: { batchTimeoutMs: 200 },
        askers: 0,
        ordered: true,
        timeoutMs: 100,
        faults: { slow: 0.2, throw: 0.1, 'poison-throw': 0.05, crash: 0.05, 'reply-late': 0.1 },
      }),
    fired: ['slow', 'throw', 'poison-throw', 'crash', 'reply-late'],
    check: (pool) => onlyErrors('DEADLINE_PASSED', 'PREDICT_FAILED', 'ACTOR_CRASHED', 'ACTOR_HUNG')(pool),
  },
  {
    id: 'D7',
    title: 'jumps of the wall clock and a stalled loop move no deadline and start no restart storm',
    runs: 40,
    scenario: (seed) =>
      calm(seed, { timeoutMs: 100, disturbEveryMs: 20, faults: { 'wall-jump': 1, 'loop-stall': 0.2 } }),
    fired: ['wall-jump', 'loop-stall'],
    check: (pool) => onlyErrors('DEADLINE_PASSED', 'ACTOR_HUNG')(pool),
  },
  {
    id: 'K2',
    title: 'a load that takes ten times as long burns no attempts of those who wait',
    runs: 40,
    scenario: (seed) => calm(seed, { loadMs: 50, timeoutMs: 200, faults: { 'load-slow': 1 } }),
    fired: ['load-slow'],
    check: (pool) =>
      onlyErrors('DEADLINE_PASSED')(pool) ??
      equal(
        'records that met a death',
        countRecords(pool, (record) => record.deathCount > 0),
        0,
      ),
  },
  {
    id: 'K4',
    title: 'a stop with a full queue settles everything, with the reason',
    runs: 40,
    scenario: (seed) => calm(seed, { stopAtMs: 40, burst: 32, costMs: 20 }),
    fired: (pool) => pool.core.counts.errors.get('POOL_STOPPED') ?? 0,
    check: (pool) => onlyErrors('POOL_STOPPED')(pool),
  },
  {
    id: 'K5',
    title: 'a pool that grows and shrinks under load loses nothing',
    runs: 60,
    scenario: (seed) => calm(seed, { scales: 6, burst: 8 }),
    fired: (pool) => pool.oracle.scaledCount,
    check: (pool) => equal('results', pool.core.counts.resolved, pool.core.counts.accepted),
  },
];

/** Rows that are no pool under the swarm's load. */
const OTHERS: readonly {
  id: string;
  title: string;
  run: () => { runs: number; fired: number; problem: string | undefined };
}[] = [
  {
    id: 'A7',
    title: 'every cell of restart type, ending and strategy restarts exactly whom it should, in order',
    run: supervisorMatrix,
  },
  {
    id: 'C2',
    title: 'ten times the load from clients that ask three times leaves nothing behind two seconds after it ends',
    run: metastableOverload,
  },
  {
    id: 'C5',
    title: 'beside a stream that floods the pool, light streams wait at most twice as long',
    run: fairShare,
  },
  { id: 'K1', title: 'an ask cycle between two actors ends by its deadline, never silently', run: askCycle },
];

export function runRows(): RowResult[] {
  const results = ROWS.map(runRow);
  for (const { id, title, run } of OTHERS) results.push({ id, title, ...run() });
  results.push(...runLearningRows(), ...runStreamRows());
  return results.sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
}

/** Scenario of each row, for `--scenario`. The checks of the row itself are made by `--rows`. */
export const ROW_SCENARIOS: Readonly<Record<string, (seed: number) => Scenario>> = Object.fromEntries(
  ROWS.map((row) => [row.id, row.scenario]),
);

function runRow(row: Row): RowResult {
  const { id, title, runs } = row;
  let fired = 0;
  const firedByKind = new Map<FaultKind, number>();
  for (let seed = 1; seed <= runs; seed++) {
    const scenario = row.scenario(seed);
    const report: RunReport = runScenario(scenario);
    const { pool, violation, firedCounts } = report;
    const problem =
      violation === undefined ? row.check(pool as SimPool, scenario) : `${violation.checker}: ${violation.what}`;
    if (problem !== undefined) {
      const replay = `npm run simulate -- --scenario ${id} --seed ${seed} --verbose`;
      return { id, title, runs: seed, fired, problem: `${problem}; replay: ${replay}` };
    }
    if (typeof row.fired === 'function') fired += row.fired(pool as SimPool);
    else {
      for (const kind of row.fired) {
        const count = firedCounts[FAULT[kind]] as number;
        fired += count;
        firedByKind.set(kind, (firedByKind.get(kind) ?? 0) + count);
      }
    }
  }
  const never = [...firedByKind].filter(([, count]) => count === 0).map(([kind]) => kind);
  if (fired === 0 || never.length > 0)
    return { id, title, runs, fired, problem: `never struck: ${never.join(', ') || id}` };
  return { id, title, runs, fired, problem: undefined };
}
