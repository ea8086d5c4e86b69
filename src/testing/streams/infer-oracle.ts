/**
 * The rules of an infer step, read a second time: order, capacity, tries, backoff, budget, breaker, deadlines. Told what
 * the edge sees, it ends the run where the core did something that the rules do not explain.
 */
import type { OperatorCore } from '../../core/operator.js';
import type { Backoff } from '../../core/retry-policy.js';
import type { TroupeError } from '../../kernel/errors.js';
import type { HeldState } from '../../stream/stage.js';
import type { StreamScenario } from './scenario.js';
import type { SimSlot } from './sim-target.js';
import type { StreamWorld } from './world.js';

const EPSILON = 1e-6;

export class InferOracle {
  // seen
  heldCount = 0;
  firstTryCount = 0;
  retryCount = 0;
  openedCount = 0;
  probeCount = 0;
  fullCount = 0;
  expiredCount = 0;
  longestHeld = 0;
  /** Records that went on with tries of an earlier run. */
  resumedCount = 0;

  readonly #world: StreamWorld;
  readonly #core: OperatorCore<SimSlot>;
  readonly #startedAt: number;
  /** Of any rule. */
  readonly #attemptsMax: number;
  #lastTaken = -1;
  readonly #lastOfKey = new Map<string, number>();
  /** What entered last before everything that has been taken as a fence. */
  #lastFence = -1;
  /** Unordered and keyed: entries taken, of those that a fence must wait for. */
  #takenCount = 0;

  // of the breaker
  #breakerChanges = 0;
  #openedAt = -Infinity;
  readonly #probes = new Set<SimSlot>();
  readonly #verdictsAt: number[] = [];
  #refusalsBefore = 0;
  #stateBefore = 'closed';

  // of the try that ends
  #triesBefore = 0;
  #budgetRefusalsBefore = 0;

  constructor(world: StreamWorld, core: OperatorCore<SimSlot>) {
    this.#world = world;
    this.#core = core;
    this.#startedAt = world.now;
    this.#attemptsMax = attemptsMax(world.scenario);
  }

  // ------------------------------------------------------------------- order

  entered(slot: SimSlot, saved: HeldState | undefined): void {
    slot.restoredAttempts = saved?.attempts ?? 0;
    if (saved !== undefined) this.resumedCount++;
    if (++this.heldCount > this.#core.rules.capacity)
      this.#violate('capacity', `${this.heldCount} records are held of ${this.#core.rules.capacity}`);
    if (this.heldCount > this.longestHeld) this.longestHeld = this.heldCount;
    if (this.heldCount === this.#core.rules.capacity) this.fullCount++;
  }

  taken(slot: SimSlot): void {
    const { order } = this.#core.rules;
    this.heldCount--;
    this.#takenCount++;
    this.#world.note(slot.entry);
    if (!slot.isSettled || slot.state !== 'settled')
      this.#violate('one-outcome', `record ${slot.envelope.id} left as ${slot.state}`);
    if (slot.place !== 'out') this.#violate('one-outcome', `record ${slot.envelope.id} left while the pool held it`);
    if (order === 'ordered' ? slot.entry !== this.#lastTaken + 1 : slot.entry < this.#lastFence)
      this.#violate('order', `entry ${slot.entry} left after entry ${Math.max(this.#lastTaken, this.#lastFence)}`);
    this.#lastTaken = slot.entry;
    if (slot.isFence) {
      // All that entered before it has left.
      if (this.#takenCount !== slot.entry + 1)
        this.#violate('fence', `fence ${slot.entry} was the ${this.#takenCount}th to leave`);
      this.#lastFence = slot.entry;
    } else if (order === 'keyed') {
      const last = this.#lastOfKey.get(slot.key) ?? -1;
      if (slot.entry < last) this.#violate('order', `entry ${slot.entry} of key ${slot.key} left after ${last}`);
      this.#lastOfKey.set(slot.key, slot.entry);
    }
    const { outcome } = slot;
    if (outcome?.ok === true && outcome.value !== slot.envelope.value)
      this.#violate('pairing', `record ${slot.envelope.id} got the result of another`);
    this.#tries(slot);
  }

  // ------------------------------------------------------------------- tries

  asking(): void {
    const { breaker, counts } = this.#core;
    this.#refusalsBefore = counts.breakerRefusals;
    this.#stateBefore = breaker?.state ?? 'closed';
    this.#watchBreaker();
  }

  /** What `next` gave. */
  given(slot: SimSlot | undefined): void {
    const { breaker, counts } = this.#core;
    const { now } = this.#world;
    if (breaker !== undefined) {
      this.#watchBreaker();
      if (counts.breakerRefusals > this.#refusalsBefore) this.#refused();
    }
    if (slot === undefined) return;
    if (slot.deadlineAt <= now)
      this.#violate('expired', `record ${slot.envelope.id} is offered ${now - slot.deadlineAt} ms after its deadline`);
    if (slot.isSettled) this.#violate('one-outcome', `record ${slot.envelope.id} is settled and offered again`);
    if (slot.place !== 'out')
      this.#violate('one-outcome', `record ${slot.envelope.id} is offered while the pool has it`);
    if (breaker !== undefined && slot.lease !== slot.seenLease) this.#leased(slot);
    if (slot.attempts > slot.restoredAttempts && slot.countedTry !== slot.attempts) {
      slot.countedTry = slot.attempts;
      this.retryCount++;
      this.#budget();
    }
  }

  submitted(slot: SimSlot): void {
    if (slot.attempts === 0) this.firstTryCount++;
    slot.submitCount++;
    const attempts = this.#attemptsMax;
    if (slot.submitCount > 1 && slot.submitCount + slot.restoredAttempts > attempts)
      this.#violate(
        'attempts',
        `record ${slot.envelope.id}: try ${slot.submitCount + slot.restoredAttempts} of ${attempts}`,
      );
  }

  ending(slot: SimSlot): void {
    this.#triesBefore = slot.attempts;
    this.#budgetRefusalsBefore = this.#core.counts.budgetRefusals;
  }

  /** A try has ended, and the core has decided. */
  ended(slot: SimSlot, error: TroupeError | undefined): void {
    const { now } = this.#world;
    const { breaker, rules } = this.#core;
    if (slot.attempts !== this.#triesBefore + 1)
      this.#violate(
        'attempts',
        `record ${slot.envelope.id} was tried once and counts ${slot.attempts - this.#triesBefore}`,
      );
    if (breaker !== undefined) {
      if (slot.lease !== undefined) this.#violate('breaker', `record ${slot.envelope.id} keeps its lease`);
      slot.seenLease = undefined;
      this.#probes.delete(slot);
      if (error === undefined || error.ran !== 'not-started') this.#verdictsAt.push(now);
      this.#watchBreaker();
    }
    if (error === undefined) {
      if (slot.state !== 'settled')
        this.#violate('one-outcome', `record ${slot.envelope.id} has a result and is ${slot.state}`);
      this.#onTime(slot);
      return;
    }
    if (error.code === 'DEADLINE_PASSED') this.#expired(slot);
    const backoff = this.#backoffOf(error);
    const isRetried = slot.state === 'backoff';
    const fullMs =
      backoff === undefined
        ? Infinity
        : Math.min(backoff.maxBackoffMs, backoff.backoffMs * backoff.multiplier ** (slot.attempts - 1));
    const leastMs = backoff === undefined ? 0 : Math.max(fullMs * (1 - backoff.jitter), error.retryAfterMs ?? 0);
    if (isRetried) {
      if (backoff === undefined)
        this.#violate('retry', `record ${slot.envelope.id} is tried again after ${error.code}`);
      if (slot.attempts >= backoff.attempts)
        this.#violate(
          'attempts',
          `record ${slot.envelope.id} is tried again after ${slot.attempts} of ${backoff.attempts}`,
        );
      const waitMs = slot.dueAt - now;
      if (waitMs < leastMs - EPSILON || waitMs > Math.max(fullMs, error.retryAfterMs ?? 0) + EPSILON)
        this.#violate(
          'backoff',
          `record ${slot.envelope.id} waits ${waitMs} ms after try ${slot.attempts}, not ${leastMs} to ${fullMs}`,
        );
      if (slot.dueAt >= slot.deadlineAt)
        this.#violate('retry', `record ${slot.envelope.id} would be tried after its deadline`);
      return;
    }
    const isJustified =
      backoff === undefined ||
      slot.attempts >= backoff.attempts ||
      now + Math.max(fullMs, error.retryAfterMs ?? 0) >= slot.deadlineAt ||
      this.#core.counts.budgetRefusals > this.#budgetRefusalsBefore;
    if (!isJustified)
      this.#violate('retry', `record ${slot.envelope.id} is given up after ${error.code}, try ${slot.attempts}`);
    const expected = rules.hasSecond ? 'second-queued' : 'settled';
    if (slot.state !== expected) this.#violate('one-outcome', `record ${slot.envelope.id} failed and is ${slot.state}`);
    this.#onTime(slot);
  }

  endedSecond(slot: SimSlot): void {
    if (slot.state !== 'settled')
      this.#violate('one-outcome', `record ${slot.envelope.id} was answered and is ${slot.state}`);
  }

  turnEnded(): void {
    if (this.heldCount !== this.#core.heldCount)
      this.#violate(
        'one-outcome',
        `the core holds ${this.#core.heldCount} records, ${this.heldCount} went in and did not come out`,
      );
    this.#waitsInTime();
  }

  /** What waits for room in the pool expires there; looked for only where something waits. */
  #waitsInTime(): void {
    if (this.#world.scenario.timeoutMs === 0 || !this.#core.hasUnsent) return;
    for (const slot of this.#core.held()) if (slot.state === 'queued' && slot.hasStarted) this.#onTime(slot);
  }

  // ----------------------------------------------------------------- details

  #tries(slot: SimSlot): void {
    const tries = slot.attempts - slot.restoredAttempts;
    if (tries < slot.submitCount)
      this.#violate('attempts', `record ${slot.envelope.id}: ${slot.submitCount} tries, ${tries} counted`);
    if (slot.attempts > Math.max(this.#attemptsMax, slot.restoredAttempts + 1))
      this.#violate('attempts', `record ${slot.envelope.id} had ${slot.attempts} tries`);
  }

  /** Undefined: by the rules it is not tried again. */
  #backoffOf(error: TroupeError): Backoff | undefined {
    const { retry } = this.#world.scenario;
    if (retry === undefined) return undefined;
    const rule = retry.rules[error.code];
    if (rule === 'never') return undefined;
    if (rule !== undefined) return { ...retry, ...rule };
    return error.retryable && error.ran !== 'failed' ? retry : undefined;
  }

  #budget(): void {
    const { share, floor, windowMs } = this.#world.scenario.retryBudget;
    const allowed = share * this.firstTryCount + floor * (1 + (this.#world.now - this.#startedAt) / windowMs);
    // A record that an earlier run tried earns nothing here and may have been counted there.
    if (this.retryCount > allowed + EPSILON)
      this.#violate(
        'budget',
        `${this.retryCount} retries, ${allowed} are allowed for ${this.firstTryCount} first tries`,
      );
  }

  #expired(slot: SimSlot): void {
    this.expiredCount++;
    const { timeoutMode } = this.#world.scenario;
    if (timeoutMode === 'element' && this.#world.now < slot.deadlineAt - EPSILON)
      this.#violate('deadline', `record ${slot.envelope.id} expired ${slot.deadlineAt - this.#world.now} ms early`);
  }

  #onTime(slot: SimSlot): void {
    const { now } = this.#world;
    if (now > slot.deadlineAt + EPSILON && !this.#world.isExcused(slot.deadlineAt))
      this.#violate(
        'deadline',
        `record ${slot.envelope.id} was settled ${now - slot.deadlineAt} ms after its deadline`,
      );
  }

  // ----------------------------------------------------------------- breaker

  #watchBreaker(): void {
    const { breaker } = this.#core;
    if (breaker === undefined || breaker.changeCount === this.#breakerChanges) return;
    const { now } = this.#world;
    this.#breakerChanges = breaker.changeCount;
    this.#probes.clear();
    if (breaker.state !== 'open') return;
    this.openedCount++;
    this.#openedAt = now;
    const { windowMs, minCalls } = breaker.limits;
    if (this.#stateBefore !== 'closed') return;
    const calls = this.#verdictsAt.filter((at) => at >= now - windowMs).length;
    if (calls < minCalls) this.#violate('breaker', `it opened after ${calls} calls of at least ${minCalls}`);
  }

  #leased(slot: SimSlot): void {
    const { breaker } = this.#core;
    if (breaker === undefined) return;
    slot.seenLease = slot.lease;
    if (breaker.state === 'closed') return;
    if (breaker.state === 'open')
      this.#violate('breaker', `record ${slot.envelope.id} is let through while it is open`);
    const { openMs, probes } = breaker.limits;
    if (this.#world.now < this.#openedAt + openMs - EPSILON)
      this.#violate('breaker', `a probe ${this.#openedAt + openMs - this.#world.now} ms early`);
    this.#forgetEnded();
    this.#probes.add(slot);
    this.probeCount++;
    if (this.#probes.size > probes)
      this.#violate('breaker', `${this.#probes.size} probes at once, ${probes} are allowed`);
  }

  /** A probe may end inside the core: it expires while it waits for room. */
  #forgetEnded(): void {
    for (const slot of this.#probes) if (slot.lease !== slot.seenLease) this.#probes.delete(slot);
  }

  /** Records were refused: rightly only while it is open, or half-open with all its probes out. */
  #refused(): void {
    const { breaker } = this.#core;
    if (breaker === undefined) return;
    const { now } = this.#world;
    if (breaker.state === 'open' && now < this.#openedAt + breaker.limits.openMs) return;
    this.#forgetEnded();
    if (breaker.state === 'half-open' && this.#probes.size >= breaker.limits.probes) return;
    this.#violate(
      'breaker',
      `a record is refused while the breaker is ${breaker.state} with ${this.#probes.size} probes out`,
    );
  }

  #violate(checker: string, what: string): never {
    this.#world.violate(checker, what);
  }
}

function attemptsMax({ retry }: StreamScenario): number {
  if (retry === undefined) return 1;
  let most = retry.attempts;
  for (const rule of Object.values(retry.rules))
    if (rule !== 'never' && rule.attempts !== undefined) most = Math.max(most, rule.attempts);
  return most;
}
