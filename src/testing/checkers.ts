/**
 * The oracle of one simulated pool: keeps books of its own from what crosses the core's border, and ends the run where
 * the core's word and the books differ. Each check has a name; the names are listed in docs/simulation.md.
 *
 * It never asks the core for a reason. What it reads of the core is public state (counts, cells) to compare.
 */

import type { DeathNotice, PoolNews } from '../core/effects.js';
import type { MailboxLimits, Overflow } from '../core/mailbox.js';
import type { Request } from '../core/request.js';
import { RestartOracle } from './restart-oracle.js';
import type { SimPool } from './sim-pool.js';
import { POISON, type SimRecord } from './sim-record.js';
import { ScalingOracle } from './scaling-oracle.js';
import type { SimReplica } from './sim-replica.js';
import type { Message } from './sim-transport.js';
import { TrialOracle } from './trial-oracle.js';
import type { World } from './world.js';

const EPSILON_MS = 1e-6;
/** The books are gone through record by record this often (in turns); the cheap checks run every turn. */
const AUDIT_EVERY = 61;

export class PoolOracle {
  readonly restarts: RestartOracle;
  readonly trial: TrialOracle;
  readonly scaling: ScalingOracle | undefined;
  /** Every request the core took, in order. */
  readonly accepted: Request[] = [];
  acceptedCount = 0;
  settledCount = 0;
  refusedCount = 0;
  sentCount = 0;
  sentRecordCount = 0;
  splitCount = 0;
  /** Most splits that the throws seen so far explain. */
  splitAllowance = 0;
  maxHeld = 0;
  /** Offers turned away for want of room, operators' included. */
  fullCount = 0;
  upCount = 0;
  scaledCount = 0;
  readonly #world: World;
  readonly #pool: SimPool;
  readonly #limits: MailboxLimits;

  #servingVersion: string | undefined;
  #rolloutVersion: string | undefined;
  #versionBefore: string | undefined;
  /** Of the result seen last, and the number it spells. */
  #lastVersion: string | undefined;
  #lastVersionNumber = 0;
  #isDraining = false;
  #isStopping = false;
  #hasFailed = false;
  #wasRevived = false;
  /** The replica that died last was of a version on trial. */
  #wasOnTrial = false;
  #drainedCount = 0;
  #stoppedCount = 0;
  #turn = 0;
  /** How many of the accepted, from the first on, are known to have settled. */
  #settledFirst = 0;

  constructor(world: World, pool: SimPool) {
    this.#world = world;
    this.#pool = pool;
    this.#limits = world.scenario.limits.mailbox;
    this.restarts = new RestartOracle(world);
    this.trial = new TrialOracle(world);
    const { scaling } = world.scenario.limits;
    if (scaling !== undefined) this.scaling = new ScalingOracle(world, pool, scaling);
  }

  // ----------------------------------------------------------------- records

  offered(request: Request, record: SimRecord, overflow: Overflow, offer: string): void {
    const { state } = this.#pool.core;
    switch (offer) {
      case 'accepted':
      case 'door':
      case 'dropped':
        this.acceptedCount++;
        this.accepted.push(request);
        this.scaling?.accepted();
        if (this.#isDraining || this.#isStopping)
          this.#violate('closed', `record ${record.id} was accepted after drain or stop`);
        if (offer === 'accepted') return;
        break;
      default:
        if (overflow !== 'try' || (offer !== 'full' && offer !== 'too-large')) this.refusedCount++;
        if (request.place !== 'nowhere') this.#violate('one-outcome', `record ${record.id} was refused and kept`);
    }
    // Nothing is offered as often as that for which there is no room.
    if (offer === 'full') {
      this.fullCount++;
      if (overflow === 'drop-newest') this.#violate('overflow', 'drop-newest refused instead of dropping');
      this.#mustBeFull(request, overflow);
      return;
    }
    if (offer === 'overloaded') this.#mustBeLate(request, record, overflow);
    if (offer === 'door' && overflow !== 'wait')
      this.#violate('overflow', `${overflow} let record ${record.id} wait at the door`);
    if (offer === 'dropped' && overflow !== 'drop-newest')
      this.#violate('overflow', `${overflow} dropped the newcomer`);
    if (offer === 'dropped' || offer === 'door') this.#mustBeFull(request, overflow);
    if ((offer === 'closed' || offer === 'failed') && (state === 'running' || state === 'starting'))
      this.#violate('closed', `a ${state} pool took no records`);
  }

  /** Only what has a deadline is refused for it, and never while a replica is free and nothing waits. */
  #mustBeLate(request: Request, record: SimRecord, overflow: Overflow): void {
    const { core, live } = this.#pool;
    if (overflow !== 'reject' && overflow !== 'wait')
      this.#violate('admission', `${overflow} refused record ${record.id} as too late`);
    if (request.deadlineAt === Infinity)
      this.#violate('admission', `record ${record.id} has no deadline and was refused as too late`);
    // What the core has decided and nobody has carried out is not seen in the replicas.
    if (core.mailbox.held > 0 || !core.isQuiet) return;
    for (const replica of live)
      if (
        replica.isReady &&
        replica.open.length === 0 &&
        replica.version === this.#servingVersion &&
        core.fleet.cells.get(replica.cell)?.isProved === true &&
        !replica.stopAsked &&
        !replica.killAsked
      )
        this.#violate('admission', `record ${record.id} was refused as too late beside a free replica`);
  }

  /** Fair shares aside, a pool that says it is full is full. */
  #mustBeFull(request: Request, overflow: Overflow): void {
    const { mailbox } = this.#pool.core;
    const { capacity, capacityBytes } = mailbox.limits;
    if (mailbox.held >= capacity || mailbox.heldBytes + request.bytes > capacityBytes) return;
    if (mailbox.doorCount > 0 || this.#pool.waitingCount > 0) return; // M7
    this.#violate('overflow', `${overflow} turned record ${request.id} away with ${mailbox.held} of ${capacity} held`);
  }

  sent(message: Message): void {
    const { replica, requests, isQuarantine } = message;
    const { limits } = this.#world.scenario;
    const now = this.#world.now;
    const size = requests.length;
    this.sentCount++;
    this.sentRecordCount += size;
    if (replica.isTold || !replica.isReady)
      this.#violate('fencing', `batch ${message.batchId} went to a replica that is not ready`);
    if (replica.version !== this.#servingVersion && !this.trial.mayWork(replica.version))
      this.#violate(
        'versions',
        `batch ${message.batchId} went to version ${replica.version} while ${this.#servingVersion} serves`,
      );
    if (replica.stopAsked || replica.killAsked)
      this.#violate('fencing', `batch ${message.batchId} went to a replica being stopped`);
    const { batching } = limits;
    if (replica.open.length >= limits.maxInFlight)
      this.#violate(
        'bounded',
        `replica holds ${replica.open.length + 1} batches, maxInFlight is ${limits.maxInFlight}`,
      );
    if (size === 0 || size > batching.maxSize)
      this.#violate('batch-limits', `a batch of ${size}, maxSize is ${batching.maxSize}`);
    if (isQuarantine && (size > 1 || replica.open.length > 0))
      this.#violate('quarantine', 'a suspect does not run alone');
    if (!isQuarantine && replica.open.length > 0 && (replica.open[0] as Message).isQuarantine)
      this.#violate('quarantine', 'a batch was sent behind a suspect');
    const bucket = (requests[0] as Request).bucket;
    let bytes = 0;
    let weight = 0;
    let poisons = 0;
    for (let i = 0; i < size; i++) {
      const request = requests[i] as Request;
      const record = request.owner as SimRecord;
      bytes += request.bytes;
      weight += request.weight;
      if (record.poison === POISON.throws) poisons++;
      if (request.bucket !== bucket) this.#violate('batch-limits', 'a batch mixes buckets');
      if (record.settleCount > 0) this.#violate('one-outcome', `record ${record.id} was sent after it had settled`);
      if (record.deathCount >= limits.attempts)
        this.#violate('attempts', `record ${record.id} was sent after ${record.deathCount} deaths`);
      if (request.deadlineAt <= now) this.#violate('deadlines', `record ${record.id} was sent after its deadline`);
      if (record.sendCount === 0 && this.#waitEndOf(request) <= now)
        this.#violate('deadlines', `record ${record.id} was sent after it had waited too long`);
      if (record.sendCount++ === 0 && request.key === undefined) this.#firstSend(record);
    }
    if (size > 1 && (bytes > batching.maxBytes || weight > batching.maxWeight))
      this.#violate('batch-limits', `a batch of ${bytes} bytes and weight ${weight}`);
    this.trial.sent(message);
    message.poisonCount = poisons;
    if (message.trigger === 'split') this.splitCount++;
    else if (poisons > 0 && size > 1) this.splitAllowance += 2 * poisons * Math.ceil(Math.log2(size));
    if (this.splitCount > this.splitAllowance)
      this.#violate('bisect', `${this.splitCount} split batches, the throws so far explain ${this.splitAllowance}`);
  }

  /** M4: one sender, bucket and priority keep the order of arrival on the way to the replicas. */
  #firstSend(record: SimRecord): void {
    const client = this.#pool.clients[record.client];
    if (client === undefined) return;
    const lane = record.seq % this.#world.scenario.buckets;
    if ((client.lastSentSeq[lane] ?? -1) >= record.seq)
      this.#violate(
        'order',
        `record ${record.seq} of client ${client.index} was overtaken by ${client.lastSentSeq[lane]}`,
      );
    client.lastSentSeq[lane] = record.seq;
  }

  answered(message: Message): void {
    // A throw without a culprit costs at most the two halves of its batch.
    if (message.threwByChance && message.requests.length > 1) this.splitAllowance += 2;
    this.restarts.progressed(message.replica.cell);
  }

  abandoned(cell: number, batchId: number): void {
    const flight = this.#pool.core.ledger.get(cell, batchId);
    if (flight === undefined) return;
    for (const request of flight.requests)
      if (request.place === 'in-flight')
        this.#violate('fencing', `batch ${batchId} of cell ${cell} was abandoned, a caller still waits`);
  }

  settled(request: Request, record: SimRecord): void {
    const world = this.#world;
    this.settledCount++;
    if (++record.settleCount > 1) this.#violate('one-outcome', `record ${record.id} settled twice`);
    const { failure } = request;
    world.note(record.id);
    if (failure === undefined) {
      if (record.runCount === 0) this.#violate('pairing', `record ${record.id} has a value and never ran`);
      if (request.version !== this.#lastVersion) {
        this.#lastVersion = request.version;
        this.#lastVersionNumber = Number(request.version);
      }
      const version = this.#lastVersionNumber;
      if (request.value !== record.id * 64 + version)
        this.#violate(
          'pairing',
          `record ${record.id} got ${String(request.value)}, not its own value of version ${request.version}`,
        );
      return;
    }
    const { code, ran } = failure;
    world.note(code.length + (code.charCodeAt(0) << 8));
    this.#ranTruly(record, ran, code);
    this.#because(request, record, code);
  }

  /** Promise 2: the error says whether the record may have run. */
  #ranTruly(record: SimRecord, ran: string, code: string): void {
    const wasSent = record.sendCount > 0;
    if (ran === 'not-started' ? wasSent : !wasSent)
      this.#violate('ran', `record ${record.id} settled with ${code} as ${ran} after ${record.sendCount} sends`);
  }

  /** Until it was sent: when it has waited for as long as it may. */
  #waitEndOf({ offeredAt, deadlineAt }: Request): number {
    return deadlineAt === Infinity ? Infinity : Math.min(deadlineAt, offeredAt + (this.#limits.maxWaitMs ?? Infinity));
  }

  /** Every error has its cause in what the simulator did. */
  #because(request: Request, record: SimRecord, code: string): void {
    const world = this.#world;
    const { core } = this.#pool;
    const { overflow, limits, repeatable } = world.scenario;
    let isTrue: boolean;
    let dueAt: number;
    switch (code) {
      case 'DEADLINE_PASSED':
        dueAt = record.sendCount === 0 ? this.#waitEndOf(request) : request.deadlineAt;
        isTrue = dueAt <= world.now;
        if (world.now > Math.max(dueAt, request.offeredAt, world.stalledUntil) + EPSILON_MS)
          this.#violate('deadlines', `record ${record.id} expired ${world.now - dueAt} ms late`);
        break;
      case 'CANCELLED':
        isTrue = record.wasCancelled;
        break;
      case 'MAILBOX_DROPPED':
        isTrue = overflow === 'drop-oldest' || overflow === 'drop-newest';
        break;
      case 'PREDICT_FAILED':
        isTrue = record.threwAlone || record.poison === POISON.row || record.metPoorVersion;
        break;
      case 'PROTOCOL_VIOLATION':
        isTrue = record.wasLiedAbout;
        break;
      case 'ACTOR_CRASHED':
      case 'ACTOR_HUNG':
      case 'ACTOR_OOM':
        isTrue =
          record.deathCount >= limits.attempts ||
          record.diedAlone ||
          (!repeatable && record.wasHeldAtDeath) ||
          (record.deathCount > 0 && this.restarts.quarantineIsUsedUp(core.fleet.cells, world.now));
        break;
      case 'NO_REPLICA':
        isTrue = core.state === 'failed' || this.#hasFailed;
        break;
      case 'POOL_STOPPED':
        isTrue = this.#isStopping;
        break;
      default:
        isTrue = false;
    }
    if (!isTrue)
      this.#violate(
        'cause',
        `record ${record.id} settled with ${code} and nothing that happened explains it: ${request.error?.message}`,
      );
  }

  // ---------------------------------------------------------------- replicas

  started(replica: SimReplica, previous: SimReplica | undefined): void {
    if (previous !== undefined && !previous.isTold)
      this.#violate('one-owner', `cell ${replica.cell} was started while incarnation ${previous.incarnation} lives`);
    if (replica.incarnation !== (previous?.incarnation ?? 0) + 1)
      this.#violate(
        'incarnations',
        `cell ${replica.cell} went from ${previous?.incarnation ?? 0} to ${replica.incarnation}`,
      );
    this.restarts.started(replica);
    this.trial.started([...this.#pool.live, replica]);
  }

  died(replica: SimReplica, death: DeathNotice): void {
    const { core } = this.#pool;
    const isBlamed = death.cause !== 'killed' && death.cause !== 'stopped' && death.cause !== 'load-failed';
    let isFirst = true;
    for (const message of replica.open) {
      const ran = isFirst && (replica.killAsked || !replica.stopAsked);
      isFirst = false;
      for (const request of message.requests) {
        const record = request.owner as SimRecord;
        if (record.settleCount > 0) continue;
        record.wasHeldAtDeath = true;
        if (!ran) continue;
        record.deathCount++;
        if (message.isQuarantine && isBlamed) record.diedAlone = true;
      }
    }
    this.#wasOnTrial = this.trial.mayTry(replica.version) && core.fleet.cells.get(replica.cell)?.isProved === true;
    this.restarts.died(replica, death, core.fleet.cells, this.#isRollout(replica) && !this.#wasOnTrial);
  }

  buried(replica: SimReplica): void {
    this.restarts.buried(replica, this.#pool.core.fleet.cells, this.#wasOnTrial);
  }

  #isRollout(replica: SimReplica): boolean {
    return this.#pool.isRollingOut && replica.version === this.#rolloutVersion;
  }

  // -------------------------------------------------------------- operations

  get rolloutVersion(): string | undefined {
    return this.#rolloutVersion;
  }

  rollingOut(version: string): void {
    this.#rolloutVersion = version;
    this.#versionBefore = this.#pool.core.fleet.version;
    this.scaling?.rollingOut();
  }

  told(news: PoolNews): void {
    const { core } = this.#pool;
    switch (news.name) {
      case 'up':
        // The old one is back before it is told why.
        if (
          news.version !== this.#rolloutVersion &&
          news.version !== this.#servingVersion &&
          news.version !== this.trial.kept &&
          !(this.trial.isOn && news.version === this.#versionBefore)
        )
          this.#violate('versions', `version ${news.version} came up unasked`);
        this.#servingVersion = news.version;
        this.upCount++;
        break;
      case 'ready':
        this.scaling?.ready();
        break;
      case 'scaled':
        this.scaledCount++;
        this.scaling?.told(news);
        break;
      case 'rollout-failed':
        if (core.fleet.version !== this.#versionBefore)
          this.#violate(
            'swap',
            `a failed swap changed the version from ${this.#versionBefore} to ${core.fleet.version}`,
          );
        this.#servingVersion = this.#versionBefore;
        this.#othersGoOn();
        break;
      case 'rollout':
        this.trial.told(news);
        break;
      case 'freed':
        // A revived pool loads the same version again, beside the rest of the old.
        for (const replica of this.#pool.live)
          if (replica.version === news.version && !this.#wasRevived)
            this.#violate('swap', `version ${news.version} was told freed while a replica lives`);
        break;
      case 'drained':
        if (++this.#drainedCount > 1) this.#violate('drain', 'drained was told twice');
        if (!this.#isDraining) this.#violate('drain', 'drained was told and nobody had asked');
        if (this.acceptedCount !== this.settledCount + this.#pool.unreadSettledCount)
          this.#violate('drain', `drained was told with ${this.acceptedCount - this.settledCount} records unsettled`);
        break;
      case 'failed':
        this.#hasFailed = true;
        this.scaling?.failed();
        break;
      case 'stopped':
        if (++this.#stoppedCount > 1) this.#violate('stop', 'stopped was told twice');
        if (this.#pool.live.length > 0)
          this.#violate('stop', `stopped was told while ${this.#pool.live.length} replicas live`);
        break;
    }
  }

  /** Promise 6: where nothing else can have asked for it, no replica that serves is stopped for a failed swap. */
  #othersGoOn(): void {
    const { limits, swapStrategy, scales, holds } = this.#world.scenario;
    if (limits.strategy !== 'one-for-one' || limits.scaling !== undefined || swapStrategy !== 'beside') return;
    if (scales + holds > 0 || this.#isStopping || this.#wasRevived) return;
    for (const replica of this.#pool.live)
      if (replica.version === this.#servingVersion && replica.stopAsked && !this.#isReplaced(replica.cell))
        this.#violate('swap', `a failed swap stopped replica ${replica.slot} of version ${replica.version}`);
  }

  /** Ended for those who gave up what it ran, which has nothing to do with the swap. */
  #isReplaced(cell: number): boolean {
    return this.#pool.core.fleet.cells.get(cell)?.state === 'replacing';
  }

  draining(): void {
    this.#isDraining = true;
  }

  stopping(): void {
    this.#isStopping = true;
  }

  reviving(): void {
    this.#isDraining = false;
    this.#drainedCount = 0;
    this.#wasRevived = true;
    this.trial.over();
    this.#servingVersion = undefined;
    this.#versionBefore = this.#pool.core.fleet.version;
    this.#rolloutVersion = this.#pool.core.fleet.version ?? this.#rolloutVersion;
  }

  // ------------------------------------------------------------------- turns

  turnEnded(now: number): void {
    const { core } = this.#pool;
    const { mailbox } = core;
    const limits = this.#limits;
    if (mailbox.held > limits.capacity || mailbox.heldBytes > limits.capacityBytes)
      this.#violate('bounded', `mailbox holds ${mailbox.held} records and ${mailbox.heldBytes} bytes`);
    if (mailbox.held > this.maxHeld) this.maxHeld = mailbox.held;
    if (mailbox.doorCount > limits.capacity) this.#violate('bounded', `${mailbox.doorCount} stand at the door`);
    if (core.heldCount !== this.acceptedCount - this.settledCount)
      this.#violate(
        'one-outcome',
        `core holds ${core.heldCount}, ${this.acceptedCount - this.settledCount} are unsettled`,
      );
    this.scaling?.turnEnded();
    if (++this.#turn % AUDIT_EVERY === 0) this.#audit(now);
  }

  #audit(now: number): void {
    const { core } = this.#pool;
    const { mailbox } = core;
    let waiting = 0;
    let waitingBytes = 0;
    let oldestAt = Infinity;
    const { accepted } = this;
    while (accepted[this.#settledFirst]?.place === 'settled') this.#settledFirst++;
    for (let i = this.#settledFirst; i < accepted.length; i++) {
      const request = accepted[i] as Request;
      if (request.place !== 'mailbox') continue;
      waiting++;
      waitingBytes += request.bytes;
      // What has a key may have to wait for another of it, or for one version.
      if (request.key === undefined && request.offeredAt < oldestAt) oldestAt = request.offeredAt;
    }
    if (waiting !== mailbox.held || waitingBytes !== mailbox.heldBytes)
      this.#violate(
        'bounded',
        `mailbox says ${mailbox.held} records, ${mailbox.heldBytes} bytes; there are ${waiting}, ${waitingBytes}`,
      );
    if (oldestAt === Infinity) return;
    const { maxDelayMs } = this.#world.scenario.limits.batching;
    for (const replica of this.#pool.live) {
      if (!replica.isReady || replica.open.length > 0 || replica.stopAsked || replica.killAsked) continue;
      if (replica.version !== this.#servingVersion || core.fleet.cells.get(replica.cell)?.isProved !== true) continue;
      if (oldestAt + maxDelayMs + EPSILON_MS < now)
        this.#violate(
          'work-conserving',
          `a record waits ${now - oldestAt} ms beside an idle replica, maxDelayMs is ${maxDelayMs}`,
        );
    }
  }

  // ----------------------------------------------------------------- the end

  /** Faults are long over: the pool has its shape again. */
  restored(): void {
    const { core } = this.#pool;
    if (core.state !== 'running') return;
    if (this.#pool.isRollingOut) this.#violate('progress', 'a roll-out neither came up nor failed');
    const found = new Set<number>();
    for (const cell of core.fleet.cells.values()) {
      if (cell.version !== this.#servingVersion)
        this.#violate('swap', `cell ${cell.id} of version ${cell.version} was never freed`);
      if (cell.state === 'ready' || cell.state === 'failed' || cell.state === 'stopped') found.add(cell.replica);
      else this.#violate('progress', `cell ${cell.id} is still ${cell.state}`);
    }
    for (let slot = 0; slot < core.fleet.replicas; slot++)
      if (!found.has(slot)) this.#violate('progress', `slot ${slot} of ${core.fleet.replicas} has no replica`);
    if (core.fleet.readyCount === 0 && core.rest !== 'asleep')
      this.#violate('progress', 'a pool without a replica says it is running');
    this.scaling?.restored();
  }

  drained(): void {
    const { core } = this.#pool;
    if (core.state === 'draining' && this.#drainedCount === 0)
      this.#violate('drain', 'nothing is held and drained was not told');
  }

  /** Nothing is left to happen. */
  ended(): void {
    const { core, clients, live } = this.#pool;
    const { mailbox, ledger } = core;
    for (const request of this.accepted)
      if ((request.owner as SimRecord).settleCount !== 1)
        this.#violate('one-outcome', `record ${request.id} has no outcome`);
    for (const client of clients)
      if (!client.isDone)
        this.#violate('progress', `client ${client.index} got ${client.doneCount} of ${client.total} outcomes`);
    if (core.state !== 'stopped') this.#violate('stop', `the pool is ${core.state} at the end`);
    if (live.length > 0) this.#violate('stop', `${live.length} replicas outlive their pool`);
    if (
      mailbox.held + mailbox.heldBytes + mailbox.doorCount + mailbox.buckets.length + ledger.size + core.heldCount >
      0
    )
      this.#violate(
        'leaks',
        `left over: mailbox ${mailbox.held}, buckets ${mailbox.buckets.length}, ledger ${ledger.size}`,
      );
    if (core.nextWakeAt() !== Infinity) this.#violate('leaks', `a timer is left for ${core.nextWakeAt()}`);
    let errors = 0;
    for (const count of core.counts.errors.values()) errors += count;
    if (core.counts.accepted !== this.acceptedCount || core.counts.refused !== this.refusedCount)
      this.#violate(
        'counts',
        `accepted ${core.counts.accepted}, refused ${core.counts.refused}; seen ${this.acceptedCount}, ${this.refusedCount}`,
      );
    if (core.counts.resolved + errors !== core.counts.settled || core.counts.settled !== this.settledCount)
      this.#violate(
        'counts',
        `resolved ${core.counts.resolved} + errors ${errors} is not settled ${core.counts.settled}`,
      );
    if (core.counts.batches !== this.sentCount || core.counts.batched !== this.sentRecordCount)
      this.#violate(
        'counts',
        `batches ${core.counts.batches} of ${core.counts.batched} records; sent ${this.sentCount} of ${this.sentRecordCount}`,
      );
  }

  #violate(checker: string, what: string): never {
    this.#world.violate(checker, what);
  }
}
