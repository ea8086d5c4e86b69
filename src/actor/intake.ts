/**
 * How a record comes into a pool: measured, made a request with its deadline as an instant, and offered to the core; or
 * refused with an error that says why.
 */

import type { Breaker } from '../core/breaker.js';
import type { Overflow } from '../core/mailbox.js';
import type { PoolCore } from '../core/pool-core.js';
import { Request } from '../core/request.js';
import { TroupeError } from '../kernel/errors.js';
import { shapeKey } from '../wire/columns.js';
import { toFault } from '../wire/fault.js';
import { recordBytes } from '../wire/record-bytes.js';
import { APPLICATION, type Owner } from './ask.js';
import type { BatchTraces } from './batch-traces.js';
import type { Submission } from './infer-target.js';
import type { ModelKeeper } from './model-keeper.js';
import type { ReplicaLinks } from './replica-links.js';
import type { Turn } from './turn.js';

/** What a pool must know of a record beside its input. */
export type Terms = Pick<
  Submission<unknown, unknown>,
  'sender' | 'priority' | 'callTimeoutMs' | 'key' | 'model' | 'traceparent'
>;

export interface IntakeParts<In> {
  readonly name: string;
  readonly core: PoolCore;
  readonly links: ReplicaLinks;
  readonly turn: Turn;
  readonly breaker: Breaker | undefined;
  readonly traces: BatchTraces | undefined;
  readonly weigh: ((input: In) => number) | undefined;
  /** Where the pool holds many models. */
  readonly models: ModelKeeper | undefined;
}

export class Intake<In> {
  readonly #name: string;
  readonly #core: PoolCore;
  readonly #links: ReplicaLinks;
  readonly #turn: Turn;
  readonly #breaker: Breaker | undefined;
  readonly #traces: BatchTraces | undefined;
  readonly #weigh: ((input: In) => number) | undefined;
  readonly #models: ModelKeeper | undefined;
  #lastRequest = 0;

  constructor({ name, core, links, turn, breaker, traces, weigh, models }: IntakeParts<In>) {
    this.#models = models;
    this.#name = name;
    this.#core = core;
    this.#links = links;
    this.#turn = turn;
    this.#breaker = breaker;
    this.#traces = traces;
    this.#weigh = weigh;
  }

  /** The request that will settle; an error where it was refused; undefined where an operator is to come back. */
  offer(
    input: In,
    owner: Owner,
    terms: Terms,
    deadlineAt: number,
    overflow: Overflow,
    now: number,
  ): Request | TroupeError | undefined {
    const model = this.#models === undefined && terms.model === undefined ? undefined : this.#modelOf(terms.model);
    if (model instanceof TroupeError) return model;
    const weight = this.#weightOf(input);
    if (typeof weight !== 'number') return weight;
    const lease = this.#breaker?.acquire(now);
    if (lease === undefined && this.#breaker !== undefined) return this.#brokenError(this.#breaker, now);
    const request = new Request({
      id: ++this.#lastRequest,
      input,
      owner,
      sender: terms.sender,
      priority: terms.priority,
      bucket: this.#bucketOf(input, model),
      model,
      bytes: recordBytes(input),
      weight,
      offeredAt: now,
      deadlineAt,
      callTimeoutMs: terms.callTimeoutMs,
      key: terms.key,
    });
    request.lease = lease;
    if (this.#traces !== undefined) {
      if (terms.sender === APPLICATION) this.#traces.asked(request);
      else this.#traces.submitted(request, terms.traceparent);
    }
    const offer = this.#core.offer(request, overflow, now);
    this.#turn.schedule();
    if (offer === 'accepted' || offer === 'door' || offer === 'dropped') return request;
    if (lease !== undefined) this.#breaker?.release(lease, 'none', now);
    // An operator comes back when there is room: no error is made for it.
    if (offer === 'full' && overflow === 'try') return undefined;
    const ofModel =
      offer === 'model-refused' && model !== undefined ? this.#core.models?.refusals.of(model, now) : undefined;
    return ofModel ?? this.#refusal(offer, overflow, request.bytes);
  }

  #bucketOf(input: In, model: string | undefined): string {
    if (model !== undefined) return this.#models?.bucketOf(model, input) ?? model;
    const { signature, relays } = this.#links.description ?? {};
    return signature === undefined || relays === true ? '' : shapeKey(input, signature);
  }

  /** The key of the model the record is for; an error where there is none, or where it names one and should not. */
  #modelOf(named: string | undefined): string | TroupeError {
    const models = this.#models;
    if (models !== undefined && named !== undefined) return models.keyOf(named);
    const message =
      models === undefined
        ? `Pool "${this.#name}" holds one model; the record names another: spawn it with models to hold many`
        : `Pool "${this.#name}" holds many models; the record names none: ask with { model }`;
    return new TroupeError('INPUT_INVALID', message, { actor: this.#name });
  }

  #refusal(
    offer: 'full' | 'too-large' | 'overloaded' | 'failed' | 'closed' | 'model-refused',
    overflow: Overflow,
    bytes: number,
  ): TroupeError {
    const { held, heldBytes, doorCount, limits } = this.#core.mailbox;
    const name = this.#name;
    const where = { actor: name };
    switch (offer) {
      case 'full': {
        const fill = `${held} of ${limits.capacity} records, ${heldBytes} of ${limits.capacityBytes} bytes held, ${doorCount} waiting`;
        return new TroupeError('MAILBOX_FULL', `Mailbox of "${name}" is full: ${fill}, overflow ${overflow}`, where);
      }
      case 'overloaded': {
        const retryAfterMs = Math.ceil(this.#core.admission.lastLateMs);
        const why = `with ${held} records before it, it would be at least ${retryAfterMs} ms late`;
        const message = `Pool "${name}" cannot answer the record before its deadline: ${why}`;
        return new TroupeError('OVERLOADED', message, { ...where, retryAfterMs });
      }
      case 'too-large': {
        const most = `more than mailbox.capacityBytes ${limits.capacityBytes} of "${name}"`;
        return new TroupeError('RECORD_TOO_LARGE', `The record has about ${bytes} bytes, ${most}`, where);
      }
      case 'failed': {
        const cause = this.#core.failure;
        return new TroupeError('NO_REPLICA', cause?.message ?? `Pool "${name}" has failed`, { cause, ...where });
      }
      case 'model-refused': // Its time has just come.
      case 'closed':
        return new TroupeError('POOL_STOPPED', `Pool "${name}" is ${this.#core.state} and takes no records`, where);
    }
  }

  #brokenError(breaker: Breaker, now: number): TroupeError {
    const retryAfterMs = Math.ceil(breaker.retryAfterMs(now));
    const why =
      breaker.state === 'open'
        ? `too many calls failed; the next are let through in ${retryAfterMs} ms`
        : 'a probe whether calls succeed again is under way';
    const message = `The circuit breaker of pool "${this.#name}" is ${breaker.state}: ${why}`;
    return new TroupeError('BREAKER_OPEN', message, { actor: this.#name, retryAfterMs });
  }

  /** Foreign code: what it throws or gets wrong costs this record alone. */
  #weightOf(input: In): number | TroupeError {
    const weigh = this.#weigh;
    if (weigh === undefined) return 1;
    let cause: unknown;
    try {
      const weight: unknown = weigh(input);
      if (typeof weight === 'number' && Number.isFinite(weight) && weight >= 0) return weight;
      cause = new TypeError(
        `expected a number of at least 0, got ${typeof weight === 'number' ? weight : typeof weight}`,
      );
    } catch (thrown) {
      cause = thrown;
    }
    const message = `weigh of pool "${this.#name}" failed for this record: ${toFault(cause).message}`;
    return new TroupeError('INPUT_INVALID', message, { cause, actor: this.#name, ran: 'not-started' });
  }
}
