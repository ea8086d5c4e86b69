/**
 * The way into a pool that keeps its answers: a record that equals one that was answered before gets a copy of that answer
 * and goes no further; any other goes the way of every record (intake.ts), and what comes back is kept. A pool without a
 * cache has none of this.
 *
 * Q1 an answer is given for the version that serves, and kept only where a replica of the generation that served when the
 * record came has made it, and still serves (N3 of core/result-cache.ts). Q2 while a version is on trial, or two answer, every
 * record goes to the replicas: what is measured is the whole traffic; so while all of them end to load anew. Q3 what may depend
 * on more than the record is neither looked for nor kept: records with a `key`, of actors that are not repeatable, told ones.
 * Q4 receivers have copies: the first as well as those who come later may change what they got. Q5 hits are told when timers
 * and sockets have had their turn, or whoever asks on and on would keep it from them; an operator has as many at once as the
 * mailbox has room for.
 */

import type { BatchCall, PoolNews } from '../core/effects.js';
import type { Flight } from '../core/ledger.js';
import type { Overflow } from '../core/mailbox.js';
import type { PoolCore } from '../core/pool-core.js';
import { Request } from '../core/request.js';
import { type CacheLimits, type Kept, ResultCache } from '../core/result-cache.js';
import type { Clock } from '../kernel/clock.js';
import type { TroupeError } from '../kernel/errors.js';
import { ContentKeys, copyPlain } from '../wire/plain-content.js';
import type { Owner } from './ask.js';
import { CacheMeter } from './cache-meter.js';
import { NOBODY } from './callers.js';
import type { Intake, Terms } from './intake.js';
import type { ModelKeeper } from './model-keeper.js';
import type { Outcome } from './outcome.js';
import type { ReplicaLinks } from './replica-links.js';

export interface CachedIntakeParts<In> {
  readonly intake: Intake<In>;
  readonly core: PoolCore;
  readonly links: ReplicaLinks;
  readonly clock: Clock;
  /** Something was settled: its callers are to be told. */
  readonly afterEvent: () => void;
  /** Where the pool holds many models. */
  readonly models: ModelKeeper | undefined;
  readonly limits: CacheLimits;
}

/** What a record is looked for and kept by. */
interface Place {
  readonly key: string;
  readonly edition: number;
  readonly generation: number;
  /** Key of the model, where the pool holds many. */
  readonly model: string | undefined;
}

export class CachedIntake<In> {
  readonly meter: CacheMeter;
  readonly #intake: Intake<In>;
  readonly #core: PoolCore;
  readonly #links: ReplicaLinks;
  readonly #clock: Clock;
  readonly #afterEvent: () => void;
  readonly #models: ModelKeeper | undefined;
  readonly #cache: ResultCache;
  readonly #keys = new ContentKeys();
  /** To be told. */
  #hits: { readonly request: Request; readonly kept: Kept; readonly tookMs: number }[] = [];
  /** Operators that are to come back when those are told (Q5), and how to call them. */
  readonly #crowded = new Set<number>();
  readonly #waiters = new Map<number, () => void>();
  #isDue = false;

  constructor({ intake, core, links, clock, afterEvent, models, limits }: CachedIntakeParts<In>) {
    this.#intake = intake;
    this.#core = core;
    this.#links = links;
    this.#clock = clock;
    this.#afterEvent = afterEvent;
    this.#models = models;
    this.#cache = new ResultCache(limits);
    this.meter = new CacheMeter(this.#cache);
  }

  /** As that of Intake; also a request that will settle without a replica. */
  offer(
    input: In,
    owner: Owner,
    terms: Terms,
    deadlineAt: number,
    overflow: Overflow,
    now: number,
  ): Request | TroupeError | undefined {
    if (overflow === 'try' && this.#hits.length >= this.#core.limits.mailbox.capacity) {
      this.#crowded.add(terms.sender);
      return undefined;
    }
    // These are refused, or settled at once, in the way of every record.
    const { state } = this.#core;
    if ((state !== 'running' && state !== 'starting') || deadlineAt <= now)
      return this.#intake.offer(input, owner, terms, deadlineAt, overflow, now);
    const place = this.#placeOf(input, owner, terms);
    if (place === undefined) {
      const request = this.#intake.offer(input, owner, terms, deadlineAt, overflow, now);
      if (request instanceof Request) this.meter.bypassed++;
      return request;
    }
    const kept = this.#cache.find(place.key, now);
    if (kept !== undefined) return this.#answer(kept, place, input, owner, terms, deadlineAt, now);
    const keeping = new Keeping(owner, place, this);
    const tookMs = this.#clock.now() - now;
    const request = this.#intake.offer(input, keeping, terms, deadlineAt, overflow, now);
    if (!(request instanceof Request)) return request;
    keeping.request = request;
    this.meter.missed(place.model, tookMs);
    return request;
  }

  /** Q5. Also before the pool stops: what is answered is not given up. */
  readonly tell = (): void => {
    this.#isDue = false;
    if (this.#hits.length > 0) {
      this.#settleHits();
      this.#afterEvent();
    }
    const waiters = [...this.#waiters.values()];
    this.#waiters.clear();
    for (const callback of waiters) callback();
  };

  hear(news: PoolNews): void {
    const { name } = news;
    // What every replica loads anew, or was unloaded by hand, may come from other files.
    if (name === 'stopped' || name === 'held' || (name === 'model-evicted' && news.reason === 'asked'))
      this.#cache.forget();
  }

  /** True: the sender was refused because of hits that are to be told, and is called then. */
  onRoom(sender: number, callback: () => void): boolean {
    if (!this.#crowded.delete(sender)) return false;
    this.#waiters.set(sender, callback);
    this.#soon();
    return true;
  }

  closeSender(sender: number): void {
    this.#crowded.delete(sender);
    this.#waiters.delete(sender);
  }

  /** For Keeping: a record that was looked for has its result, of which nobody knows yet (Q4). */
  keep({ key, edition, generation, model }: Place, flight: Flight | undefined, value: unknown, version?: string): void {
    const { fleet } = this.#core;
    const madeBy = flight === undefined ? undefined : fleet.cells.get(flight.cell)?.generation;
    if (madeBy !== generation || fleet.servingGeneration !== generation || fleet.rollout?.bakes === true) return;
    if (this.#links.description?.repeatable !== true) return;
    const startedAt = this.#clock.now();
    const copied = copyPlain(value, this.#cache.limits.maxBytes);
    if (copied !== undefined) this.#cache.keep(key, edition, copied.value, copied.bytes, version, startedAt);
    this.meter.kept(model, this.#clock.now() - startedAt);
  }

  /** Undefined: the record goes to the replicas, and nothing of it is kept. */
  #placeOf(input: In, owner: Owner, terms: Terms): Place | undefined {
    const { fleet } = this.#core;
    const generation = fleet.servingGeneration;
    if (terms.key !== undefined || owner === NOBODY) return undefined; // Q3
    if (fleet.rollout?.bakes === true || generation === 0 || fleet.isHeld) return undefined; // Q2
    if (this.#links.description?.repeatable === false) return undefined; // Q3
    let model: string | undefined;
    if (this.#models !== undefined || terms.model !== undefined) {
      const key = terms.model === undefined ? undefined : this.#models?.keyOf(terms.model);
      if (typeof key !== 'string') return undefined; // It is refused.
      model = key;
    }
    const key = this.#keys.keyOf(model, input);
    return key === undefined ? undefined : { key, edition: this.#cache.editionOf(generation), generation, model };
  }

  #answer(
    kept: Kept,
    { model }: Place,
    input: In,
    owner: Owner,
    terms: Terms,
    deadlineAt: number,
    now: number,
  ): Request {
    const { sender, priority, callTimeoutMs } = terms;
    const rest = { bucket: '', bytes: 0, weight: 0, offeredAt: now, deadlineAt, callTimeoutMs };
    const request = new Request({ id: 0, input, owner, sender, priority, model, ...rest });
    this.#core.offerKnown(request);
    this.#hits.push({ request, kept, tookMs: this.#clock.now() - now });
    this.#soon();
    return request;
  }

  #settleHits(): void {
    const hits = this.#hits;
    this.#hits = [];
    for (const { request, kept, tookMs } of hits) {
      const startedAt = this.#clock.now();
      const value = copyPlain(kept.value, Infinity)?.value; // It was copied once: it is plain.
      const now = this.#clock.now();
      if (this.#core.settleKnown(request, value, kept.version, now))
        this.meter.hit(request.model, tookMs + now - startedAt);
    }
  }

  #soon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(this.tell);
  }
}

/** Keeps the result of a record on its way to who sent it. */
class Keeping<In> implements Owner {
  request: Request | undefined = undefined;
  readonly #owner: Owner;
  readonly #place: Place;
  readonly #intake: CachedIntake<In>;

  constructor(owner: Owner, place: Place, intake: CachedIntake<In>) {
    this.#owner = owner;
    this.#place = place;
    this.#intake = intake;
  }

  settled(outcome: Outcome<unknown>, call?: BatchCall): void {
    if (outcome.ok) this.#intake.keep(this.#place, this.request?.flight, outcome.value, outcome.version);
    this.#owner.settled(outcome, call);
  }
}
