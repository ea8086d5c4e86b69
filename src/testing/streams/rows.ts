/** The rows of the reliability scorecard that have a stream for a subject; what each adds to the checks of every run. */
import type { RowResult } from '../rows.js';
import { noStreamFaults, STREAM_FAULT, type StreamFaultKind } from './faults.js';
import { runStream } from './run.js';
import { streamScenario, type StreamScenario } from './scenario.js';
import type { SimStream, StreamTotals } from './sim-stream.js';

interface StreamRow {
  readonly id: string;
  readonly title: string;
  readonly runs: number;
  readonly scenario: (seed: number) => StreamScenario;
  /** Fault kinds that must strike; and what else must have happened. */
  readonly fired: readonly StreamFaultKind[];
  readonly happened: readonly (keyof StreamTotals)[];
  readonly check?: (stream: SimStream, scenario: StreamScenario) => string | undefined;
}

interface Changes extends Partial<Omit<StreamScenario, 'faults' | 'seed'>> {
  readonly faults?: Partial<StreamScenario['faults']>;
}

/** A stream of the swarm's shape without any trouble; the row adds its own. */
function calm(seed: number, { faults, ...changes }: Changes): StreamScenario {
  return {
    ...streamScenario(seed),
    source: 'replayable',
    sink: seed % 2 === 0 ? 'file' : 'staged',
    hasCheckpoints: true,
    onFailure: 'continue',
    timeoutMs: 0,
    ends: 0,
    disturbances: 0,
    ...changes,
    faults: { ...noStreamFaults(), ...faults },
  };
}

const MANY_RETRIES = {
  attempts: 4,
  backoffMs: 2,
  maxBackoffMs: 20,
  multiplier: 2,
  jitter: 0.5,
  rules: { PREDICT_FAILED: {} },
} as const;

const ROWS: readonly StreamRow[] = [
  {
    id: 'D5',
    title: 'a storm of retries stays within attempts and budget, a half-open breaker lets one probe through',
    runs: 200,
    scenario: (seed) =>
      calm(seed, {
        records: 60,
        retry: MANY_RETRIES,
        retryBudget: { share: 0.1, floor: seed % 3, windowMs: 1000 },
        breaker: { windowMs: 100, minCalls: 5, failureRate: 0.5, openMs: 10, probes: 1 },
        faults: { outage: 0.1, throw: 0.2, crash: 0.2, refuse: 0.1, 'late-answer': 0.05 },
      }),
    fired: ['outage', 'throw', 'crash', 'refuse', 'late-answer'],
    happened: ['retries', 'opened', 'probes'],
    check: ({ totals }, { retryBudget: { share, floor, windowMs }, steps }) => {
      const inferCount = steps.filter((step) => step === 'infer').length;
      const allowed = share * totals.firstTries + inferCount * floor * (1 + totals.finishedAt / windowMs);
      return totals.retries > allowed ? `${totals.retries} retries, ${allowed} are allowed` : undefined;
    },
  },
  {
    id: 'D6',
    title: 'an ordered step that tries again keeps source order under latencies, failures and timeouts',
    runs: 300,
    scenario: (seed) =>
      calm(seed, {
        order: 'ordered',
        retry: MANY_RETRIES,
        timeoutMs: 40,
        costMs: 2,
        faults: { slow: 0.2, throw: 0.1, 'row-error': 0.1, crash: 0.1, hang: 0.05, 'late-answer': 0.05, shed: 0.05 },
      }),
    fired: ['slow', 'throw', 'row-error', 'crash', 'hang', 'late-answer', 'shed'],
    happened: ['retries', 'expired'],
  },
  {
    id: 'D7',
    title: 'jumps of the wall clock and a stalled loop move no deadline, backoff or probe of a stream',
    runs: 200,
    scenario: (seed) =>
      calm(seed, {
        timeoutMs: 20,
        costMs: 2,
        retry: MANY_RETRIES,
        disturbances: 4,
        faults: { slow: 0.2, 'wall-jump': 1, stall: 1, throw: 0.1 },
      }),
    fired: ['wall-jump', 'stall'],
    happened: ['expired', 'retries'],
  },
  ...[1, 5, 20].map(
    (replicas): StreamRow => ({
      id: 'D8',
      title: `failures of source, map, snapshot, restore, sink and close lose, double and overtake nothing (${replicas} replicas)`,
      runs: 150,
      scenario: (seed) =>
        calm(seed, {
          // What a failed end of a run has to be made good by is a restart.
          onFailure: seed % 4 < 2 ? 'stop' : 'continue',
          source: seed % 3 === 0 ? 'acknowledging' : 'replayable',
          steps: ['map', 'infer'],
          order: 'ordered',
          shapes: [{ operatorCapacity: 32, poolCapacity: 32, batchMax: 4, replicas }],
          ends: 5,
          faults: {
            kill: 0.6,
            'open-fail': 0.2,
            'read-fail': 0.04,
            'map-throw': 0.1,
            'write-fail': 0.04,
            'prepare-fail': 0.1,
            'save-fail': 0.1,
            'restore-fail': 0.2,
            'commit-fail': 0.1,
            'acknowledge-fail': 0.4,
            'close-fail': 0.3,
            crash: 0.1,
          },
        }),
      fired: [
        'kill',
        'open-fail',
        'read-fail',
        'map-throw',
        'write-fail',
        'prepare-fail',
        'save-fail',
        'restore-fail',
        'commit-fail',
        'acknowledge-fail',
        'close-fail',
        'crash',
      ],
      happened: ['resumed', 'checkpoints', 'failedRounds'],
    }),
  ),
  {
    id: 'E5',
    title: 'a run goes on with a full queue and with another capacity, batch size and number of replicas',
    runs: 300,
    scenario: (seed) =>
      calm(seed, {
        source: seed % 3 === 0 ? 'neither' : 'replayable',
        records: 60,
        ends: 4,
        restartMs: 1,
        retry: MANY_RETRIES,
        retryBudget: { share: Infinity, floor: 0, windowMs: 1000 },
        shapes: [
          { operatorCapacity: 16, poolCapacity: 8, batchMax: 8, replicas: 2 },
          { operatorCapacity: 1, poolCapacity: 1, batchMax: 1, replicas: 1 },
          { operatorCapacity: 64, poolCapacity: 2, batchMax: 16, replicas: 4 },
        ],
        faults: { kill: 1, throw: 0.2 },
      }),
    fired: ['kill'],
    happened: ['resumed', 'full', 'goneOn'],
  },
  {
    id: 'E6',
    title: 'checkpoints of an overloaded stream with dead actors are made in bounded time and size',
    runs: 200,
    scenario: (seed) =>
      calm(seed, {
        records: 60,
        steps: ['map', 'infer'],
        costMs: 5,
        batchTimeoutMs: 200,
        intervalMs: 10,
        safetyMs: 1500,
        writeMs: 1,
        ends: 3,
        restartMs: 1,
        shapes: [{ operatorCapacity: 32, poolCapacity: 8, batchMax: 4, replicas: 2 }],
        faults: { hang: 0.8, kill: 0.5 },
      }),
    fired: ['hang', 'kill'],
    happened: ['checkpoints', 'resumed', 'full'],
    check: ({ totals }, { prepareMs, saveMs, commitMs, acknowledgeMs, writeMs }) => {
      // No actor is in it; the round waits for one write at most, twice. Four instants lie on the grid.
      const boundMs = prepareMs + saveMs + commitMs + acknowledgeMs + 2 * writeMs + 6;
      if (totals.longestRoundMs > boundMs) return `a round took ${totals.longestRoundMs} ms, ${boundMs} are the bound`;
      // Per held record what its tries were; per gap an interval; nothing of the records themselves.
      const boundBytes = 400 + 32 * 100;
      if (totals.largestBytes > boundBytes) return `a checkpoint of ${totals.largestBytes} bytes`;
      return undefined;
    },
  },
];

/** Scenario of each row, for `--scenario`. */
export const STREAM_ROW_SCENARIOS: Readonly<Record<string, (seed: number) => StreamScenario>> = Object.fromEntries(
  ROWS.map((row) => [row.id, row.scenario]),
);

export function runStreamRows(): RowResult[] {
  return ROWS.map(runRow);
}

function runRow({ id, title, runs, scenario, fired: kinds, happened, check }: StreamRow): RowResult {
  const counts = new Map<string, number>([...kinds, ...happened].map((name) => [name, 0]));
  const count = (name: string, by: number): void => void counts.set(name, (counts.get(name) ?? 0) + by);
  for (let seed = 1; seed <= runs; seed++) {
    const options = scenario(seed);
    const { violation, firedCounts, stream } = runStream(options);
    const problem =
      violation === undefined ? check?.(stream as SimStream, options) : `${violation.checker}: ${violation.what}`;
    if (problem !== undefined) {
      const replay = `npm run simulate -- --streams --scenario ${id} --seed ${seed} --verbose`;
      return { id, title, runs: seed, fired: 0, problem: `${problem}; replay: ${replay}` };
    }
    for (const kind of kinds) count(kind, firedCounts[STREAM_FAULT[kind]] as number);
    for (const what of happened) count(what, (stream as SimStream).totals[what]);
  }
  const never = [...counts].filter(([, times]) => times === 0).map(([name]) => name);
  const fired = kinds.reduce((sum, kind) => sum + (counts.get(kind) ?? 0), 0);
  return { id, title, runs, fired, problem: never.length === 0 ? undefined : `never happened: ${never.join(', ')}` };
}
