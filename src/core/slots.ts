/**
 * The slots of one pool's replicas: which there are and in which state, who starts, stops and restarts.
 *
 * Owns the cells, their restart windows and the hold of a supervisor. Does not own records (pool-core.ts), nor what a
 * generation means: which of them serves, and what the loss of a replica does to it, is succession.ts.
 *
 * F3 replicas that restart together start only after the last of them has ended. F4 while held, nothing starts. F7 where a
 * new version takes the places of the old one, no two replicas of one place live at once, on the way back neither.
 */

import { transition } from '../kernel/lifecycle.js';
import type { Random } from '../kernel/random.js';
import type { ScalingLimits } from './autoscaler.js';
import type { DeathNotice, Effect, PoolNews } from './effects.js';
import type { Flight, Ledger } from './ledger.js';
import { REPLICA_LIFECYCLE, type ReplicaEvent, type ReplicaState } from './lifecycles.js';
import { type DeathKind, type RestartLimits, RestartWindow } from './restart-window.js';
import { removeAt } from './short-list.js';
import type { RestartType, Strategy } from './supervisor.js';

export interface SlotLimits {
  readonly restart: RestartLimits;
  readonly restartType: RestartType;
  readonly strategy: Strategy;
  /** Where the pool scales by itself. */
  readonly scaling?: ScalingLimits | undefined;
}

/** One replica slot through all its incarnations. */
export interface Cell {
  readonly id: number;
  readonly replica: number;
  readonly generation: number;
  readonly version: string | undefined;
  readonly window: RestartWindow;
  /** What it was sent and has not answered, the batch it runs first (L3). */
  readonly flights: readonly Flight[];
  /** Token streams that it has begun to answer with and not ended. */
  streams: number;
  incarnation: number;
  state: ReplicaState;
  /** It runs a suspect alone. */
  solo: boolean;
  /** What it waits for before it starts: nothing, the end of whoever has its place, or of every replica of another version too. */
  readonly waitsFor: 'nothing' | 'place' | 'others';
  /** It has loaded and, where that is asked for, proved itself. */
  isProved: boolean;
  /** It was told to die because it hung; telling it once is enough. */
  killed: boolean;
  startAt: number;
  /** It loads or unloads a model, and may stand still for so long beyond the usual; else 0. */
  mayBlockMs: number;
  lastDeath: DeathNotice | undefined;
}

/** What a cell is made from. */
type Slot = Pick<Cell, 'replica' | 'generation' | 'version'> & Partial<Pick<Cell, 'waitsFor' | 'isProved'>>;

/** How a replica ended, seen from its work. */
export interface Ending {
  /** It held a batch. */
  readonly wasBusy: boolean;
  /** We had told it to. */
  readonly expected: boolean;
  /** The one suspect it ran is to blame. */
  readonly inQuarantine: boolean;
}

export interface SlotsOwner {
  emit(effect: Effect): void;
  /** The slot is no more. */
  removed(cell: Cell): void;
}

export class Slots {
  /** How many replicas there are to be. */
  replicas = 0;
  restartCount = 0;
  /** How often a replica was ended because nobody waited for what it ran. */
  replacedCount = 0;
  readonly deathCounts: Record<DeathKind | 'quarantine', number> = {
    init: 0,
    crash: 0,
    hang: 0,
    oom: 0,
    quarantine: 0,
  };
  /** A cell, its flights or which of them serves is no longer as it was when somebody set this to false. */
  hasChanged = true;
  readonly cells = new Map<number, Cell>();
  /** The same cells in the same order, for what is gone through every turn. */
  readonly list: Cell[] = [];

  readonly #limits: SlotLimits;
  readonly #random: Random;
  readonly #ledger: Ledger;
  readonly #owner: SlotsOwner;
  #lastCell = 0;
  #lastVersion: string | undefined;
  #isHeld = false;

  constructor(limits: SlotLimits, random: Random, ledger: Ledger, owner: SlotsOwner) {
    this.#limits = limits;
    this.#random = random;
    this.#ledger = ledger;
    this.#owner = owner;
  }

  /** A supervisor lets nothing start. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** Of the slot that was added last. */
  get lastVersion(): string | undefined {
    return this.#lastVersion;
  }

  /** Token streams of all replicas that have not ended. */
  get streamCount(): number {
    let count = 0;
    for (const { streams } of this.list) count += streams;
    return count;
  }

  /** No replica runs or is about to. */
  get isGone(): boolean {
    for (const cell of this.list) if (isAlive(cell)) return false;
    return true;
  }

  /** A replica of this generation lives or will live again. */
  lives(generation: number): boolean {
    for (const cell of this.list) if (cell.generation === generation && isAlive(cell)) return true;
    return false;
  }

  add({ replica, generation, version, waitsFor = 'nothing', isProved = true }: Slot, now: number): void {
    this.#lastVersion = version;
    const id = ++this.#lastCell;
    const cell: Cell = {
      id,
      replica,
      generation,
      version,
      window: new RestartWindow(this.#limits.restart),
      flights: this.#ledger.lane(id),
      streams: 0,
      incarnation: 0,
      state: 'idle',
      solo: false,
      waitsFor,
      isProved,
      killed: false,
      startAt: now,
      mayBlockMs: 0,
      lastDeath: undefined,
    };
    this.cells.set(id, cell);
    this.list.push(cell);
    this.hasChanged = true;
  }

  /** It has loaded. */
  ready(cell: Cell): void {
    this.#move(cell, 'ready');
    this.#news({ name: 'ready', replica: cell.replica, incarnation: cell.incarnation, version: cell.version });
    if (cell.incarnation === 1) return;
    this.restartCount++;
    this.#news({ name: 'restarted', replica: cell.replica, incarnation: cell.incarnation });
  }

  /** The replica hangs: it is told to die, and its end is awaited like any other. */
  condemn(cell: Cell): void {
    if (cell.killed) return;
    cell.killed = true;
    this.#move(cell, 'condemn');
    this.#owner.emit({ kind: 'kill', cell: cell.id });
  }

  /** What it runs is of no use any more: it ends now, and starts again where it was to live on. Blamed on nobody. */
  replace(cell: Cell): void {
    if (cell.killed) return;
    this.replacedCount++;
    // One that was to end or to start again anyway only does so sooner.
    if (cell.state === 'ready') this.#move(cell, 'replace');
    else if (cell.state === 'draining') this.#move(cell, 'stop');
    this.#owner.emit({ kind: 'stop', cell: cell.id, now: true });
  }

  /** A replica that drains has answered its last batch, and its last token stream has ended. */
  idle(cell: Cell): void {
    if (cell.state === 'draining') this.stop(cell, false);
  }

  /**
   * What becomes of the slot of a replica that has ended. `mayRestart`: its version is not of those that are given up for
   * it. True: it failed, and stays as it is.
   */
  ended(cell: Cell, death: DeathNotice, ending: Ending, mayRestart: boolean, now: number): boolean {
    cell.lastDeath = death;
    cell.streams = 0;
    if (cell.state === 'stopping' || cell.state === 'draining') {
      this.#move(cell, 'died');
      this.remove(cell);
      return false;
    }
    if (cell.state === 'recycling' || cell.state === 'replacing') {
      cell.startAt = now;
      this.#move(cell, 'died');
      return false;
    }
    const { restartType } = this.#limits;
    const comesAgain = restartType === 'permanent' || (restartType === 'transient' && isCrash(death, ending));
    if (!mayRestart || !comesAgain) {
      this.#move(cell, 'ended');
      return true;
    }
    if (ending.inQuarantine) {
      // Blamed on the record, so the replica starts again at once and keeps its own budget.
      cell.window.diedInQuarantine(now);
      this.deathCounts.quarantine++;
      this.#restartAt(cell, now, now);
      return false;
    }
    const kind = kindOf(death);
    this.deathCounts[kind]++;
    const decision = cell.window.died(kind, this.#random, now);
    if (decision.kind === 'restart') {
      this.#restartAt(cell, decision.at, now);
      return false;
    }
    this.#move(cell, 'gave-up');
    this.#news({ name: 'replica-failed', replica: cell.replica, death });
    return true;
  }

  #restartAt(cell: Cell, at: number, now: number): void {
    this.#move(cell, 'died');
    cell.startAt = at;
    this.#news({ name: 'restarting', replica: cell.replica, incarnation: cell.incarnation + 1, delayMs: at - now });
    if (this.#limits.strategy === 'one-for-one') return;
    // Replicas of a generation stand in the order of their start.
    let isAffected = this.#limits.strategy === 'one-for-all';
    for (const sibling of this.list) {
      if (sibling.generation !== cell.generation) continue;
      if (sibling === cell) isAffected = true;
      else if (isAffected && (sibling.state === 'ready' || sibling.state === 'starting')) this.#recycle(sibling);
    }
  }

  /** Starts what is due. */
  startDue(now: number): void {
    if (this.#isHeld) return; // F4
    const { list } = this;
    for (let i = 0; i < list.length; i++) if ((list[i] as Cell).state === 'recycling') return; // F3
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if ((cell.state !== 'idle' && cell.state !== 'backoff') || cell.startAt > now || this.#mustWait(cell)) continue;
      this.#move(cell, 'start');
      cell.incarnation++;
      cell.killed = false;
      cell.streams = 0;
      this.#owner.emit({
        kind: 'start',
        cell: cell.id,
        replica: cell.replica,
        // All replicas are told the same, so that they are alike whenever they were started.
        replicas: this.#limits.scaling?.max ?? this.replicas,
        incarnation: cell.incarnation,
        version: cell.version,
      });
    }
  }

  /** When `startDue` is needed at the latest; Infinity: not at all. */
  nextStartAt(): number {
    let startAt = Infinity;
    if (this.#isHeld) return startAt;
    const { list } = this;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (cell.state === 'recycling') return Infinity;
      if (cell.state === 'backoff' && cell.startAt < startAt && !this.#mustWait(cell)) startAt = cell.startAt;
    }
    return startAt;
  }

  /** F7. The end of a replica is what lets it start, so nobody need look again before. */
  #mustWait({ id, replica, generation, waitsFor }: Cell): boolean {
    if (waitsFor === 'nothing') return false;
    for (const other of this.list) {
      if (other.id === id || !hasPlace(other)) continue;
      if (other.replica === replica || (waitsFor === 'others' && other.generation !== generation)) return true;
    }
    return false;
  }

  /** Ends every replica until `release`; `held` is told when the last has ended. */
  hold(): void {
    this.#isHeld = true;
    this.hasChanged = true;
    for (const cell of this.cells.values())
      if (cell.state === 'ready' || cell.state === 'starting') this.#recycle(cell);
    this.checkHeld();
  }

  /** Tells that the last has ended, where they are held. */
  checkHeld(): void {
    if (!this.#isHeld) return;
    for (const { state } of this.list) {
      if (state !== 'backoff' && state !== 'failed' && state !== 'stopped' && state !== 'idle') return;
    }
    this.#news({ name: 'held' });
  }

  /** Starts the replicas again after `hold`, those that had given up with fresh budgets. */
  release(now: number): void {
    this.#isHeld = false;
    this.hasChanged = true;
    for (const cell of this.cells.values()) if (cell.state === 'backoff') cell.startAt = now;
    for (const cell of [...this.cells.values()].filter((one) => !isAlive(one))) {
      this.#drop(cell);
      this.add(cell, now);
    }
    this.startDue(now);
  }

  /** Forgets the slots of those that will not come again, and the hold. */
  clear(): void {
    for (const cell of this.cells.values()) if (!isAlive(cell)) this.#drop(cell);
    this.#isHeld = false;
    this.hasChanged = true;
  }

  stopAll(now: boolean): void {
    this.hasChanged = true;
    for (const cell of this.cells.values()) this.stop(cell, now);
  }

  /** Lets it finish what runs on it, and then go. */
  drain(cell: Cell): void {
    if (cell.state === 'ready' && !isFree(cell)) this.#move(cell, 'drain');
    else this.stop(cell, false);
  }

  stop(cell: Cell, now: boolean): void {
    this.#move(cell, 'stop');
    if (cell.state === 'stopped') this.remove(cell);
    else this.#owner.emit({ kind: 'stop', cell: cell.id, now });
  }

  /** One that has ended, or has never started. */
  remove(cell: Cell): void {
    this.#drop(cell);
    this.#owner.removed(cell);
  }

  #drop(cell: Cell): void {
    this.hasChanged = true;
    this.cells.delete(cell.id);
    removeAt(this.list, this.list.indexOf(cell));
    this.#ledger.forget(cell.id);
  }

  #recycle(cell: Cell): void {
    this.#move(cell, 'recycle');
    this.#owner.emit({ kind: 'stop', cell: cell.id, now: false });
  }

  #move(cell: Cell, event: ReplicaEvent): void {
    this.hasChanged = true;
    cell.state = transition('replica', REPLICA_LIFECYCLE, cell.state, event);
  }

  #news(news: PoolNews): void {
    this.#owner.emit({ kind: 'news', news });
  }
}

/** Nothing that was asked of it runs. */
export function isFree({ flights, streams }: Pick<Cell, 'flights' | 'streams'>): boolean {
  return flights.length === 0 && streams === 0;
}

/** It runs, or is ending: its memory is not there for another. */
function hasPlace({ state }: Cell): boolean {
  return state !== 'idle' && state !== 'backoff' && state !== 'stopped' && state !== 'failed';
}

/** It runs, or will. */
export function isAlive(cell: Cell): boolean {
  return cell.state !== 'failed' && cell.state !== 'stopped';
}

/** OTP's words for an end: exit code 0 or SIGTERM from outside while it had no work is no crash. */
function isCrash(death: DeathNotice, ending: Ending): boolean {
  if (ending.expected) return false;
  if (ending.wasBusy) return true;
  return !(
    (death.cause === 'exit' && death.exitCode === 0) ||
    (death.cause === 'killed' && death.signal === 'SIGTERM')
  );
}

function kindOf(death: DeathNotice): DeathKind {
  switch (death.cause) {
    case 'load-failed':
      return 'init';
    case 'hung':
      return 'hang';
    case 'oom':
      return 'oom';
    default:
      return 'crash';
  }
}
