/**
 * Which replica loads which model, and what has to go for it, in a pool that holds many models.
 *
 * Owns what every replica holds (resident-models.ts) and what is known of every model (model-book.ts). Does not own the
 * records: which waits for which model is read off the mailbox and the retry lane, turn by turn (model-wants.ts), so nothing
 * here can disagree with them. feeder.ts gives a replica only what it holds; this decides what else it should.
 *
 * D1 of one replica the models together never pass maxBytes, as far as their sizes are known. D2 a model with a batch or
 * a token stream at the replica, or that waits for its first one since its load, or is pinned, is not unloaded. D3 work for a model that no
 * replica holds makes one replica load it, once: those that come meanwhile wait for the same load. D4 a replica that is
 * idle while work waits loads what waits: at once where there is room, and where something would have to go for it as
 * soon as the work has waited as long as the load takes. D5 no model keeps its place for ever: after a turn as long as
 * the other one's load, it goes for one that no replica holds, though it has work itself. D6 a load that fails costs the
 * records of its model and nothing else; a replica that ends while it loads is blamed on the load.
 */

import type { TroupeError } from '../kernel/errors.js';
import type { DeathNotice } from './effects.js';
import type { Fleet } from './fleet.js';
import type { Cell } from './slots.js';
import type { HangWatch } from './hang-watch.js';
import type { Mailbox } from './mailbox.js';
import { type KnownModel, ModelBook } from './model-book.js';
import { ModelHoldings } from './model-holdings.js';
import { ModelPlaces, type Place, victimsOf } from './model-places.js';
import { ModelRefusals } from './model-refusals.js';
import { ModelWants, type Want } from './model-wants.js';
import type { Outbox } from './outbox.js';
import { type EvictionReason, isInUse, type ResidentModel, type ResidentModels } from './resident-models.js';
import type { RetryLane } from './retry-lane.js';
import { isBlamed } from './salvage.js';
import type { Settlement } from './settlement.js';

export interface ModelLimits {
  /** Of each replica. */
  readonly maxBytes: number;
  /** A model nobody has used for this long goes; Infinity for never. */
  readonly ttlMs: number;
  readonly loadTimeoutMs: number;
}

export interface ModelDeskParts {
  readonly pool: string;
  readonly hangs: HangWatch;
  readonly fleet: Fleet;
  readonly mailbox: Mailbox;
  readonly retries: RetryLane;
  readonly settlement: Settlement;
  readonly outbox: Outbox;
}

export class ModelDesk {
  readonly limits: ModelLimits;
  readonly book: ModelBook;
  readonly holdings: ModelHoldings;
  readonly refusals: ModelRefusals;
  readonly #hangs: HangWatch;
  readonly #fleet: Fleet;
  readonly #outbox: Outbox;
  readonly #wants: ModelWants;
  readonly #places: ModelPlaces;
  readonly #pins = new Set<string>();
  /** Loaded before anybody asks for it, on each replica that holds `from`; kept until it is let go. */
  readonly #prepared = new Map<string, { readonly from: string | undefined; isTold: boolean }>();
  /** They go when they have no work left: another version has taken the place, or somebody asked for it. */
  readonly #leaving = new Map<string, 'replaced' | 'asked'>();
  #wakeAt = Infinity;
  #hasReopened = false;

  constructor(limits: ModelLimits, { pool, hangs, fleet, mailbox, retries, settlement, outbox }: ModelDeskParts) {
    const { maxBytes } = limits;
    const book = new ModelBook((key) => this.#isWanted(key) || this.holdings.isHeld(key));
    const holdings = new ModelHoldings(fleet);
    const wants = new ModelWants(mailbox, retries);
    const isKept = (key: string): boolean => this.#isKept(key);
    const wake = (at: number, now: number): void => this.#wake(at, now);
    this.limits = limits;
    this.book = book;
    this.holdings = holdings;
    this.refusals = new ModelRefusals({ pool, maxBytes, book, wants, settlement, outbox });
    this.#hangs = hangs;
    this.#fleet = fleet;
    this.#outbox = outbox;
    this.#wants = wants;
    this.#places = new ModelPlaces({ maxBytes, fleet, holdings, wants, isKept, wake });
  }

  // ----------------------------------------------------------- what others ask

  /** When `plan` or `look` is needed at the latest. */
  get wakeAt(): number {
    return this.#wakeAt;
  }

  /** Somebody waits for a model. */
  get isBusy(): boolean {
    return !this.#wants.isEmpty || this.#prepared.size > 0 || this.holdings.isChanging;
  }

  isPinned(key: string): boolean {
    return this.#pins.has(key);
  }

  /** Every serving replica holds what is pinned. */
  get hasPins(): boolean {
    for (const cell of this.#fleet.list) {
      if (!this.#fleet.serves(cell)) continue;
      for (const key of this.#pins) if (!this.holdings.of(cell).mayRun(key)) return false;
    }
    return true;
  }

  // ------------------------------------------------------------- what is told

  /** Kept by every replica, from now on. */
  pin(key: string): void {
    this.#pins.add(key);
    this.#leaving.delete(key);
  }

  /**
   * Loads it beside `from`, wherever that is held, or somewhere if it is held nowhere, and keeps it until it is let go.
   * The news is `model-prepared`, or `model-failed`.
   */
  prepare(key: string, from: string | undefined): void {
    this.#leaving.delete(key);
    this.#prepared.set(key, { from, isTold: false });
  }

  /** It is not kept for its own sake any more. */
  letGo(key: string): void {
    this.#prepared.delete(key);
  }

  /**
   * Records for `from` go to another version from now on; what waits for it still gets its answer from it. `pins`: what
   * every replica is to keep now.
   */
  replace(from: string, pins: readonly string[]): void {
    if (this.holdings.isHeld(from)) this.#leaving.set(from, 'replaced');
    this.#pins.clear();
    for (const key of pins) this.pin(key);
  }

  /** It goes where it is held, as soon as it has no work left; false: it is pinned. Who asks for it later has it loaded. */
  dismiss(key: string): boolean {
    if (this.isPinned(key)) return false;
    if (this.holdings.isHeld(key)) this.#leaving.set(key, 'asked');
    return true;
  }

  /** How much it holds, by its files. */
  located(key: string, bytes: number, now: number): void {
    const known = this.book.get(key);
    known.isLocating = false;
    known.bytes ??= bytes;
    if (this.refusals.isTooLarge(known)) this.refusals.tooLarge(known, now);
  }

  /** Its files cannot be found or used. */
  locateFailed(key: string, error: TroupeError, now: number): void {
    this.book.get(key).isLocating = false;
    this.refusals.failed(key, error, now);
  }

  /** `bytes`: what its load said; undefined: what it was taken for. */
  loaded(cellId: number, incarnation: number, key: string, bytes: number | undefined, now: number): void {
    const cell = this.#fleet.cells.get(cellId);
    const model = this.#changing(cell, incarnation, key, 'loading');
    if (cell === undefined || model === undefined) return;
    const models = this.holdings.of(cell);
    const loadMs = now - model.since;
    const size = bytes ?? model.bytes;
    models.loaded(model, size, now);
    this.book.get(key).loaded(loadMs, size);
    this.#calm(cell, now);
    const { replica } = cell;
    this.#outbox.tell({ name: 'model-loaded', replica, incarnation, key, bytes: size, loadMs });
    if (models.bytes > this.limits.maxBytes) this.#shrink(cell, models, model, now);
  }

  loadFailed(cellId: number, incarnation: number, key: string, error: TroupeError, now: number): void {
    const cell = this.#fleet.cells.get(cellId);
    const model = this.#changing(cell, incarnation, key, 'loading');
    if (cell === undefined || model === undefined) return;
    this.holdings.of(cell).remove(model);
    this.#calm(cell, now);
    this.refusals.failed(key, error, now);
  }

  /** `error`: what unload() threw. What it held is taken to be free all the same. */
  unloaded(cellId: number, incarnation: number, key: string, error: TroupeError | undefined, now: number): void {
    const cell = this.#fleet.cells.get(cellId);
    const model = this.#changing(cell, incarnation, key, 'unloading');
    if (cell === undefined || model === undefined) return;
    this.holdings.of(cell).remove(model);
    this.book.get(key).evictionCount++;
    if (this.#leaving.has(key) && !this.holdings.isHeld(key)) this.#leaving.delete(key);
    this.#calm(cell, now);
    const { bytes, reason } = model;
    this.#outbox.tell({ name: 'model-evicted', replica: cell.replica, incarnation, key, bytes, reason, error });
  }

  sent(cell: Cell, key: string): void {
    const model = this.holdings.of(cell).sent(key);
    if (model !== undefined && model.sentCount > 1) this.book.get(key).hitCount++;
  }

  answered(cell: Cell, key: string, now: number): void {
    this.holdings.of(cell).answered(key, now);
  }

  /** So many more token streams of it run. */
  streamsBegan(cell: Cell, key: string, count: number): void {
    this.holdings.of(cell).streamsBegan(key, count);
  }

  streamEnded(cell: Cell, key: string, now: number): void {
    this.holdings.of(cell).streamEnded(key, now);
  }

  /** D6. The replica has ended; true: its end is blamed on what it loaded or unloaded, and on no record. */
  died(cell: Cell, death: DeathNotice, expected: boolean, now: number): boolean {
    const models = this.holdings.drop(cell);
    cell.mayBlockMs = 0;
    if (models === undefined || !models.isChanging || expected || !isBlamed(death.cause)) return false;
    if (models.loading !== undefined) this.refusals.died(models.loading.key, cell, death, now);
    return true;
  }

  // ----------------------------------------------------------- what is decided

  /**
   * Begins what is to be loaded and unloaded. To be called when replicas have been given what they may run; true: some may
   * run more than before, because what was to go stays.
   */
  plan(now: number): boolean {
    this.#wakeAt = Infinity;
    this.#hasReopened = false;
    this.#wants.look(now);
    // It went with its replica; who asks for it by its version later means it.
    for (const key of this.#leaving.keys())
      if (!this.#isWanted(key) && !this.holdings.isHeld(key)) this.#leaving.delete(key);
    const { list } = this.#fleet;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (this.#fleet.serves(cell)) this.#advance(cell, this.holdings.of(cell), now);
    }
    this.#keepPins(now);
    if (!this.#wants.isEmpty) for (const want of this.#wants.inOrder()) this.#serve(want, now);
    for (const [key, prepared] of this.#prepared) {
      if (prepared.isTold || !this.#prepare(key, prepared.from, now)) continue;
      prepared.isTold = true;
      this.#outbox.tell({ name: 'model-prepared', key });
    }
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (this.#fleet.serves(cell)) this.#sweep(cell, this.holdings.of(cell), now);
    }
    return this.#hasReopened;
  }

  /** Ends replicas whose load or unload takes longer than it may. */
  look(now: number): void {
    for (const cell of this.#fleet.list) {
      const dueAt = cell.killed ? Infinity : this.#overdueAt(this.holdings.peek(cell));
      if (dueAt <= now && (cell.state === 'ready' || cell.state === 'draining')) this.#fleet.condemn(cell);
    }
  }

  #overdueAt(models: ResidentModels | undefined): number {
    if (models === undefined || !models.isChanging) return Infinity;
    let since = models.loading?.since ?? Infinity;
    if (models.unloadingCount > 0)
      for (const model of models.leastRecent())
        if (model.state === 'unloading' && model.since < since) since = model.since;
    return since + this.limits.loadTimeoutMs;
  }

  #keepPins(now: number): void {
    if (this.#pins.size === 0) return;
    for (const key of this.#pins) {
      const known = this.#mayTry(key, now);
      if (known === undefined) continue;
      for (const cell of this.#fleet.list) {
        this.#begin(this.#places.at(cell, known, true, now), known, now);
      }
    }
  }

  #serve(want: Want, now: number): void {
    const { key } = want;
    const known = this.#mayTry(key, now);
    if (known === undefined) return;
    let holders = 0;
    for (const cell of this.#fleet.list) {
      if (!this.#fleet.serves(cell)) continue;
      const models = this.holdings.of(cell);
      if (models.next?.key === key) return; // D3
      const state = models.get(key)?.state;
      if (state === 'loading') return; // D3
      if (state !== 'ready') continue;
      if (cell.flights.length === 0) return; // It waits there for company, or for its turn.
      holders++;
    }
    if (holders === 0) this.#begin(this.#places.best(known, false, now), known, now);
    else {
      // D4
      const place = this.#places.best(known, true, now);
      const dueAt = want.oldestAt + known.loadMs;
      if (place === undefined || place.victims.length === 0 || dueAt <= now) this.#begin(place, known, now);
      else this.#wake(dueAt, now);
    }
  }

  /** True: it is there, wherever it is to be. */
  #prepare(key: string, from: string | undefined, now: number): boolean {
    const known = this.#mayTry(key, now);
    if (known === undefined) return false;
    const { list } = this.#fleet;
    const targets = list.filter(
      (cell) => this.#fleet.serves(cell) && from !== undefined && this.holdings.of(cell).get(from) !== undefined,
    );
    for (const cell of targets) this.#begin(this.#places.at(cell, known, true, now), known, now);
    if (targets.length > 0) return targets.every((cell) => this.holdings.of(cell).mayRun(key));
    if (this.holdings.holders(key) > 0) return true;
    if (!list.some((cell) => this.holdings.of(cell).get(key) !== undefined || this.holdings.of(cell).next?.key === key))
      this.#begin(this.#places.best(known, false, now), known, now);
    return false;
  }

  /** What is known of it, where its load may begin; else what stands in the way is dealt with. */
  #mayTry(key: string, now: number): KnownModel | undefined {
    const known = this.book.get(key);
    if (known.failedUntil > now || this.refusals.isTooLarge(known)) {
      this.refusals.refuse(known, now);
      this.#wake(known.failedUntil, now);
      return undefined;
    }
    if (known.bytes !== undefined) return known;
    if (!known.isLocating) {
      known.isLocating = true;
      this.#outbox.emit({ kind: 'locate', key });
    }
    return undefined;
  }

  /** D2: pinned, or loaded for a swap that is under way. */
  #isKept(key: string): boolean {
    return this.#pins.has(key) || this.#prepared.has(key);
  }

  #begin(place: Place | undefined, { key, bytes = 0 }: KnownModel, now: number): void {
    if (place === undefined) return;
    const models = this.holdings.of(place.cell);
    models.next = { key, bytes };
    for (const victim of place.victims) close(victim, 'room');
    this.#advance(place.cell, models, now);
  }

  /** Unloads what is to go and has no work left (D2), then loads what was to come (D1). */
  #advance(cell: Cell, models: ResidentModels, now: number): void {
    const { next } = models;
    if (next !== undefined && !this.#isWanted(next.key)) {
      models.next = undefined;
      for (const model of models.leastRecent())
        if (model.state === 'closing' && model.reason === 'room') {
          model.state = 'ready';
          this.#hasReopened = true;
        }
    }
    if (cell.killed) return;
    for (const model of closingOf(models)) if (!isInUse(cell.flights, model)) this.#unload(cell, models, model, now);
    if (models.next !== undefined) this.#load(cell, models, models.next, now);
    this.#wake(this.#overdueAt(models), now);
  }

  #load(cell: Cell, models: ResidentModels, { key, bytes }: { key: string; bytes: number }, now: number): void {
    if (cell.solo || models.bytes + Math.max(1, bytes) > this.limits.maxBytes) return;
    models.load(key, bytes, now);
    this.#disturb(cell);
    this.#outbox.emit({ kind: 'load-model', cell: cell.id, incarnation: cell.incarnation, key });
  }

  #unload(cell: Cell, models: ResidentModels, model: ResidentModel, now: number): void {
    models.unload(model, now);
    this.#disturb(cell);
    this.#outbox.emit({ kind: 'unload-model', cell: cell.id, incarnation: cell.incarnation, key: model.key });
  }

  #isWanted(key: string): boolean {
    return this.#wants.has(key) || this.#isKept(key);
  }

  /** A load said that it holds more than it was taken for. */
  #shrink(cell: Cell, models: ResidentModels, newest: ResidentModel, now: number): void {
    const overBytes = models.bytes - this.limits.maxBytes;
    this.#wants.look(now);
    const idle = [...models.leastRecent()].filter((model) => {
      const isFree = model.state === 'ready' && !this.#isKept(model.key) && !isInUse(cell.flights, model);
      return isFree && model !== newest && (model.hasAnswered || !this.#wants.has(model.key));
    });
    const victims = newest.bytes > this.limits.maxBytes ? undefined : victimsOf(idle, overBytes);
    if (victims !== undefined) {
      for (const victim of victims) close(victim, 'room');
    } else if (newest.bytes > this.limits.maxBytes) {
      close(newest, 'too-large');
      this.refusals.tooLarge(this.book.get(newest.key), now);
    } else close(newest, 'room');
    this.#advance(cell, models, now);
  }

  /** Unloads what nobody has used for ttlMs, and what is leaving. */
  #sweep(cell: Cell, models: ResidentModels, now: number): void {
    const { ttlMs } = this.limits;
    if (models.count === 0 || (ttlMs === Infinity && this.#leaving.size === 0)) return;
    let hasLeaving = false;
    for (const model of models.leastRecent()) {
      if (model.state !== 'ready' || this.#isWanted(model.key) || isInUse(cell.flights, model)) continue;
      const leaving = this.#leaving.get(model.key);
      const dueAt = leaving === undefined ? model.usedAt + ttlMs : -Infinity;
      if (dueAt > now) {
        this.#wake(dueAt, now);
        if (this.#leaving.size === 0) break; // Those behind it were used later.
        continue;
      }
      close(model, leaving ?? 'ttl');
      hasLeaving = true;
    }
    if (hasLeaving) this.#advance(cell, models, now);
  }

  /** Its loop may stand still now: a batch it runs has more time. */
  #disturb(cell: Cell): void {
    cell.mayBlockMs = this.limits.loadTimeoutMs;
    this.#fleet.hasChanged = true;
  }

  /** A load or unload has ended; what ran beside it is given a moment before it counts as hung. */
  #calm(cell: Cell, now: number): void {
    this.#fleet.hasChanged = true;
    if (this.holdings.of(cell).isChanging) return;
    this.#hangs.spare(cell, now);
    cell.mayBlockMs = 0;
  }

  #changing(
    cell: Cell | undefined,
    incarnation: number,
    key: string,
    state: 'loading' | 'unloading',
  ): ResidentModel | undefined {
    if (cell === undefined || cell.incarnation !== incarnation) return undefined;
    const model = this.holdings.of(cell).get(key);
    return model?.state === state ? model : undefined;
  }

  #wake(at: number, now: number): void {
    if (at > now && at < this.#wakeAt) this.#wakeAt = at;
  }
}

function close(model: ResidentModel, reason: EvictionReason): void {
  model.state = 'closing';
  model.reason = reason;
}

function closingOf(models: ResidentModels): ResidentModel[] {
  const closing: ResidentModel[] = [];
  if (models.count > 0) for (const model of models.leastRecent()) if (model.state === 'closing') closing.push(model);
  return closing;
}
