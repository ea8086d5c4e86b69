import type { InferTarget } from '../../src/actor/infer-target.js';
import { systemClock } from '../../src/kernel/clock.js';
import { Control, Envelope, type Chunk } from '../../src/stream/envelope.js';
import { FairTurn } from '../../src/stream/fair-turn.js';
import { inferPlan, type InferOptions } from '../../src/stream/infer-options.js';
import { InferStage } from '../../src/stream/infer.js';
import { Interrupt } from '../../src/stream/interrupt.js';
import { Counts } from '../../src/stream/report.js';
import type { RunContext, Stage } from '../../src/stream/stage.js';

/** Single stages without a run around them: the test is upstream and downstream. */

export function contextOf(parts: Partial<RunContext> = {}): RunContext {
  return {
    name: 'rig',
    clock: systemClock,
    counts: new Counts(0),
    interrupt: new Interrupt(),
    chunkSize: 128,
    turn: new FairTurn(systemClock),
    tracker: undefined,
    takeHeld: undefined,
    ...parts,
  };
}

/** Gives what the test pushes, as far as there is room. */
export class PushStage implements Stage {
  readonly pending: Envelope[] = [];
  pullCount = 0;
  #count = 0;
  #hasEnded = false;
  #wake: (() => void) | undefined;

  push(...values: unknown[]): this {
    for (const value of values) {
      const seq = this.#count;
      this.#count += 1;
      const envelope = new Envelope(seq, value, 0, 1000 + seq, { line: seq });
      if (value instanceof Control) envelope.kind = 'control';
      this.pending.push(envelope);
    }
    this.#wake?.();
    return this;
  }

  end(): this {
    this.#hasEnded = true;
    this.#wake?.();
    return this;
  }

  async pull(max: number): Promise<Chunk | undefined> {
    this.pullCount += 1;
    while (this.pending.length === 0) {
      if (this.#hasEnded) return undefined;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    return this.pending.splice(0, max);
  }

  close(): void {
    this.end();
  }
}

export function inferStage<In, Out>(
  target: InferTarget<In, Out>,
  options: InferOptions<any, any, any, unknown, unknown>, // any: a rig for records of every kind
  upstream: Stage,
  run: RunContext = contextOf(),
  index = 1,
): InferStage {
  return new InferStage(inferPlan(target, options), upstream, run, index);
}

/** Everything that comes out until the end. */
export async function drain(stage: Stage, max = 128): Promise<Envelope[]> {
  const all: Envelope[] = [];
  for (let chunk = await stage.pull(max); chunk !== undefined; chunk = await stage.pull(max)) all.push(...chunk);
  return all;
}
