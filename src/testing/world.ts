/**
 * One simulated run: time, chance, the phase, and what was seen. Pools, replicas and clients live in it.
 *
 * W1 everything that happens is an event of the scheduler or a call made inside one. W2 faults fire in the safety phase
 * only; in the liveness phase nothing new goes wrong, so whatever is still held then must come out.
 */

import { FaultDice } from './fault-dice.js';
import { FAULT_KINDS } from './faults.js';
import type { Scenario } from './scenario.js';
import type { Scheduler } from './scheduler.js';
import { Chance, mix } from './seeds.js';

/** Kinds of events; numbers, because the scheduler holds them in an array of bytes. */
export const EVENT = {
  arrive: 1,
  cancel: 2,
  deliver: 3,
  finish: 4,
  reply: 5,
  loaded: 6,
  exit: 7,
  died: 8,
  wake: 9,
  consume: 10,
  disturb: 11,
  resume: 12,
  swap: 13,
  scale: 14,
  drain: 15,
  stop: 16,
  revive: 17,
  liveness: 18,
  close: 19,
  lastRung: 20,
  ready: 21,
  call: 22,
  hold: 23,
  release: 24,
  promote: 25,
  rollBack: 26,
  verified: 27,
  shown: 28,
} as const;

const EVENT_NAMES: readonly string[] = (() => {
  const names: string[] = [];
  for (const [name, kind] of Object.entries(EVENT)) names[kind] = name;
  return names;
})();

/** What the host hears or does itself: it waits while the host's loop stands still, and it alone makes a turn of it. */
const ON_HOST: readonly boolean[] = (() => {
  const host: boolean[] = [];
  for (const kind of [
    'arrive',
    'cancel',
    'reply',
    'died',
    'wake',
    'consume',
    'ready',
    'swap',
    'scale',
    'hold',
    'release',
    'drain',
    'stop',
    'revive',
    'close',
    'call',
    'promote',
    'rollBack',
    'verified',
    'shown',
  ] as const)
    host[EVENT[kind]] = true;
  return Array.from(host, (yes) => yes === true);
})();

const NONE_FIRED: readonly number[] = FAULT_KINDS.map(() => 0);

export interface Violation {
  /** Name of the checker. */
  readonly checker: string;
  readonly what: string;
  /** Virtual milliseconds. */
  readonly at: number;
}

/** Thrown to end a run at its first violation; the run itself catches it. */
export class Violated extends Error {
  constructor(readonly violation: Violation) {
    super(`${violation.checker}: ${violation.what}`);
  }
}

export interface Actor {
  handle(kind: number, a: number, ref: unknown): void;
  /** All that the host heard or did at this instant has been handled. */
  endTurn(): void;
}

export class World {
  readonly scheduler: Scheduler;
  /** By index of FAULT_KINDS. */
  readonly firedCounts: number[];
  eventCount = 0;
  /** What the host heard or did in this turn; the first turn is that of the start. */
  heardCount = 1;
  /** FNV over every event and every outcome. */
  traceHash = 0x811c9dc5 | 0;
  /** False: the liveness phase has begun (W2). */
  isSafe = true;
  stalledUntil = 0;
  wallOffsetMs = 0;
  log: ((line: string) => void) | undefined;

  readonly transport: Chance;
  readonly clients: Chance;
  readonly replicas: Chance;
  readonly operations: Chance;
  readonly #dice: FaultDice;
  /** What can go wrong now, by bits of FAULT: most seeds have few kinds, and all are asked for all the time. */
  #risks: number;
  readonly #quantumMs: number;
  readonly #netLowMs: number;
  readonly #netSpanMs: number;

  /** The scheduler and the dice may have served another world, whose run is over. */
  constructor(
    readonly scenario: Scenario,
    scheduler: Scheduler,
    dice: FaultDice = new FaultDice(),
  ) {
    const { seed, netMs } = scenario;
    this.scheduler = scheduler;
    scheduler.reset(mix(seed, 2));
    this.transport = new Chance(seed, 3);
    this.clients = new Chance(seed, 4);
    this.replicas = new Chance(seed, 5);
    this.operations = new Chance(seed, 6);
    this.#dice = dice;
    dice.reset(seed, scenario.faults);
    this.#risks = dice.on;
    this.firedCounts = NONE_FIRED.slice();
    this.#quantumMs = scenario.quantumMs;
    this.#netLowMs = netMs[0];
    this.#netSpanMs = netMs[1] - netMs[0];
  }

  get now(): number {
    return this.scheduler.now;
  }

  /** Does this fault (a number of FAULT) strike here? Counts it if so (W2). */
  strikes(kind: number): boolean {
    return (this.#risks & (1 << kind)) !== 0 && this.#roll(kind);
  }

  #roll(kind: number): boolean {
    if (!this.#dice.roll(kind)) return false;
    this.fired(kind);
    return true;
  }

  /** From here on nothing new goes wrong (W2). */
  calm(): void {
    this.isSafe = false;
    this.#risks = 0;
  }

  fired(kind: number): void {
    this.firedCounts[kind] = (this.firedCounts[kind] as number) + 1;
  }

  /** Something happens after `delayMs`, on the grid of the scenario's clock. */
  after(delayMs: number, kind: number, a: number, ref: unknown): void {
    const { scheduler } = this;
    const quantumMs = this.#quantumMs;
    const at = scheduler.now + delayMs;
    scheduler.schedule(quantumMs === 0 ? at : Math.ceil(at / quantumMs) * quantumMs, kind, a, ref);
  }

  at(at: number, kind: number, a: number, ref: unknown): void {
    this.scheduler.schedule(at, kind, a, ref);
  }

  /** A message on the wire takes this long. */
  netMs(): number {
    return this.#netSpanMs === 0 ? this.#netLowMs : this.#netLowMs + this.transport.next() * this.#netSpanMs;
  }

  violate(checker: string, what: string): never {
    throw new Violated({ checker, what, at: this.now });
  }

  note(value: number): void {
    this.traceHash = Math.imul(this.traceHash ^ value, 0x01000193);
  }

  /** Runs until nothing is left to happen. More events than `maxEvents` or time beyond `maxMs` is a violation. */
  run(actor: Actor, maxEvents: number, maxMs: number): void {
    const { scheduler } = this;
    let inTurn = false;
    while (scheduler.pop()) {
      const { kind, a, ref, now } = scheduler;
      if (ON_HOST[kind] === true) {
        if (now < this.stalledUntil) {
          scheduler.schedule(this.stalledUntil, kind, a, ref);
          // The stall began after a turn had: that turn ends first.
          if (inTurn && scheduler.nextAt > now) {
            inTurn = false;
            actor.endTurn();
          }
          continue;
        }
        inTurn = true;
        this.heardCount++;
      }
      if (++this.eventCount > maxEvents) this.violate('progress', `more than ${maxEvents} events: something spins`);
      if (now > maxMs) this.violate('progress', `not done after ${Math.round(maxMs)} virtual ms`);
      this.note((now * 1024) | 0);
      this.note((kind << 16) ^ a);
      this.log?.(`${now.toFixed(3).padStart(12)}  ${EVENT_NAMES[kind]} ${a}`);
      actor.handle(kind, a, ref);
      if (inTurn && scheduler.nextAt > now) {
        inTurn = false;
        actor.endTurn();
      }
    }
  }
}
