import { TroupeError } from '../../kernel/errors.js';
import { FaultDice } from '../fault-dice.js';
import { Scheduler } from '../scheduler.js';
import { Violated, type Violation } from '../world.js';
import { STREAM_FAULT_KINDS, type StreamFaultKind } from './faults.js';
import type { StreamScenario } from './scenario.js';
import { SimStream, type StreamTotals } from './sim-stream.js';
import { type StreamLies, StreamWorld } from './world.js';

/** What one stream showed, over all its runs. */
export interface StreamRunReport {
  readonly seed: number;
  readonly eventCount: number;
  readonly virtualMs: number;
  /** Same seed, same code: same hash, in every process. */
  readonly traceHash: number;
  /** By index of STREAM_FAULT_KINDS. */
  readonly firedCounts: readonly number[];
  readonly violation: Violation | undefined;
  readonly totals: StreamTotals | undefined;
  readonly stream: SimStream | undefined;
}

/** Far above what any scenario of its size needs. */
const EVENTS_PER_RECORD = 400;

/** From one stream to the next. */
let spare: { readonly scheduler: Scheduler; readonly dice: FaultDice<StreamFaultKind> } | undefined;

/** Runs one stream from its first run to the end of its source: faults first, then quiet until all has come out. */
export function runStream(
  scenario: StreamScenario,
  { lies = {}, log }: { lies?: StreamLies; log?: ((line: string) => void) | undefined } = {},
): StreamRunReport {
  const room = spare ?? { scheduler: new Scheduler(0), dice: new FaultDice<StreamFaultKind>(STREAM_FAULT_KINDS) };
  spare = undefined;
  const world = new StreamWorld(scenario, room.scheduler, room.dice);
  world.log = log;
  world.lies = lies;
  let stream: SimStream | undefined;
  let violation: Violation | undefined;
  try {
    stream = new SimStream(world);
    world.run(stream, 2000 + EVENTS_PER_RECORD * scenario.records, quietMs(scenario));
    stream.finished();
  } catch (error) {
    if (error instanceof Violated) ({ violation } = error);
    else {
      const checker = error instanceof TroupeError && error.code === 'INTERNAL' ? 'invariant' : 'crash';
      const what = error instanceof Error ? (error.stack ?? error.message) : String(error);
      violation = { checker, what, at: world.now };
    }
  }
  spare = room;
  return {
    seed: scenario.seed,
    eventCount: world.eventCount,
    virtualMs: world.now,
    traceHash: world.traceHash >>> 0,
    firedCounts: world.firedCounts,
    violation,
    totals: stream?.totals,
    stream,
  };
}

/** By then the slowest of streams has come to its end: each record alone, through all of its tries, twice. */
function quietMs(scenario: StreamScenario): number {
  const { safetyMs, records, costMs, batchTimeoutMs, retry, restartMs, writeMs, readMs, prepareMs, saveMs, commitMs } =
    scenario;
  // The pool core tries a record itself, alone or in halves of its batch.
  const inPool = scenario.pool === 'core' ? 6 : 1;
  const tryMs = inPool * (costMs * 15 + batchTimeoutMs) + (retry?.maxBackoffMs ?? 0) + 20;
  const roundMs = prepareMs + 10 * saveMs + commitMs + scenario.acknowledgeMs + 20;
  const perRecord = 4 * ((retry?.attempts ?? 1) + 1) * tryMs + 10 * (writeMs + readMs) + roundMs;
  return safetyMs + 50 * (restartMs + 100) + 20 * records * perRecord;
}
