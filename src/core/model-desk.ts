/**
 * Which replica loads which model, and what has to go for it, in a pool that holds many models.
 *
 * Owns what every replica holds (resident-models.ts) and what is known of every model (model-book.ts). Does not own the
 * records: which waits for which model is read off the mailbox and the retry lane, turn by turn, so nothing here can
 * disagree with them. feeder.ts gives a replica only what it holds; this decides what else it should.
 *
 * D1 of one replica the models together never pass maxBytes, as far as their sizes are known. D2 a model with a batch at
 * the replica, or that waits for its first one since its load, or is pinned, is not unloaded. D3 work for a model that no
 * replica holds makes one replica load it, once: those that come meanwhile wait for the same load. D4 a replica that is
 * idle while work waits loads what waits: at once where there is room, and where something would have to go for it as
 * soon as the work has waited as long as the load takes. D5 no model keeps its place for ever: after a turn as long as
 * the other one's load, it goes for one that no replica holds, though it has work itself. D6 a load that fails costs the
 * records of its model and nothing else; a replica that ends while it loads is blamed on the load.
 */

import { TroupeError } from '../kernel/errors.js';
import { type DeathNotice, describeDeath } from './effects.js';
import { modelNotLoaded, modelTooLarge } from './failure.js';
import type { Cell, Fleet } from './fleet.js';
import type { HangWatch } from './hang-watch.js';
import type { Mailbox } from './mailbox.js';
import { ModelBook, type KnownModel } from './model-book.js';
import type { Outbox } from './outbox.js';
import { type EvictionReason, type Holders, isWith, type ResidentModel, ResidentModels } from './resident-models.js';
import type { Request } from './request.js';
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

/** Work that waits for one model. */
interface Want {
  readonly key: string;
  urgency: number;
  oldestAt: number;
}

/** Where one could be loaded, and for what price. */
interface Place {
  readonly cell: Cell;
  readonly victims: readonly ResidentModel[];
  readonly rank: number;
  readonly freeBytes: number;
}

export class ModelDesk implements Holders {
  readonly limits: ModelLimits;
  readonly book: ModelBook;
  readonly #pool: string;
  readonly #hangs: HangWatch;
  readonly #fleet: Fleet;
  readonly #mailbox: Mailbox;
  readonly #retries: RetryLane;
  readonly #settlement: Settlement;
  readonly #outbox: Outbox;
  readonly #held = new Map<number, ResidentModels>();
  readonly #pins = new Set<string>();
  /** Loaded before anybody asks for it, on each replica that holds `from`; kept until it is let go. */
  readonly #prepared = new Map<string, { readonly from: string | undefined; isTold: boolean }>();
  /** Another version has taken its place: it goes when it has no work left. */
  readonly #replaced = new Set<string>();
  #wants = new Map<string, Want>();
  #wakeAt = Infinity;
  #hasReopened = false;

  constructor(limits: ModelLimits, { pool, hangs, fleet, mailbox, retries, settlement, outbox }: ModelDeskParts) {
    this.limits = limits;
    this.#pool = pool;
    this.#hangs = hangs;
    this.#fleet = fleet;
    this.#mailbox = mailbox;
    this.#retries = retries;
    this.#settlement = settlement;
    this.#outbox = outbox;
    this.book = new ModelBook((key) => this.#isInUse(key));
  }

  // ----------------------------------------------------------- what others ask

  /** What the replica holds in this life of it. */
  of(cell: Cell): ResidentModels {
    let models = this.#held.get(cell.id);
    if (models === undefined || models.incarnation !== cell.incarnation) {
      models = new ResidentModels(cell.incarnation, this);
      this.#held.set(cell.id, models);
    }
    return models;
  }

  /** The one used longest ago first. */
  heldBy(cell: Cell): readonly ResidentModel[] {
    const models = this.#held.get(cell.id);
    return models === undefined || models.count === 0 ? [] : [...models.leastRecent()];
  }

  holders(model: string | undefined): number {
    return this.#count(model, false);
  }

  idleHolders(model: string | undefined): number {
    return this.#count(model, true);
  }

  /** Some idle replica may run it. */
  mayRun(model: string | undefined): boolean {
    return this.#count(model, true) > 0;
  }

  /** Why records of this model are refused now; undefined where they are taken. */
  refusal(key: string, now: number): TroupeError | undefined {
    const known = this.book.peek(key);
    if (known === undefined) return undefined;
    const detail = { key, known, maxBytes: this.limits.maxBytes, now };
    if (this.#isTooLarge(known)) return modelTooLarge({ pool: this.#pool, detail });
    return known.failedUntil > now ? modelNotLoaded({ pool: this.#pool, detail }) : undefined;
  }

  /** When `plan` or `look` is needed at the latest. */
  get wakeAt(): number {
    return this.#wakeAt;
  }

  /** Somebody waits for a model. */
  get isBusy(): boolean {
    if (this.#wants.size > 0 || this.#prepared.size > 0) return true;
    for (const models of this.#held.values()) if (models.isChanging) return true;
    return false;
  }

  isPinned(key: string): boolean {
    return this.#pins.has(key);
  }

  // ------------------------------------------------------------- what is told

  /** Kept by every replica, from now on. */
  pin(key: string): void {
    this.#pins.add(key);
    this.#replaced.delete(key);
  }

  /** Every serving replica holds what is pinned. */
  get hasPins(): boolean {
    for (const cell of this.#fleet.list) {
      if (!this.#fleet.serves(cell)) continue;
      for (const key of this.#pins) if (!this.of(cell).mayRun(key)) return false;
    }
    return true;
  }

  /** Loads it beside `from`, wherever that is held, and somewhere where it is held nowhere. `prepared` is told, or that it failed. */
  prepare(key: string, from: string | undefined): void {
    this.#replaced.delete(key);
    this.#prepared.set(key, { from, isTold: false });
  }

  /** It is not kept for its own sake any more. */
  letGo(key: string): void {
    this.#prepared.delete(key);
  }

  /** Records for `from` go to `to` from now on; what waits for `from` still gets its answer from it. */
  replace(from: string, to: string): void {
    this.#replaced.add(from);
    if (this.#pins.delete(from)) this.#pins.add(to);
  }

  /** How much it holds, by its files. */
  located(key: string, bytes: number, now: number): void {
    const known = this.book.get(key);
    known.isLocating = false;
    known.bytes ??= bytes;
    if (this.#isTooLarge(known)) this.#tellTooLarge(known, now);
  }

  /** Its files cannot be found or used. */
  locateFailed(key: string, error: TroupeError, now: number): void {
    this.book.get(key).isLocating = false;
    this.#failed(key, error, now);
  }

  /** `bytes`: what its load said; undefined: what it was taken for. */
  loaded(cellId: number, incarnation: number, key: string, bytes: number | undefined, now: number): void {
    const cell = this.#fleet.cells.get(cellId);
    const model = this.#changing(cell, incarnation, key, 'loading');
    if (cell === undefined || model === undefined) return;
    const models = this.of(cell);
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
    this.of(cell).remove(model);
    this.#calm(cell, now);
    this.#failed(key, error, now);
  }

  /** `error`: what unload() threw. What it held is taken to be free all the same. */
  unloaded(cellId: number, incarnation: number, key: string, error: TroupeError | undefined, now: number): void {
    const cell = this.#fleet.cells.get(cellId);
    const model = this.#changing(cell, incarnation, key, 'unloading');
    if (cell === undefined || model === undefined) return;
    this.of(cell).remove(model);
    this.book.get(key).evictionCount++;
    if (this.#replaced.has(key) && !this.#isHeld(key)) this.#replaced.delete(key);
    this.#calm(cell, now);
    const { bytes, reason } = model;
    this.#outbox.tell({ name: 'model-evicted', replica: cell.replica, incarnation, key, bytes, reason, error });
  }

  sent(cell: Cell, key: string): void {
    const model = this.of(cell).sent(key);
    if (model !== undefined && model.sentCount > 1) this.book.get(key).hitCount++;
  }

  answered(cell: Cell, key: string, now: number): void {
    this.of(cell).answered(key, now);
  }

  /** D6. The replica has ended; true: its end is blamed on what it loaded or unloaded, and on no record. */
  died(cell: Cell, death: DeathNotice, expected: boolean, now: number): boolean {
    const models = this.#held.get(cell.id);
    this.#held.delete(cell.id);
    cell.mayBlockMs = 0;
    if (models === undefined || models.incarnation !== cell.incarnation) return false;
    if (!models.isChanging || expected || !isBlamed(death.cause)) return false;
    const { loading } = models;
    if (loading !== undefined) this.#failed(loading.key, this.#loadDeath(loading.key, cell, death), now);
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
    this.#gather(now);
    const { list } = this.#fleet;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (this.#fleet.serves(cell)) this.#advance(cell, this.of(cell), now);
    }
    this.#keepPins(now);
    if (this.#wants.size > 0) {
      const wants = [...this.#wants.values()].sort((a, b) => b.urgency - a.urgency || a.oldestAt - b.oldestAt);
      for (const want of wants) this.#serve(want, now);
    }
    for (const [key, prepared] of this.#prepared) {
      if (prepared.isTold || !this.#prepare(key, prepared.from, now)) continue;
      prepared.isTold = true;
      this.#outbox.tell({ name: 'model-prepared', key });
    }
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (this.#fleet.serves(cell)) this.#sweep(cell, this.of(cell), now);
    }
    return this.#hasReopened;
  }

  /** Ends replicas whose load or unload takes longer than it may. */
  look(now: number): void {
    for (const cell of this.#fleet.list) {
      const dueAt = cell.killed ? Infinity : this.#overdueAt(this.#held.get(cell.id));
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

  /** What waits, by model. What stands at the door comes in later. */
  #gather(now: number): void {
    if (this.#wants.size > 0) this.#wants = new Map();
    const { buckets } = this.#mailbox;
    for (let b = 0; b < buckets.length; b++) {
      const bucket = buckets[b];
      if (bucket?.model !== undefined) this.#want(bucket.model, this.#mailbox.urgency(bucket, now), bucket.oldestAt);
    }
    for (const { requests } of this.#retries.groups) {
      const first = requests.find(({ place }) => place === 'retry');
      // It was under way already: before everything that waits.
      if (first?.model !== undefined) this.#want(first.model, Infinity, first.offeredAt);
    }
  }

  #want(key: string, urgency: number, oldestAt: number): void {
    const want = this.#wants.get(key);
    if (want === undefined) {
      this.#wants.set(key, { key, urgency, oldestAt });
      return;
    }
    want.urgency = Math.max(want.urgency, urgency);
    want.oldestAt = Math.min(want.oldestAt, oldestAt);
  }

  #keepPins(now: number): void {
    if (this.#pins.size === 0) return;
    for (const key of this.#pins) {
      const known = this.#mayTry(key, now);
      if (known === undefined) continue;
      for (const cell of this.#fleet.list) {
        if (this.#mayLoad(cell, key)) this.#begin(this.#place(cell, known, true, now), known, now);
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
      const models = this.of(cell);
      if (models.next?.key === key) return; // D3
      const state = models.get(key)?.state;
      if (state === 'loading') return; // D3
      if (state !== 'ready') continue;
      if (cell.flights.length === 0) return; // It waits there for company, or for its turn.
      holders++;
    }
    if (holders === 0) this.#begin(this.#best(known, false, now), known, now);
    else {
      // D4
      const place = this.#best(known, true, now);
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
      (cell) => this.#fleet.serves(cell) && from !== undefined && this.of(cell).get(from) !== undefined,
    );
    for (const cell of targets)
      if (this.#mayLoad(cell, key)) this.#begin(this.#place(cell, known, true, now), known, now);
    if (targets.length > 0) return targets.every((cell) => this.of(cell).mayRun(key));
    if (this.holders(key) > 0) return true;
    if (!list.some((cell) => this.of(cell).get(key) !== undefined || this.of(cell).next?.key === key))
      this.#begin(this.#best(known, false, now), known, now);
    return false;
  }

  /** What is known of it, where its load may begin; else what stands in the way is dealt with. */
  #mayTry(key: string, now: number): KnownModel | undefined {
    const known = this.book.get(key);
    if (known.failedUntil > now || this.#isTooLarge(known)) {
      this.#refuse(known, now);
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

  #isTooLarge({ bytes }: KnownModel): boolean {
    return bytes !== undefined && bytes > this.limits.maxBytes;
  }

  /** A replica where it is not, and where nothing else is about to be loaded. P4: not beside a suspect. */
  #mayLoad(cell: Cell, key: string): boolean {
    if (!this.#fleet.serves(cell) || cell.solo || cell.killed) return false;
    const models = this.of(cell);
    return models.next === undefined && models.loading === undefined && models.get(key) === undefined;
  }

  /** The cheapest place; `isSecond`: only an idle replica, and nothing that has work goes for it. */
  #best(known: KnownModel, isSecond: boolean, now: number): Place | undefined {
    let best: Place | undefined;
    for (const cell of this.#fleet.list) {
      if (!this.#mayLoad(cell, known.key) || (isSecond && cell.flights.length > 0)) continue;
      const place = this.#place(cell, known, !isSecond, now);
      if (place === undefined) continue;
      const isBetter =
        best === undefined || place.rank < best.rank || (place.rank === best.rank && place.freeBytes > best.freeBytes);
      if (isBetter) best = place;
    }
    return best;
  }

  /** What would have to go from this replica; undefined: there is no room and will be none for now. */
  #place(cell: Cell, { key, bytes = 0 }: KnownModel, takesTurns: boolean, now: number): Place | undefined {
    const models = this.of(cell);
    const isBusy = cell.flights.length > 0 ? 1 : 0;
    const freeBytes = this.limits.maxBytes - models.bytes;
    const missingBytes = Math.max(1, bytes) - freeBytes;
    if (missingBytes <= 0) return { cell, victims: [], rank: isBusy, freeBytes };
    const unneeded: ResidentModel[] = [];
    const working: ResidentModel[] = [];
    let comingBytes = 0;
    for (const model of models.leastRecent()) {
      if (model.state === 'unloading' || model.state === 'closing') comingBytes += model.bytes;
      if (model.state !== 'ready' || this.#isKept(model.key)) continue;
      if (!this.#wants.has(model.key)) unneeded.push(model);
      else if (takesTurns && model.hasAnswered) {
        // D5
        const turnEndsAt = model.loadedAt + this.book.get(key).loadMs;
        if (turnEndsAt <= now) working.push(model);
        else this.#wake(turnEndsAt, now);
      }
    }
    const all = victimsOf([...unneeded, ...working], missingBytes - comingBytes);
    if (all === undefined) return undefined;
    const takesTurn = all.some((model) => working.includes(model));
    return { cell, victims: all, rank: (takesTurn ? 4 : 2) + isBusy, freeBytes };
  }

  /** D2: pinned, or loaded for a swap that is under way. */
  #isKept(key: string): boolean {
    return this.#pins.has(key) || this.#prepared.has(key);
  }

  #begin(place: Place | undefined, { key, bytes = 0 }: KnownModel, now: number): void {
    if (place === undefined) return;
    const models = this.of(place.cell);
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
    for (const model of closingOf(models)) if (!isWith(cell.flights, model.key)) this.#unload(cell, models, model, now);
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
    this.#gather(now);
    const idle = [...models.leastRecent()].filter((model) => {
      const isFree = model.state === 'ready' && !this.#isKept(model.key) && !isWith(cell.flights, model.key);
      return isFree && model !== newest && (model.hasAnswered || !this.#wants.has(model.key));
    });
    const victims = newest.bytes > this.limits.maxBytes ? undefined : victimsOf(idle, overBytes);
    if (victims !== undefined) {
      for (const victim of victims) close(victim, 'room');
    } else if (newest.bytes > this.limits.maxBytes) {
      close(newest, 'too-large');
      this.#tellTooLarge(this.book.get(newest.key), now);
    } else close(newest, 'room');
    this.#advance(cell, models, now);
  }

  /** Unloads what nobody has used for ttlMs, and versions that were replaced. */
  #sweep(cell: Cell, models: ResidentModels, now: number): void {
    const { ttlMs } = this.limits;
    if (models.count === 0 || (ttlMs === Infinity && this.#replaced.size === 0)) return;
    let hasLeaving = false;
    for (const model of models.leastRecent()) {
      if (model.state !== 'ready' || this.#isWanted(model.key) || isWith(cell.flights, model.key)) continue;
      const dueAt = this.#replaced.has(model.key) ? -Infinity : model.usedAt + ttlMs;
      if (dueAt > now) {
        this.#wake(dueAt, now);
        if (this.#replaced.size === 0) break; // Those behind it were used later.
        continue;
      }
      close(model, dueAt === -Infinity ? 'replaced' : 'ttl');
      hasLeaving = true;
    }
    if (hasLeaving) this.#advance(cell, models, now);
  }

  #failed(key: string, error: TroupeError, now: number): void {
    const known = this.book.get(key);
    const retryAfterMs = known.failed(error, now);
    this.#outbox.tell({ name: 'model-failed', key, error, retryAfterMs });
    this.#refuse(known, now);
  }

  #tellTooLarge(known: KnownModel, now: number): void {
    const { key } = known;
    const error = modelTooLarge({ pool: this.#pool, detail: { key, known, maxBytes: this.limits.maxBytes, now } });
    this.#outbox.tell({ name: 'model-failed', key, error, retryAfterMs: Infinity });
    this.#refuse(known, now);
  }

  #loadDeath(key: string, { replica, incarnation }: Cell, death: DeathNotice): TroupeError {
    const message = `Replica ${replica} of "${this.#pool}" ended while it loaded model "${key}": ${describeDeath(death)}`;
    const code = death.cause === 'oom' ? 'ACTOR_OOM' : death.cause === 'hung' ? 'ACTOR_HUNG' : 'ACTOR_CRASHED';
    return new TroupeError(code, message, { cause: death.error, actor: this.#pool, replica, incarnation });
  }

  /** D6: what waits for it. */
  #refuse(known: KnownModel, now: number): void {
    const { key } = known;
    const waiting: Request[] = this.#mailbox.of(key);
    for (const { requests } of this.#retries.groups)
      for (const request of requests) if (request.model === key && request.place === 'retry') waiting.push(request);
    if (waiting.length === 0) return;
    const detail = {
      key,
      known: { bytes: known.bytes, error: known.error, failedUntil: known.failedUntil },
      maxBytes: this.limits.maxBytes,
      now,
    };
    const isTooLarge = this.#isTooLarge(known);
    const code = isTooLarge ? 'MODEL_TOO_LARGE' : 'MODEL_LOAD_FAILED';
    for (const request of waiting)
      this.#settlement.refuse(request, code, isTooLarge ? modelTooLarge : modelNotLoaded, detail);
    this.#wants.delete(key);
  }

  /** Its loop may stand still now: a batch it runs has more time. */
  #disturb(cell: Cell): void {
    cell.mayBlockMs = this.limits.loadTimeoutMs;
    this.#fleet.hasChanged = true;
  }

  /** A load or unload has ended; what ran beside it is given a moment before it counts as hung. */
  #calm(cell: Cell, now: number): void {
    this.#fleet.hasChanged = true;
    if (this.of(cell).isChanging) return;
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
    const model = this.of(cell).get(key);
    return model?.state === state ? model : undefined;
  }

  #count(model: string | undefined, isIdle: boolean): number {
    let count = 0;
    const { list } = this.#fleet;
    for (let i = 0; i < list.length; i++) {
      const cell = list[i] as Cell;
      if (isIdle && cell.flights.length > 0) continue;
      if (this.#fleet.serves(cell) && this.of(cell).mayRun(model)) count++;
    }
    return count;
  }

  #isInUse(key: string): boolean {
    return this.#isWanted(key) || this.#isHeld(key);
  }

  #isHeld(key: string): boolean {
    for (const models of this.#held.values()) if (models.get(key) !== undefined) return true;
    return false;
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

/** As many of them, from the first on, as free so many bytes; those that turn out needless stay. Undefined: all are too few. */
function victimsOf(candidates: readonly ResidentModel[], missingBytes: number): ResidentModel[] | undefined {
  const victims: ResidentModel[] = [];
  let missing = missingBytes;
  for (let i = 0; i < candidates.length && missing > 0; i++) {
    const model = candidates[i] as ResidentModel;
    victims.push(model);
    missing -= Math.max(1, model.bytes);
  }
  if (missing > 0) return undefined;
  return victims.filter(({ bytes }) => {
    if (missing + Math.max(1, bytes) > 0) return true;
    missing += Math.max(1, bytes);
    return false;
  });
}
