import type { CoreResult, DeathNotice, Effect, PoolNews } from '../../src/core/effects.js';
import type { Overflow } from '../../src/core/mailbox.js';
import { PoolCore } from '../../src/core/pool-core.js';
import type { PoolLimits } from '../../src/core/pool-limits.js';
import type { Request, RequestRules } from '../../src/core/request.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { ids, requestMaker } from './make-request.js';

/** What a test may set; the rest has plain values. */
export interface PoolSettings {
  replicas?: number;
  version?: string;
  maxSize?: number;
  adaptive?: boolean;
  targetLatencyMs?: number;
  maxInFlight?: number;
  maxStreams?: number;
  maxDelayMs?: number;
  batchTimeoutMs?: number;
  attempts?: number;
  cancellation?: PoolLimits['cancellation'];
  mailbox?: Partial<PoolLimits['mailbox']>;
  restart?: Partial<PoolLimits['restart']>;
  restartType?: PoolLimits['restartType'];
  strategy?: PoolLimits['strategy'];
  scaling?: PoolLimits['scaling'];
  /** Makes it a pool of many models. */
  models?: Partial<NonNullable<PoolLimits['models']>>;
  /** What a model holds, by its files. Default 1 each. */
  bytesOf?: (key: string) => number;
  /** False: a test reports `ready` and the end of stopped and killed replicas itself. */
  obedient?: boolean;
  /** True: only `ready` is left to the test. */
  slowLoads?: boolean;
}

/** A batch on its way: sent, and neither answered nor lost. */
export interface Sent {
  readonly cell: number;
  readonly incarnation: number;
  readonly batchId: number;
  readonly ids: number[];
  readonly requests: readonly Request[];
}

/** A load or unload of a model that a replica was told to do. */
export interface Change {
  readonly kind: 'load-model' | 'unload-model';
  readonly cell: number;
  readonly incarnation: number;
  readonly key: string;
}

/** What a scripted model does with a batch of ids. */
export type Verdict = 'ok' | 'throw' | 'crash' | 'hang' | 'killed';

/**
 * A pool driven by hand: time is a number, replicas are rows in a table. Obedient replicas are ready at once and end
 * at once when told to; batches are answered only by the test, or by `serve` with a script.
 */
export class PoolDriver {
  readonly core: PoolCore;
  now = 0;
  readonly news: PoolNews[] = [];
  /** Every effect but news, as one line each. */
  readonly log: string[] = [];
  /** In flight, in the order sent. */
  readonly sent: Sent[] = [];
  /** Batches a replica was only shown; a test answers them itself. */
  readonly shown: { readonly cell: number; readonly batchId: number; readonly ids: number[] }[] = [];
  /** Ids of each batch ever sent, in order. */
  readonly calls: number[][] = [];
  /** id -> value or error code; a second outcome throws. */
  readonly outcomes = new Map<number, string>();
  readonly requests: Request[] = [];
  /** Live incarnation by cell. */
  readonly alive = new Map<number, number>();
  readonly #make = requestMaker();
  /** Told to start in this turn: cell and incarnation. */
  readonly #loaded: [number, number][] = [];
  /** Told to end in this turn, and obedient. */
  readonly #ending: { cell: number; incarnation: number; death: DeathNotice }[] = [];
  /** Ids of those that had to wait at the door: others of their key may have come in first. */
  readonly #wereAtDoor = new Set<number>();
  /** Loads and unloads of models under way; a test ends them. */
  readonly changes: Change[] = [];
  readonly #bytesOf: (key: string) => number;
  readonly #obedient: boolean;
  readonly #slowLoads: boolean;

  constructor(settings: PoolSettings = {}) {
    this.core = new PoolCore(
      {
        name: 'p',
        mailbox: { capacity: 1000, capacityBytes: 1e9, ageingMs: 0, ...settings.mailbox },
        batching: {
          adaptive: settings.adaptive ?? true,
          maxSize: settings.maxSize ?? 8,
          maxBytes: 1e9,
          maxWeight: Infinity,
          maxDelayMs: settings.maxDelayMs ?? 0,
          targetLatencyMs: settings.targetLatencyMs ?? Infinity,
        },
        maxInFlight: settings.maxInFlight ?? 1,
        ...(settings.maxStreams === undefined ? {} : { maxStreams: settings.maxStreams }),
        batchTimeoutMs: settings.batchTimeoutMs ?? 1000,
        attempts: settings.attempts ?? 5,
        cancellation: settings.cancellation ?? 'signal',
        restart: {
          max: 5,
          withinMs: 60_000,
          backoffMs: 100,
          maxBackoffMs: 1000,
          jitter: 0,
          quarantineMax: 20,
          ...settings.restart,
        },
        restartType: settings.restartType ?? 'permanent',
        strategy: settings.strategy ?? 'one-for-one',
        scaling: settings.scaling,
        ...(settings.models === undefined
          ? {}
          : { models: { maxBytes: 10, ttlMs: Infinity, loadTimeoutMs: 1000, ...settings.models } }),
      },
      () => 0,
    );
    this.#bytesOf = settings.bytesOf ?? (() => 1);
    this.#obedient = settings.obedient ?? true;
    this.#slowLoads = settings.slowLoads ?? false;
    this.core.rollOut(settings.version, settings.replicas ?? 1, 0);
    this.pump();
  }

  /** Offers one record; its id is its place in the order of offers, from 1. */
  offer(rules: Partial<RequestRules> = {}, overflow: Overflow = 'reject'): string {
    const request = this.#make({ offeredAt: this.now, ...rules });
    this.requests.push(request);
    const how = this.core.offer(request, overflow, this.now);
    if (how === 'door') this.#wereAtDoor.add(request.id);
    return how;
  }

  offerMany(count: number, rules: Partial<RequestRules> = {}): void {
    for (let n = 0; n < count; n += 1) this.offer(rules);
    this.pump();
  }

  /** Ends a turn: dispatches and carries effects out until there are none. */
  pump(): void {
    this.core.dispatch(this.now);
    for (let effects = this.core.takeEffects(); effects.length > 0; effects = this.core.takeEffects()) {
      for (const effect of effects) this.#carryOut(effect);
      // Never amid the effects of one turn: a link tells later, never from inside a call to it.
      for (const { cell, incarnation, death } of this.#ending.splice(0))
        if (this.alive.get(cell) === incarnation) this.die(cell, death);
      for (const [cell, incarnation] of this.#loaded.splice(0)) this.core.ready(cell, incarnation, this.now);
      this.core.dispatch(this.now);
    }
    for (const request of this.core.takeSettled()) {
      if (this.outcomes.has(request.id)) throw new Error(`record ${request.id} settled twice`);
      this.outcomes.set(request.id, request.error?.code ?? String(request.value));
    }
    if (!(this.core.nextWakeAt() > this.now)) {
      throw new Error(
        `at ${this.now} nothing is left to do, yet the pool wants to be woken at ${this.core.nextWakeAt()}`,
      );
    }
  }

  #carryOut(effect: Effect): void {
    if (effect.kind === 'news') {
      this.news.push(effect.news);
      return;
    }
    if (effect.kind === 'start') {
      this.log.push(`start ${effect.cell}.${effect.incarnation}`);
      if (this.alive.has(effect.cell)) throw new Error(`cell ${effect.cell} started while it lives`);
      this.alive.set(effect.cell, effect.incarnation);
      if (this.#obedient && !this.#slowLoads) this.#loaded.push([effect.cell, effect.incarnation]);
      return;
    }
    if (effect.kind === 'send') {
      const incarnation = this.alive.get(effect.cell);
      if (incarnation === undefined) throw new Error(`a batch was sent to cell ${effect.cell}, which is dead`);
      const batch = {
        cell: effect.cell,
        incarnation,
        batchId: effect.batchId,
        ids: ids(effect.requests),
        requests: effect.requests,
      };
      this.#checkSend(batch);
      this.log.push(`send ${effect.cell}: ${batch.ids.join(' ')}`);
      this.sent.push(batch);
      this.calls.push(batch.ids);
      return;
    }
    if (effect.kind === 'locate') {
      this.core.models?.located(effect.key, this.#bytesOf(effect.key), this.now);
      return;
    }
    if (effect.kind === 'load-model' || effect.kind === 'unload-model') {
      this.log.push(`${effect.kind} ${effect.cell}: ${effect.key}`);
      this.changes.push({ kind: effect.kind, cell: effect.cell, incarnation: effect.incarnation, key: effect.key });
      return;
    }
    this.log.push(`${effect.kind} ${effect.cell}`);
    if (effect.kind === 'show') {
      this.shown.push({ cell: effect.cell, batchId: effect.batchId, ids: ids(effect.requests) });
      return;
    }
    // A second stop finds nobody where the first was obeyed.
    const { cell } = effect;
    const incarnation = this.alive.get(cell);
    if (!this.#obedient || effect.kind === 'abandon' || incarnation === undefined) return;
    if (effect.kind === 'kill') this.#ending.push({ cell, incarnation, death: { cause: 'hung' } });
    // A replica that is told to stop finishes its batches first, unless it is to stop now.
    else if (effect.now || !this.sent.some((batch) => batch.cell === cell))
      this.#ending.push({ cell, incarnation, death: { cause: 'stopped' } });
  }

  /** What must hold of every batch that is sent, in every test. */
  #checkSend({ cell, batchId, requests }: Sent): void {
    const { fleet, ledger } = this.core;
    const replica = fleet.cells.get(cell);
    if (replica === undefined || !fleet.serves(replica)) throw new Error('a batch for a replica that does not serve');
    for (const request of requests) {
      if (request.place !== 'in-flight') throw new Error(`record ${request.id} was sent while it is ${request.place}`);
      if (request.deadlineAt <= this.now) throw new Error(`record ${request.id} was sent after its deadline`);
      const waitsUntil = request.offeredAt + (this.core.mailbox.limits.maxWaitMs ?? Infinity);
      if (request.sendCount === 1 && request.deadlineAt !== Infinity && waitsUntil <= this.now)
        throw new Error(`record ${request.id} was sent after it had waited too long`);
      if (request.key !== undefined) this.#checkKey(request);
      if (request.model !== requests[0]?.model) throw new Error('a batch for two models');
    }
    const model = requests[0]?.model;
    // What is given its last batch may be marked to go in the same turn.
    const state = model === undefined ? 'ready' : this.core.models?.holdings.of(replica).get(model)?.state;
    if (state !== 'ready' && state !== 'closing')
      throw new Error(`a batch for model ${model}, which replica ${cell} does not hold`);
    const others = this.sent.filter((batch) => batch.cell === cell);
    const alone = [batchId, ...others.map((batch) => batch.batchId)].some(
      (id) => ledger.get(cell, id)?.trigger === 'quarantine',
    );
    if (alone && others.length > 0) throw new Error('a suspect is not alone on its replica');
  }

  /** P5, and the order inside a key. */
  #checkKey(request: Request): void {
    for (const other of this.requests) {
      if (other === request || other.key !== request.key) continue;
      if (other.place === 'in-flight' || other.place === 'retry')
        throw new Error(`records ${other.id} and ${request.id} of one key run at once`);
      if (other.place === 'mailbox' && other.id < request.id && !this.#wereAtDoor.has(other.id))
        throw new Error(`record ${request.id} overtook ${other.id} of its key`);
    }
  }

  /** The replica reports that it has loaded. */
  ready(cell: number): void {
    this.core.ready(cell, this.alive.get(cell) ?? -1, this.now);
    this.pump();
  }

  /** Ends the live incarnation of a cell; what it held in flight never answers. Pump after it. */
  die(cell: number, death: DeathNotice): void {
    const incarnation = this.alive.get(cell);
    if (incarnation === undefined) throw new Error(`cell ${cell} is dead already`);
    this.alive.delete(cell);
    for (let at = this.sent.length - 1; at >= 0; at -= 1) if (this.sent[at]?.cell === cell) this.sent.splice(at, 1);
    for (let at = this.changes.length - 1; at >= 0; at -= 1)
      if (this.changes[at]?.cell === cell) this.changes.splice(at, 1);
    this.core.died(cell, incarnation, death, this.now);
  }

  crash(cell: number, death: DeathNotice = { cause: 'crash', signal: 'SIGSEGV' }): void {
    this.die(cell, death);
    this.pump();
  }

  /** The batch in flight at that place; 0 is the oldest. */
  batch(at = 0): Sent {
    const batch = this.sent[at];
    if (batch === undefined) throw new Error(`no batch ${at} in flight`);
    return batch;
  }

  /** Answers a batch; without results every record gets `y<id>`. */
  reply(batch: Sent = this.batch(), results?: readonly CoreResult[]): void {
    const at = this.sent.indexOf(batch);
    if (at >= 0) this.sent.splice(at, 1);
    const values = results ?? batch.ids.map((id) => ({ ok: true as const, value: `y${id}` }));
    this.core.reply(batch.cell, batch.incarnation, batch.batchId, values, this.now);
    this.#maybeStopped(batch.cell);
    this.pump();
  }

  /** The batch as a whole fails. */
  fail(batch: Sent = this.batch(), error = new TroupeError('PREDICT_FAILED', 'predict threw')): void {
    const at = this.sent.indexOf(batch);
    if (at >= 0) this.sent.splice(at, 1);
    this.core.failed(batch.cell, batch.incarnation, batch.batchId, error, this.now);
    this.#maybeStopped(batch.cell);
    this.pump();
  }

  /** A load or unload comes to its end; `bytes` is what load said it holds. */
  change(change: Change | undefined = this.changes[0], end: { bytes?: number; error?: TroupeError } = {}): void {
    if (change === undefined) throw new Error('no model is loaded or unloaded');
    this.changes.splice(this.changes.indexOf(change), 1);
    const { models } = this.core;
    const { kind, cell, incarnation, key } = change;
    if (kind === 'unload-model') models?.unloaded(cell, incarnation, key, end.error, this.now);
    else if (end.error !== undefined) models?.loadFailed(cell, incarnation, key, end.error, this.now);
    else models?.loaded(cell, incarnation, key, end.bytes, this.now);
    this.pump();
  }

  /** An obedient replica that was told to stop ends with its last answer. */
  #maybeStopped(cell: number): void {
    if (!this.#obedient || !this.alive.has(cell) || this.sent.some((batch) => batch.cell === cell)) return;
    const state = this.core.fleet.cells.get(cell)?.state;
    if (state === 'stopping' || state === 'recycling') this.die(cell, { cause: 'stopped' });
  }

  /** Time passes; the pool is woken whenever it asked to be. */
  advanceTo(instant: number): void {
    for (let wakeAt = this.core.nextWakeAt(); wakeAt <= instant; wakeAt = this.core.nextWakeAt()) {
      this.now = wakeAt;
      this.core.tick(this.now);
      this.pump();
    }
    this.now = instant;
    this.core.tick(this.now);
    this.pump();
  }

  /** Answers batches by the script until nothing is in flight and nothing will wake the pool. */
  serve(verdict: (ids: number[]) => Verdict): void {
    for (let steps = 0; steps < 100_000; steps += 1) {
      const batch = this.sent[0];
      if (batch === undefined) {
        const wakeAt = this.core.nextWakeAt();
        if (wakeAt === Infinity || this.core.heldCount === 0) return;
        this.advanceTo(wakeAt);
        continue;
      }
      const said = verdict(batch.ids);
      if (said === 'ok') this.reply(batch);
      else if (said === 'throw') this.fail(batch);
      else if (said === 'crash') this.crash(batch.cell);
      else if (said === 'killed') this.crash(batch.cell, { cause: 'killed', signal: 'SIGKILL' });
      else this.advanceTo(this.core.nextWakeAt());
    }
    throw new Error('no end in sight');
  }

  outcome(id: number): string | undefined {
    return this.outcomes.get(id);
  }

  /** Outcomes by kind: ok for values. */
  tally(): Record<string, number> {
    const tally: Record<string, number> = {};
    for (const [id, outcome] of this.outcomes) {
      const kind = outcome === `y${id}` ? 'ok' : outcome;
      tally[kind] = (tally[kind] ?? 0) + 1;
    }
    return tally;
  }

  newsOf<Name extends PoolNews['name']>(name: Name): Extract<PoolNews, { name: Name }>[] {
    return this.news.filter((one): one is Extract<PoolNews, { name: Name }> => one.name === name);
  }
}
