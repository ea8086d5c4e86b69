import { OperatorCore, type OperatorRules } from '../../src/core/operator.js';
import { OperatorSlot } from '../../src/core/operator-slot.js';
import { type ErrorCode, type Ran, TroupeError } from '../../src/kernel/errors.js';
import { type Random } from '../../src/kernel/random.js';
import type { RetryLimits } from '../../src/core/retry-policy.js';

export class TestSlot extends OperatorSlot {
  constructor(
    readonly seq: number,
    readonly key = '',
  ) {
    super();
  }
}

export const RETRY: RetryLimits = {
  attempts: 3,
  backoffMs: 100,
  maxBackoffMs: 1000,
  multiplier: 2,
  jitter: 0,
  rules: {},
};

export function rulesOf(rules: Partial<OperatorRules> = {}): OperatorRules {
  return {
    name: 'embed',
    order: 'ordered',
    capacity: 64,
    retry: undefined,
    retryBudget: { share: Infinity, floor: 0, windowMs: 1000 },
    breaker: undefined,
    hasSecond: false,
    ...rules,
  };
}

export const failure = (code: ErrorCode = 'ACTOR_CRASHED', details: { ran?: Ran; retryAfterMs?: number } = {}) =>
  ({ ok: false, error: new TroupeError(code, `${code} came`, details) }) as const;

export const success = (value: unknown = 'fine') => ({ ok: true, value, version: undefined }) as const;

/** A core with a pool that takes everything at once and whose outcomes the test gives; time moves by hand. */
export class OperatorDriver {
  readonly core: OperatorCore<TestSlot>;
  /** With the pool, in the order of their offers; and with the second pool. */
  readonly sent: TestSlot[] = [];
  readonly second: TestSlot[] = [];
  readonly offers: { readonly seq: number; readonly at: number }[] = [];
  now = 0;
  hasRoom = true;
  #entered = 0;

  constructor(rules: Partial<OperatorRules> = {}, random: Random = () => 0.5) {
    this.core = new OperatorCore<TestSlot>(rulesOf(rules), random);
  }

  enter({ leftMs, key = '' }: { leftMs?: number | undefined; key?: string } = {}): TestSlot {
    const slot = new TestSlot(this.#entered, key);
    this.#entered += 1;
    slot.leftMs = leftMs;
    this.core.accept(slot, key);
    this.offer();
    return slot;
  }

  control(): TestSlot {
    const slot = new TestSlot(this.#entered);
    this.#entered += 1;
    slot.isFence = true;
    this.core.pass(slot, '');
    return slot;
  }

  offer(): void {
    const { core, now } = this;
    for (let slot = core.next(now); slot !== undefined && this.hasRoom; slot = core.next(now)) {
      if (slot.deadlineAt <= now) throw new Error(`O4: ${slot.seq} has expired and is offered`);
      core.submitted(slot);
      this.sent.push(slot);
      this.offers.push({ seq: slot.seq, at: now });
    }
    for (let slot = core.nextSecond(now); slot !== undefined; slot = core.nextSecond(now)) {
      core.submittedSecond(slot);
      this.second.push(slot);
    }
  }

  end(slot: TestSlot, outcome: Parameters<OperatorCore['ended']>[1]): void {
    const lane = slot.state === 'second-sent' ? this.second : this.sent;
    lane.splice(lane.indexOf(slot), 1);
    this.core.ended(slot, outcome, this.now);
    this.offer();
  }

  advance(ms: number): void {
    const until = this.now + ms;
    while (this.core.nextWakeAt <= until) {
      this.now = Math.max(this.now, this.core.nextWakeAt);
      this.core.tick(this.now);
      this.offer();
    }
    this.now = until;
  }

  takeAll(): TestSlot[] {
    const taken: TestSlot[] = [];
    for (let slot = this.core.take(); slot !== undefined; slot = this.core.take()) taken.push(slot);
    return taken;
  }
}

export const codeOf = (slot: OperatorSlot | undefined): ErrorCode | undefined =>
  slot?.outcome?.ok === false ? slot.outcome.error.code : undefined;
