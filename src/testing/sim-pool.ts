/**
 * The simulated edge of one pool: drives the very core that actor/pump.ts drives, with simulated replicas behind it.
 * Applies effects, hands outcomes to clients, keeps the wake-up, carries out operations; decides nothing.
 */

import type { Trigger } from '../core/batcher.js';
import type { CoreResult, Effect, PoolNews } from '../core/effects.js';
import type { Overflow } from '../core/mailbox.js';
import { PoolCore } from '../core/pool-core.js';
import { Request } from '../core/request.js';
import { emptied, removeAt } from '../core/short-list.js';
import { TroupeError } from '../kernel/errors.js';
import { FAULT as FAULTS } from './faults.js';
import { PoolOracle } from './checkers.js';
import { forkRandom, whole } from './seeds.js';
import { type ClientPool, SimClient } from './sim-clients.js';
import { POISON, type SimRecord } from './sim-record.js';
import { DEATHS, SimReplica } from './sim-replica.js';
import { Message, OUTCOME, SimTransport } from './sim-transport.js';
import { type Shown, SimTrials } from './sim-trials.js';
import { type Actor, EVENT as EVENTS, type World } from './world.js';

// A constant of this module is a number in the compiled code; one that was imported is looked up each time.
const EVENT = EVENTS;
const FAULT = FAULTS;

const THREW = new TroupeError('PREDICT_FAILED', 'predict threw');
const WRONG_COUNT = new TroupeError('PROTOCOL_VIOLATION', 'predict returned a wrong number of outputs');
const ROW_ERROR: CoreResult = { ok: false, error: new TroupeError('PREDICT_FAILED', 'this record failed') };
const BUCKETS = ['a', 'b', 'c', 'd'];
// Used again for every batch, as the core reads results while it is told them and keeps none: good answers by place in
// the batch, results by its size.
const ANSWERS: { readonly ok: true; value: unknown }[] = [];
const RESULTS: CoreResult[][] = [];

/** Ways in which the edge lies, for scenarios that must fail. */
export interface Lies {
  /** Answers of a batch are handed to their neighbours. */
  readonly mixesUp?: boolean;
  /** The link transfers buffers that the host still needs. */
  readonly carelessTransfer?: boolean;
}

export class SimPool implements Actor, ClientPool {
  readonly core: PoolCore;
  readonly oracle: PoolOracle;
  readonly clients: SimClient[] = [];
  /** Newest incarnation by cell. */
  readonly replicas: (SimReplica | undefined)[] = [];
  readonly live: SimReplica[] = [];
  isRollingOut = true;
  isClosing = false;
  /** A supervisor ended all replicas for a while. */
  isHeld = false;
  /** Settled by the core, not yet handed out. */
  unreadSettledCount = 0;
  /** Clients that wait for room. */
  waitingCount = 0;
  readonly #world: World;
  readonly #transport: SimTransport;
  readonly #trials: SimTrials;
  readonly #lies: Lies;
  #waiting: SimClient[] = [];
  #spareWaiting: SimClient[] = [];
  // What the core gave last and is read by now; it fills them again.
  #spareEffects: Effect[] = [];
  #spareSettled: Request[] = [];
  readonly #badVersions = new Set<string>();
  #lastVersion = 0;
  #wakeAt = Infinity;
  /** The earliest timer that is set; it may go off before anything is due, as timers are not taken back. */
  #timerAt = Infinity;
  #timerNumber = 0;
  /** How many clients, from the first on, are known to be done. */
  #doneCount = 0;
  #closePlanned = false;
  #tickedAt = -1;

  constructor(world: World, lies: Lies = {}) {
    this.#world = world;
    this.#lies = lies;
    const { scenario } = world;
    this.core = new PoolCore(scenario.limits, forkRandom(scenario.seed, 7));
    this.oracle = new PoolOracle(world, this);
    this.#transport = new SimTransport(world, { careless: lies.carelessTransfer === true });
    this.core.setRepeatable(scenario.repeatable);
    this.#addClients();
    this.#planOperations();
    this.#trials = new SimTrials(world, this.core);
    const { scaling } = scenario.limits;
    this.rollOut(scaling === undefined ? scenario.replicas : Math.max(1, scaling.min));
    this.endTurn();
  }

  // ------------------------------------------------------------------ events

  handle(kind: number, a: number, ref: unknown): void {
    const { core } = this;
    const now = this.#world.now;
    switch (kind) {
      case EVENT.arrive:
        (this.clients[a] as SimClient).arrive();
        break;
      case EVENT.consume:
        (this.clients[a] as SimClient).consume();
        break;
      case EVENT.cancel:
        this.#cancel(ref as SimRecord);
        break;
      case EVENT.deliver:
        (ref as Message).replica.deliver(ref as Message);
        break;
      case EVENT.reply:
        this.#receive(ref as Message, a);
        break;
      case EVENT.wake:
        if (a === this.#timerNumber) this.#timerAt = Infinity;
        if (now >= this.#wakeAt) {
          this.#wakeAt = Infinity;
          this.#tickedAt = now;
          core.tick(now);
        } else {
          // cancelled timer
          this.#world.eventCount--;
          this.#world.heardCount--;
        }
        break;
      case EVENT.ready: {
        const replica = ref as SimReplica;
        if (!replica.isTold) {
          replica.isReady = true;
          core.ready(replica.cell, replica.incarnation, now);
        }
        break;
      }
      case EVENT.died:
        this.#died(ref as SimReplica);
        break;
      case EVENT.loaded:
      case EVENT.finish:
      case EVENT.exit:
      case EVENT.lastRung:
      case EVENT.resume:
        this.#childEvent(kind, a, ref as SimReplica);
        break;
      case EVENT.shown:
        this.oracle.trial.shownEnded(ref as Shown);
        this.#trials.answered(ref as Shown);
        break;
      case EVENT.call:
        (ref as () => void)();
        break;
      default:
        this.#operate(kind);
    }
  }

  #childEvent(kind: number, epoch: number, replica: SimReplica): void {
    if (kind === EVENT.resume) replica.resume();
    else if (epoch !== replica.epoch)
      this.#world.eventCount--; // the process it was for has ended
    else if (kind === EVENT.loaded) replica.loaded();
    else if (kind === EVENT.finish) replica.finish();
    else if (kind === EVENT.lastRung) replica.end(DEATHS.stopped);
    else replica.exit();
  }

  endTurn(): void {
    const world = this.#world;
    if (world.heardCount === 0 && this.#waiting.length === 0) {
      this.#armWake();
      return;
    }
    world.heardCount = 0;
    const { core } = this;
    const { now } = world;
    if (!core.isQuiet) this.#pump();
    core.dispatch(now);
    if (!core.isQuiet) this.#pump();
    // Offers made because there is room want to be dispatched in their turn.
    if (this.#waiting.length > 0 && this.#giveRoom()) {
      core.dispatch(now);
      this.#pump();
    }
    this.#armWake();
    this.oracle.turnEnded(now);
    if (this.isClosing || this.#closePlanned) return;
    const { clients } = this;
    // The one that was not done last time is the likely one.
    for (; this.#doneCount < clients.length; this.#doneCount++)
      if (!(clients[this.#doneCount] as SimClient).isDone) return;
    this.#planClose();
  }

  #pump(): void {
    const { core } = this;
    while (!core.isQuiet) {
      const effects = core.takeEffects(this.#spareEffects);
      const settled = core.takeSettled(this.#spareSettled);
      this.unreadSettledCount = settled.length;
      for (let i = 0; i < effects.length; i++) {
        const effect = effects[i] as Effect;
        switch (effect.kind) {
          case 'send':
            this.#send(effect.cell, effect.batchId, effect.requests, effect.trigger);
            break;
          case 'start':
            this.#start(effect.cell, effect.replica, effect.incarnation, effect.version as string);
            break;
          case 'show': {
            const replica = this.replicas[effect.cell] as SimReplica;
            this.oracle.trial.shown(replica, effect.batchId, effect.requests);
            this.#trials.shown(replica, effect.batchId, effect.requests);
            break;
          }
          case 'abandon':
            this.oracle.abandoned(effect.cell, effect.batchId);
            break;
          case 'stop':
            (this.replicas[effect.cell] as SimReplica).stop(effect.now);
            break;
          case 'kill':
            (this.replicas[effect.cell] as SimReplica).kill();
            break;
          case 'news':
            this.#tell(effect.news);
            break;
        }
      }
      for (let i = 0; i < settled.length; i++) {
        const request = settled[i] as Request;
        const record = request.owner as SimRecord;
        this.oracle.settled(request, record);
        (this.clients[record.client] as SimClient).settled(record);
      }
      this.#spareEffects = emptied(effects);
      this.#spareSettled = emptied(settled);
    }
  }

  // ----------------------------------------------------------------- records

  offer(record: SimRecord, client: SimClient, overflow: Overflow, deadlineAt: number): 'taken' | 'full' | 'closed' {
    const now = this.#world.now;
    const request = this.#request(record, client.index, deadlineAt, now);
    const offer = this.core.offer(request, overflow, now);
    this.oracle.offered(request, record, overflow, offer);
    if (offer === 'accepted' || offer === 'door' || offer === 'dropped') return 'taken';
    return offer === 'full' ? 'full' : 'closed';
  }

  #request(record: SimRecord, sender: number, deadlineAt: number, now: number): Request {
    const { priorities, buckets } = this.#world.scenario;
    const request = new Request({
      id: record.id,
      input: record,
      owner: record,
      sender,
      priority: sender % priorities,
      bucket: BUCKETS[record.seq % buckets] as string,
      bytes: record.bytes,
      weight: 1 + (record.bytes & 3),
      offeredAt: now,
      deadlineAt,
      key: this.#trials.key(record.seq),
    });
    record.request = request;
    return request;
  }

  wantRoom(client: SimClient): void {
    this.core.mailbox.wantRoom(client.index);
    this.waitingCount++;
    this.#waiting.push(client);
  }

  #giveRoom(): boolean {
    const { core } = this;
    const isOpen = core.state === 'running' || core.state === 'starting';
    if (isOpen && !core.mailbox.hasRoom) return false;
    const waiting = this.#waiting;
    this.#waiting = this.#spareWaiting;
    for (let i = 0; i < waiting.length; i++) {
      const client = waiting[i] as SimClient;
      core.mailbox.gotRoom(client.index);
      this.waitingCount--;
      client.room();
    }
    this.#spareWaiting = emptied(waiting);
    return true;
  }

  #cancel(record: SimRecord): void {
    if (record.settleCount > 0) return;
    record.wasCancelled = true;
    this.core.cancel(record.request as Request, undefined);
  }

  #send(cell: number, batchId: number, requests: readonly Request[], trigger: Trigger): void {
    const replica = this.replicas[cell] as SimReplica;
    const message = new Message(replica, batchId, requests, this.#transport.pack(requests), trigger);
    this.oracle.sent(message);
    replica.open.push(message);
    this.#transport.send(message);
  }

  #receive(message: Message, invented: number): void {
    const { core } = this;
    const { replica, batchId, requests } = message;
    const now = this.#world.now;
    const isStale = invented > 0 || message.isClosed || replica.isTold;
    const before = core.counts.resolved;
    const settledBefore = core.counts.settled;
    if (!isStale) {
      message.isClosed = true;
      const { open } = replica;
      // Mostly the one it ran: batches are answered in the order sent.
      removeAt(open, open[0] === message ? 0 : open.indexOf(message));
      this.oracle.answered(message);
    }
    const id = invented > 0 ? batchId + 1_000_000 + invented : batchId;
    if (message.outcome === OUTCOME.threw) core.failed(replica.cell, replica.incarnation, id, THREW, now);
    else if (message.outcome === OUTCOME.wrongCount)
      core.failed(replica.cell, replica.incarnation, id, WRONG_COUNT, now);
    else core.reply(replica.cell, replica.incarnation, id, this.#results(requests, replica.versionNumber), now);
    if (isStale && (core.counts.resolved !== before || core.counts.settled !== settledBefore))
      this.#world.violate(
        'stale-reply',
        `a stale reply of batch ${batchId} by incarnation ${replica.incarnation} counted`,
      );
  }

  #results(requests: readonly Request[], versionNumber: number): CoreResult[] {
    const size = requests.length;
    while (RESULTS.length <= size) RESULTS.push(new Array<CoreResult>(RESULTS.length).fill(ROW_ERROR));
    while (ANSWERS.length < size) ANSWERS.push({ ok: true, value: 0 });
    const results = RESULTS[size] as CoreResult[];
    const shift = this.#lies.mixesUp === true && size > 1 ? 1 : 0;
    for (let i = 0; i < size; i++) {
      const from = i + shift;
      const record = (requests[from < size ? from : 0] as Request).owner as SimRecord;
      if (record.poison === POISON.row || this.#trials.failsOn(versionNumber, record)) results[i] = ROW_ERROR;
      else {
        const answer = ANSWERS[i] as (typeof ANSWERS)[number];
        answer.value = record.id * 64 + versionNumber;
        results[i] = answer;
      }
    }
    return results;
  }

  // ---------------------------------------------------------------- replicas

  #start(cell: number, slot: number, incarnation: number, version: string): void {
    const number = Number(version);
    const replica = new SimReplica(this.#world, this.#transport, cell, slot, incarnation, version, number);
    this.oracle.started(replica, this.replicas[cell]);
    this.replicas[cell] = replica;
    this.live.push(replica);
    replica.load(this.#badVersions.has(version));
  }

  #died(replica: SimReplica): void {
    if (replica.isTold) return;
    this.#pump();
    replica.isTold = true;
    const at = this.live.indexOf(replica);
    if (at >= 0) removeAt(this.live, at);
    const { death } = replica;
    this.oracle.died(replica, death);
    const { open } = replica;
    for (let i = 0; i < open.length; i++) (open[i] as Message).isClosed = true;
    emptied(open);
    this.core.died(replica.cell, replica.incarnation, death, this.#world.now);
    this.oracle.buried(replica);
  }

  #tell(news: PoolNews): void {
    const world = this.#world;
    if (world.log !== undefined) world.log(`${' '.repeat(14)}news ${JSON.stringify(news, shortError)}`);
    this.oracle.told(news);
    switch (news.name) {
      case 'up':
        // A pool let go after a hold tells `up` as well, of the version it had.
        if (news.version === this.oracle.rolloutVersion && this.core.fleet.rollout === undefined)
          this.isRollingOut = false;
        break;
      case 'rollout-failed':
        this.isRollingOut = false;
        break;
      case 'rollout':
        if (news.step === 'promoted') this.isRollingOut = false;
        if (news.step === 'verifying') this.#trials.verifying();
        break;
      case 'held':
        world.after(world.operations.next() * 50, EVENT.release, 0, undefined);
        break;
      case 'failed':
        if (world.scenario.reviveMs > 0 && world.isSafe)
          world.after(world.scenario.reviveMs, EVENT.revive, 0, undefined);
        break;
    }
  }

  rollOut(count: number): void {
    const version = String(++this.#lastVersion);
    if (this.#lastVersion > 1 && this.#world.strikes(FAULT['bad-version'])) this.#badVersions.add(version);
    this.isRollingOut = true;
    this.oracle.rollingOut(version);
    this.core.rollOut(version, count, this.#world.now, this.#trials.rules(this.#lastVersion));
  }

  // -------------------------------------------------------------- operations

  #operate(kind: number): void {
    const world = this.#world;
    const { core } = this;
    const now = world.now;
    const mayOperate = core.state === 'running' && !this.isHeld && world.isSafe;
    const isRunning = mayOperate && !this.isRollingOut;
    switch (kind) {
      case EVENT.disturb:
        if (!world.isSafe) return;
        this.#disturb();
        world.after(world.scenario.disturbEveryMs * 2 * world.operations.next(), EVENT.disturb, 0, undefined);
        return;
      case EVENT.swap:
        if (!this.#trials.supersede(mayOperate) && isRunning) this.rollOut(core.fleet.replicas);
        return;
      case EVENT.promote:
        if (mayOperate) core.promote(now);
        return;
      case EVENT.rollBack:
        if (mayOperate) this.#trials.rollBack();
        return;
      case EVENT.verified:
        this.#trials.verified();
        return;
      case EVENT.scale:
        if (isRunning) this.#scale(whole(world.operations, 1, 8), now);
        return;
      case EVENT.hold:
        if (isRunning || (mayOperate && this.oracle.trial.version !== undefined)) {
          this.isHeld = true;
          core.hold();
        }
        return;
      case EVENT.release:
        if (!this.isHeld || core.state === 'stopping' || core.state === 'stopped') return;
        this.isHeld = false;
        if (core.state === 'failed') return;
        this.oracle.restarts.released();
        core.release(now);
        return;
      case EVENT.drain:
        if (core.state !== 'running' && core.state !== 'starting') return;
        this.oracle.draining();
        core.drain();
        return;
      case EVENT.stop:
        this.oracle.stopping();
        core.stop(world.operations.next() < 0.5);
        return;
      case EVENT.revive:
        if (core.state !== 'failed') return;
        this.isRollingOut = true;
        this.oracle.reviving();
        core.release(now);
        return;
      case EVENT.liveness:
        world.calm();
        for (const replica of this.live) replica.resume();
        return;
      case EVENT.close:
        this.oracle.restored();
        this.isClosing = true;
        if (core.state === 'running' || core.state === 'starting') {
          this.oracle.draining();
          core.drain();
          this.#pump();
        }
        this.oracle.drained();
        this.oracle.stopping();
        core.stop(false);
        return;
    }
  }

  /** A number outside the bounds of a pool that scales by itself is refused before it comes to the core. */
  #scale(count: number, now: number): void {
    const { scaling } = this.#world.scenario.limits;
    const { min, max } = scaling ?? { min: 1, max: 8 };
    this.core.scale(Math.min(max, scaling === undefined ? count : min + ((count - 1) % (max - min + 1))), now);
  }

  #disturb(): void {
    const world = this.#world;
    if (world.strikes(FAULT['wall-jump'])) world.wallOffsetMs += (world.operations.next() - 0.5) * 7_200_000;
    if (world.strikes(FAULT['loop-stall'])) {
      const stallMs = world.operations.next() * world.scenario.safetyMs * 0.2;
      world.stalledUntil = Math.max(world.stalledUntil, world.now + stallMs);
    }
    const victim = this.live[Math.floor(world.operations.next() * this.live.length)];
    if (victim === undefined || !victim.isAlive) return;
    if (world.strikes(FAULT.kill)) victim.end(DEATHS.killed);
    else if (victim.isUp && victim.running === undefined && world.strikes(FAULT['idle-exit'])) victim.end(DEATHS.exit);
    else if (!victim.isPaused && world.strikes(FAULT.pause)) {
      victim.pause();
      world.after(world.operations.next() * 3 * world.scenario.limits.batchTimeoutMs, EVENT.resume, 0, victim);
    }
  }

  #addClients(): void {
    const world = this.#world;
    const { askers, operators, records } = world.scenario;
    const count = askers + operators;
    for (let index = 0; index < count; index++) {
      const total = Math.floor(records / count) + (index < records % count ? 1 : 0);
      this.clients.push(new SimClient(world, this, { index, kind: index < askers ? 'asker' : 'operator', total }));
    }
  }

  #planOperations(): void {
    const world = this.#world;
    const { safetyMs, swaps, scales, holds, drainAtMs, stopAtMs, disturbEveryMs } = world.scenario;
    for (let i = 0; i < swaps; i++) world.after(world.operations.next() * safetyMs, EVENT.swap, 0, undefined);
    for (let i = 0; i < holds; i++) world.after(world.operations.next() * safetyMs, EVENT.hold, 0, undefined);
    for (let i = 0; i < scales; i++) world.after(world.operations.next() * safetyMs, EVENT.scale, 0, undefined);
    if (drainAtMs > 0) world.after(drainAtMs, EVENT.drain, 0, undefined);
    if (stopAtMs > 0) world.after(stopAtMs, EVENT.stop, 0, undefined);
    world.after(world.operations.next() * disturbEveryMs, EVENT.disturb, 0, undefined);
    world.after(safetyMs, EVENT.liveness, 0, undefined);
  }

  /** Everything is done; leave time for restarts and roll-outs under way, then look at the pool and end it. */
  #planClose(): void {
    this.#closePlanned = true;
    this.#world.after(
      Math.max(0, this.#world.scenario.safetyMs - this.#world.now) + quietMs(this.#world),
      EVENT.close,
      0,
      undefined,
    );
  }

  #armWake(): void {
    const wakeAt = this.core.nextWakeAt();
    if (wakeAt === this.#wakeAt && wakeAt >= this.#timerAt) return;
    const now = this.#world.now;
    if (wakeAt <= now && this.#tickedAt === now)
      this.#world.violate('spin', `asks to be woken at ${wakeAt} right after a tick at ${now}`);
    this.#wakeAt = wakeAt;
    if (wakeAt >= this.#timerAt) return;
    this.#timerAt = wakeAt;
    this.#world.at(wakeAt, EVENT.wake, ++this.#timerNumber, undefined);
  }
}

function shortError(key: string, value: unknown): unknown {
  return key === 'error' && value instanceof Error ? value.message : value;
}

/** Long enough for anything begun to come to its end once nothing new goes wrong. */
export function quietMs(world: World): number {
  const { limits, loadMs, loadTimeoutMs, stopTimeoutMs, exitDelayMs, bakeMs, keepMs } = world.scenario;
  const { maxBackoffMs } = limits.restart;
  const { downAfterMs = 0, idleAfterMs = 0, upAfterMs = 0 } = limits.scaling ?? {};
  return (
    2 * (downAfterMs + idleAfterMs + upAfterMs) +
    4 * (maxBackoffMs + loadTimeoutMs + 15 * loadMs + 3 * stopTimeoutMs + exitDelayMs + limits.batchTimeoutMs) +
    bakeMs +
    keepMs +
    200
  );
}
