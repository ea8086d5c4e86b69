/**
 * The steps of a simulated stream around its infer steps, one record at a time and without promises. `room` travels
 * upstream as in the real stages: a source never reads more than what has room below.
 */
import { Envelope } from '../../stream/envelope.js';
import type { Tracker } from '../../stream/stage.js';
import { SIM_ERRORS } from './errors.js';
import { STREAM_FAULT } from './faults.js';
import { childOf, type UserFunctions } from './values.js';
import type { StreamWorld } from './world.js';

export interface SimStage {
  /** The next record; undefined for none now, or for ever where `hasEnded`. */
  take(room: number): Envelope | undefined;
  readonly hasEnded: boolean;
}

export interface StageContext {
  readonly world: StreamWorld;
  readonly functions: UserFunctions;
  /** Undefined where nobody needs to know. */
  readonly tracker: Tracker | undefined;
}

export class SimMap implements SimStage {
  constructor(
    private readonly upstream: SimStage,
    private readonly context: StageContext,
  ) {}

  take(room: number): Envelope | undefined {
    const envelope = this.upstream.take(room);
    if (envelope === undefined || envelope.passes) return envelope;
    if (this.context.world.strikes(STREAM_FAULT['map-throw'])) envelope.fail(SIM_ERRORS.operator);
    return envelope;
  }

  get hasEnded(): boolean {
    return this.upstream.hasEnded;
  }
}

export class SimFilter implements SimStage {
  constructor(
    private readonly upstream: SimStage,
    private readonly context: StageContext,
  ) {}

  take(room: number): Envelope | undefined {
    const { functions, tracker } = this.context;
    for (;;) {
      const envelope = this.upstream.take(room);
      if (envelope === undefined || envelope.passes || !functions.isRefused(envelope.value as number)) return envelope;
      tracker?.filtered(envelope);
    }
  }

  get hasEnded(): boolean {
    return this.upstream.hasEnded;
  }
}

export class SimFlatMap implements SimStage {
  #parent: Envelope | undefined;
  #given = 0;

  constructor(
    private readonly upstream: SimStage,
    private readonly context: StageContext,
  ) {}

  take(room: number): Envelope | undefined {
    const { functions, tracker, world } = this.context;
    for (;;) {
      const parent = this.#parent;
      if (parent === undefined) {
        const envelope = this.upstream.take(room);
        if (envelope === undefined || envelope.passes) return envelope;
        this.#parent = envelope;
        this.#given = 0;
        continue;
      }
      const value = parent.value as number;
      const place = this.#given;
      if (place === functions.leafCount(value)) {
        tracker?.expanded(parent, place);
        this.#parent = undefined;
        continue;
      }
      this.#given++;
      const path = `${parent.path}.${place}`;
      const child = new Envelope(parent.seq, childOf(value, place), parent.pulledAt, undefined, undefined, path);
      child.kind = parent.kind;
      if (functions.throwsAfter(value) === place) {
        world.fired(STREAM_FAULT['expand-throw']);
        child.fail(SIM_ERRORS.operator);
      }
      return child;
    }
  }

  get hasEnded(): boolean {
    return this.#parent === undefined && this.upstream.hasEnded;
  }
}
