import type { ErrorCode } from '../kernel/errors.js';
import { TRIGGERS, type Trigger } from './batcher.js';

const NO_TRIGGERS = Object.fromEntries(TRIGGERS.map((trigger) => [trigger, 0])) as Record<Trigger, number>;

/** What happened in a pool since it began, for stats. */
export class PoolCounts {
  accepted = 0;
  settled = 0;
  /** Of those settled: with a result. */
  resolved = 0;
  /** Of those resolved: their result was known already, and no replica has done anything for them. */
  known = 0;
  refused = 0;
  /** Of those refused: what waits already would have taken longer than their deadline allows. */
  overloaded = 0;
  lateResults = 0;
  batches = 0;
  /** Records in those batches; one that is sent twice counts twice. */
  batched = 0;
  /** Records that a version watched as a shadow was to be shown and had no room for. */
  shadowDropped = 0;
  readonly #errors = new Map<ErrorCode, number>();
  // Errors come in runs: those of one code are counted here until another comes or somebody asks.
  #lastCode: ErrorCode | undefined = undefined;
  #lastCount = 0;
  readonly triggers: Record<Trigger, number> = { ...NO_TRIGGERS };

  /** Accepted and not settled: at the door, waiting, to be retried, in flight. */
  get held(): number {
    return this.accepted - this.settled;
  }

  /** Settled without a result, by code. */
  get errors(): ReadonlyMap<ErrorCode, number> {
    this.#book();
    return this.#errors;
  }

  failed(code: ErrorCode): void {
    if (code !== this.#lastCode) {
      this.#book();
      this.#lastCode = code;
    }
    this.#lastCount++;
  }

  #book(): void {
    if (this.#lastCode === undefined || this.#lastCount === 0) return;
    this.#errors.set(this.#lastCode, (this.#errors.get(this.#lastCode) ?? 0) + this.#lastCount);
    this.#lastCount = 0;
  }

  /** By name and not by key: every batch is counted, and a look-up by key of ten costs more than the rest of its books. */
  sent(size: number, trigger: Trigger): void {
    const { triggers } = this;
    this.batches++;
    this.batched += size;
    switch (trigger) {
      case 'size':
        triggers.size++;
        break;
      case 'bytes':
        triggers.bytes++;
        break;
      case 'weight':
        triggers.weight++;
        break;
      case 'delay':
        triggers.delay++;
        break;
      case 'idle':
        triggers.idle++;
        break;
      case 'deadline':
        triggers.deadline++;
        break;
      case 'flush':
        triggers.flush++;
        break;
      case 'split':
        triggers.split++;
        break;
      case 'quarantine':
        triggers.quarantine++;
        break;
      case 'retry':
        triggers.retry++;
        break;
    }
  }
}
