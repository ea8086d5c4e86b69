/**
 * The real pool core behind an infer step, in the place of the model (`SimTarget`): batches are split, suspects are
 * replayed in quarantine, replicas restart, deadlines pass inside. A small edge: replicas load at once or soon, the
 * transport keeps order; what goes wrong there is the other family's subject.
 */
import type { DeathNotice, Effect } from '../../core/effects.js';
import type { RecordOutcome } from '../../core/operator-slot.js';
import { PoolCore } from '../../core/pool-core.js';
import { Request } from '../../core/request.js';
import type { TroupeError } from '../../kernel/errors.js';
import { POOL_SHAPE } from '../pool-shape.js';
import { forkRandom } from '../seeds.js';
import { DEATHS } from '../sim-replica.js';
import { SIM_ERRORS } from './errors.js';
import { STREAM_FAULT } from './faults.js';
import type { StreamShape } from './scenario.js';
import type { PoolPort, PortOptions, SimSlot } from './sim-target.js';
import type { UserFunctions } from './values.js';
import { STREAM_EVENT, type StreamWorld } from './world.js';

const GOOD_ROW = { ok: true as const, value: 0 };
const BAD_ROW = { ok: false as const, error: SIM_ERRORS.row };

class CoreReplica {
  isGone = false;
  constructor(
    readonly cell: number,
    readonly incarnation: number,
  ) {}
}

/** What an event of a core pool is about. */
export class CoreEvent {
  constructor(
    readonly pool: SimCorePool,
    readonly happen: () => void,
  ) {}
}

export class SimCorePool implements PoolPort {
  isClosed = false;
  wantsRoom = false;
  readonly #world: StreamWorld;
  readonly #functions: UserFunctions;
  readonly #options: PortOptions;
  readonly #core: PoolCore;
  readonly #replicas: (CoreReplica | undefined)[] = [];
  #ids = 0;
  #wakeAt = Infinity;
  #outageUntil = -1;

  constructor(world: StreamWorld, functions: UserFunctions, shape: StreamShape, options: PortOptions) {
    this.#world = world;
    this.#functions = functions;
    this.#options = options;
    const { maxDelayMs, batchTimeoutMs, seed } = world.scenario;
    this.#core = new PoolCore(
      {
        ...POOL_SHAPE,
        mailbox: { capacity: shape.poolCapacity, capacityBytes: 64_000_000, ageingMs: 1000 },
        batching: { ...POOL_SHAPE.batching, maxSize: shape.batchMax, maxDelayMs },
        batchTimeoutMs: batchTimeoutMs + 0.25,
        attempts: 3,
        // Restarts are not the subject here: a pool that gives up would end every stream the same way.
        restart: { max: 100_000, withinMs: 1000, backoffMs: 1, maxBackoffMs: 5, jitter: 0.5, quarantineMax: 100_000 },
      },
      forkRandom(seed, 16),
    );
    this.#core.setRepeatable(true);
    this.#core.rollOut('1', Math.min(8, shape.replicas), world.now);
    this.dispatch();
  }

  offer(slot: SimSlot): true | TroupeError | undefined {
    const world = this.#world;
    const { timeoutMs, timeoutMode } = world.scenario;
    if (world.strikes(STREAM_FAULT.refuse)) {
      return world.chance.next() < 0.5 ? SIM_ERRORS.refused : SIM_ERRORS.refusedForNow;
    }
    const hasCallTimeout = timeoutMode === 'batch' && timeoutMs > 0 && !this.#options.isSecond;
    const request = new Request({
      id: ++this.#ids,
      input: slot.input,
      owner: slot,
      sender: 0,
      priority: 0,
      bucket: '',
      bytes: 1,
      weight: 1,
      offeredAt: world.now,
      deadlineAt: slot.deadlineAt,
      callTimeoutMs: hasCallTimeout ? timeoutMs : undefined,
    });
    const offered = this.#core.offer(request, 'try', world.now);
    if (offered === 'full') {
      this.wantsRoom = true;
      this.#core.mailbox.wantRoom(0);
      this.#core.flush(world.now);
      return undefined;
    }
    if (offered !== 'accepted') world.violate('crash', `the pool answered an offer with ${offered}`);
    slot.submission++;
    slot.place = 'sent';
    return true;
  }

  flush(): void {
    this.#core.flush(this.#world.now);
    this.dispatch();
  }

  /** One turn of the pool: true where something was settled or room was given. */
  dispatch(): boolean {
    if (this.isClosed) return false;
    const core = this.#core;
    const { now } = this.#world;
    let hasMoved = false;
    for (;;) {
      core.dispatch(now);
      if (core.isQuiet) break;
      for (const effect of core.takeEffects()) this.#carryOut(effect);
      for (const request of core.takeSettled()) {
        this.#settled(request);
        hasMoved = true;
      }
    }
    if (this.wantsRoom && core.mailbox.hasRoomFor(0)) {
      this.wantsRoom = false;
      core.mailbox.gotRoom(0);
      this.#options.onRoom();
      hasMoved = true;
    }
    this.#arm();
    return hasMoved;
  }

  #settled(request: Request): void {
    const slot = request.owner as SimSlot;
    slot.place = 'out';
    const { error } = request;
    const version = this.#options.isSecond ? '2' : '1';
    const outcome: RecordOutcome =
      error === undefined ? { ok: true, value: request.value, version } : { ok: false, error };
    this.#options.onEnded(slot, outcome, this);
  }

  #carryOut(effect: Effect): void {
    switch (effect.kind) {
      case 'start': {
        const replica = new CoreReplica(effect.cell, effect.incarnation);
        this.#replicas[effect.cell] = replica;
        this.#after(this.#world.scenario.costMs * this.#world.chance.next(), () => {
          if (!replica.isGone) this.#core.ready(replica.cell, replica.incarnation, this.#world.now);
        });
        break;
      }
      case 'send':
        this.#run(this.#replicas[effect.cell] as CoreReplica, effect.batchId, effect.requests);
        break;
      case 'kill':
        this.#die(this.#replicas[effect.cell] as CoreReplica, DEATHS.hung);
        break;
      default:
        // Nobody stops or swaps here, and news is for people.
        break;
    }
  }

  #run(replica: CoreReplica, batchId: number, requests: readonly Request[]): void {
    const world = this.#world;
    const core = this.#core;
    const { cell, incarnation } = replica;
    let ms = world.scenario.costMs * (0.5 + world.chance.next());
    if (world.strikes(STREAM_FAULT.slow)) ms *= 10;
    if (world.strikes(STREAM_FAULT.outage)) this.#outageUntil = world.now + 20 * world.scenario.costMs;
    if (world.strikes(STREAM_FAULT.hang)) return;
    const isLate = world.strikes(STREAM_FAULT['late-answer']);
    if (isLate) ms += world.scenario.batchTimeoutMs * (1 + world.chance.next());
    if (world.isSafe && world.now < this.#outageUntil) this.#dieAfter(ms, replica, DEATHS.crash);
    else if (world.strikes(STREAM_FAULT.crash)) this.#dieAfter(ms, replica, DEATHS.crash);
    else if (world.strikes(STREAM_FAULT.oom)) this.#dieAfter(ms, replica, DEATHS.oom);
    else {
      const isThrown = world.strikes(STREAM_FAULT.throw);
      const isLie = !isThrown && world.strikes(STREAM_FAULT['wrong-count']);
      // The core itself tells an answer of a replica that is gone from one that counts.
      this.#after(ms, () => {
        if (replica.isGone && !isLate) return;
        if (isThrown) core.failed(cell, incarnation, batchId, SIM_ERRORS.throw, world.now);
        else if (isLie) core.failed(cell, incarnation, batchId, SIM_ERRORS.wrongCount, world.now);
        else core.reply(cell, incarnation, batchId, requests.map(this.#row), world.now);
      });
    }
  }

  readonly #row = (request: Request): typeof BAD_ROW | { readonly ok: true; readonly value: unknown } => {
    const value = request.input as number;
    if (!this.#options.isSecond && this.#functions.isPoison(value)) {
      this.#world.fired(STREAM_FAULT.poison);
      return BAD_ROW;
    }
    return this.#world.strikes(STREAM_FAULT['row-error']) ? BAD_ROW : { ...GOOD_ROW, value };
  };

  #dieAfter(ms: number, replica: CoreReplica, death: DeathNotice): void {
    this.#after(ms * this.#world.chance.next(), () => this.#dieNow(replica, death));
  }

  #die(replica: CoreReplica, death: DeathNotice): void {
    this.#after(0, () => this.#dieNow(replica, death));
  }

  #dieNow(replica: CoreReplica, death: DeathNotice): void {
    if (replica.isGone) return;
    replica.isGone = true;
    this.#core.died(replica.cell, replica.incarnation, death, this.#world.now);
  }

  #arm(): void {
    const at = this.#core.nextWakeAt();
    if (at >= this.#wakeAt || at === Infinity) return;
    this.#wakeAt = at;
    this.#world.at(at, STREAM_EVENT.pool, 0, new CoreEvent(this, () => this.#wake()));
  }

  #wake(): void {
    if (this.#world.now < this.#wakeAt) {
      this.#world.eventCount--; // a timer that was put earlier
      return;
    }
    this.#wakeAt = Infinity;
    this.#core.tick(this.#world.now);
  }

  #after(ms: number, happen: () => void): void {
    this.#world.after(ms, STREAM_EVENT.pool, 1, new CoreEvent(this, happen));
  }
}
