/**
 * One simulated life of a stream, over all its runs: time, chance, the phase, and what was seen.
 *
 * W1 everything that happens is an event of the scheduler or a call made inside one. W2 faults strike in the safety
 * phase only; in the liveness phase nothing new goes wrong, so the stream must come to its end.
 */
import type { FaultDice } from '../fault-dice.js';
import type { Scheduler } from '../scheduler.js';
import { Chance, mix } from '../seeds.js';
import { Violated } from '../world.js';
import { STREAM_FAULT_KINDS, type StreamFaultKind } from './faults.js';
import type { StreamScenario } from './scenario.js';

/** Kinds of events; numbers, because the scheduler holds them in an array of bytes. */
export const STREAM_EVENT = {
  start: 1,
  done: 2, // something that was asked of the outside has ended, well or not
  answer: 3, // of a batch
  expire: 4, // a submission's time in the pool is up
  replica: 5, // a replica is there again
  delay: 6, // a partial batch has waited long enough
  drop: 7, // the overflow rule tells what it dropped
  wake: 8, // the timer of an infer step
  idle: 9, // two turns of the loop after an infer step came to stand still
  due: 10, // the interval of checkpoints
  request: 11,
  end: 12, // a planned end of the run
  disturb: 13,
  liveness: 14,
  pool: 15, // of a core pool: its timer, or something about a replica
} as const;

const EVENT_NAMES: readonly string[] = (() => {
  const names: string[] = [];
  for (const [name, kind] of Object.entries(STREAM_EVENT)) names[kind] = name;
  return names;
})();

/** Ways in which the outside lies, for scenarios that must fail. */
export interface StreamLies {
  /** Files say that they are synced, and are not. */
  readonly ignoresSync?: boolean;
}

export interface StreamActor {
  handle(kind: number, a: number, ref: unknown): void;
}

export class StreamWorld {
  readonly scheduler: Scheduler;
  readonly scenario: StreamScenario;
  /** By index of STREAM_FAULT_KINDS. */
  readonly firedCounts: number[];
  readonly chance: Chance;
  eventCount = 0;
  /** FNV over every event and every outcome. */
  traceHash = 0x811c9dc5;
  isSafe = true;
  /** The last stall of the loop; timers due inside it go off at its end. */
  stalledFrom = -1;
  stalledUntil = -1;
  wallOffsetMs = 0;
  log: ((line: string) => void) | undefined;
  lies: StreamLies = {};
  readonly #dice: FaultDice<StreamFaultKind>;
  readonly #quantumMs: number;

  /** Scheduler and dice may have served another world, which is over. */
  constructor(scenario: StreamScenario, scheduler: Scheduler, dice: FaultDice<StreamFaultKind>) {
    this.scenario = scenario;
    this.scheduler = scheduler;
    scheduler.reset(mix(scenario.seed, 12));
    dice.reset(scenario.seed, scenario.faults);
    this.#dice = dice;
    this.chance = new Chance(scenario.seed, 13);
    this.firedCounts = new Array<number>(STREAM_FAULT_KINDS.length).fill(0);
    this.#quantumMs = scenario.quantumMs;
  }

  get now(): number {
    return this.scheduler.now;
  }

  /** Does this fault (a number of STREAM_FAULT) strike here? Counts it if so (W2). */
  strikes(kind: number): boolean {
    if (!this.isSafe || !this.#dice.roll(kind)) return false;
    this.fired(kind);
    return true;
  }

  fired(kind: number): void {
    this.firedCounts[kind] = (this.firedCounts[kind] as number) + 1;
  }

  /** Something happens after `delayMs`, on the grid of the scenario's clock. */
  after(delayMs: number, kind: number, a: number, ref: unknown): void {
    const at = this.scheduler.now + delayMs;
    this.scheduler.schedule(
      this.#quantumMs === 0 ? at : Math.ceil(at / this.#quantumMs) * this.#quantumMs,
      kind,
      a,
      ref,
    );
  }

  /** To the point, as a timer. */
  at(at: number, kind: number, a: number, ref: unknown): void {
    this.scheduler.schedule(at, kind, a, ref);
  }

  /** Stands still for `ms`: what falls into it is heard at its end. */
  stall(ms: number): void {
    if (this.now > this.stalledUntil) this.stalledFrom = this.now;
    this.stalledUntil = this.now + ms;
  }

  /** May a timer for `at` go off only now, because the loop stood still? */
  isExcused(at: number): boolean {
    return at >= this.stalledFrom && this.now <= this.stalledUntil;
  }

  violate(checker: string, what: string): never {
    throw new Violated({ checker, what, at: this.now });
  }

  note(value: number): void {
    this.traceHash = Math.imul(this.traceHash ^ value, 0x01000193);
  }

  say(what: string): void {
    this.log?.(`${' '.repeat(14)}${what}`);
  }

  /**
   * Runs until nothing is left to happen. More events than `maxEvents` or time beyond `maxMs` is a violation; a checkpoint
   * that falls due while a stream waits for its breaker or a backoff is no sign of spinning, and comes on top.
   */
  run(actor: StreamActor, maxEvents: number, maxMs: number): void {
    const { scheduler } = this;
    const { intervalMs } = this.scenario;
    while (scheduler.pop()) {
      const { kind, a, ref, now } = scheduler;
      if (now < this.stalledUntil) {
        scheduler.schedule(this.stalledUntil, kind, a, ref);
        continue;
      }
      if (++this.eventCount > maxEvents && this.eventCount > maxEvents + now / intervalMs)
        this.violate('progress', `more than ${maxEvents} events: something spins`);
      if (now > maxMs) this.violate('progress', `not done after ${Math.round(maxMs)} virtual ms`);
      this.note((now * 1024) | 0);
      this.note((kind << 16) ^ a);
      this.log?.(`${now.toFixed(3).padStart(12)}  ${EVENT_NAMES[kind]} ${a}`);
      actor.handle(kind, a, ref);
    }
  }
}
