/**
 * What came of every record of the source, read from the sinks when all runs are over: 0 lost, 0 doubled, 0 invented, as
 * far as it is promised.
 */
import { OrderOracle } from './order-oracle.js';
import type { StreamScenario } from './scenario.js';
import type { Entry, SimSink } from './sim-sink.js';
import type { SimSource } from './sim-source.js';
import { childOf, nameOf, recordOf, type UserFunctions, valueOf } from './values.js';
import type { StreamWorld } from './world.js';

/**
 * exact: once. once-or-more: nothing is lost. As stream/run.ts reports it, except that a source that keeps nothing is
 * held to its own: what a durable checkpoint has seen comes out.
 */
export function promiseOf(
  { source, sink, hasCheckpoints }: StreamScenario,
  putAsideCount: number,
): 'exact' | 'once-or-more' {
  if (!hasCheckpoints) return 'once-or-more';
  if (sink === 'file') return 'exact';
  // What was committed after the checkpoint that is left cannot be taken back.
  if (sink === 'staged') return putAsideCount === 0 ? 'exact' : 'once-or-more';
  return sink === 'idempotent' && source === 'replayable' ? 'exact' : 'once-or-more';
}

interface Outcomes {
  count: number;
  /** The last run that gave one. */
  run: number;
  letterCount: number;
}

export class Ledger {
  readonly #world: StreamWorld;
  readonly #functions: UserFunctions;
  readonly #outcomes = new Map<number, Outcomes>();
  readonly #controls = new Map<number, number>();
  #coveredCount = 0;

  constructor(world: StreamWorld, functions: UserFunctions, main: SimSink, letters: SimSink) {
    this.#world = world;
    this.#functions = functions;
    for (const entry of main.entries) this.#add(entry, false);
    for (const entry of letters.entries) this.#add(entry, true);
  }

  /** `isExcused`: the source gave it to a run that ended before a checkpoint saw it, and cannot give it again. */
  check(source: SimSource, promise: 'exact' | 'once-or-more', isExcused: (n: number) => boolean): void {
    const { records } = this.#world.scenario;
    for (let n = 0; n < records; n++) {
      if (isExcused(n)) {
        this.#outcomes.delete(valueOf(n));
        continue;
      }
      if (source.isControl(n)) this.#control(n, promise);
      else if (this.#functions.isBad(n)) this.#leaf(valueOf(n), promise);
      else this.#cover(valueOf(n), 0, promise);
    }
    if (this.#coveredCount === this.#outcomes.size) return;
    for (const value of this.#outcomes.keys()) {
      if (!isExcused(recordOf(value)) && !this.#isExplained(value))
        this.#world.violate('invented', `an outcome of record ${nameOf(value)}, which does not exist`);
    }
  }

  /** What a sink that can go back holds is as if no run had ever ended early. */
  checkOrder(main: SimSink, letters: SimSink): void {
    for (const [sink, isLetter] of [
      [main, false],
      [letters, true],
    ] as const) {
      const oracle = new OrderOracle(this.#world, this.#functions);
      for (const entry of sink.entries) oracle.delivered(entry, isLetter);
    }
  }

  #add({ value, run, isControl }: Entry, isLetter: boolean): void {
    if (isControl) {
      this.#controls.set(value, (this.#controls.get(value) ?? 0) + 1);
      return;
    }
    const known = this.#outcomes.get(value);
    if (known === undefined) {
      this.#outcomes.set(value, { count: 1, run, letterCount: isLetter ? 1 : 0 });
      return;
    }
    known.count++;
    if (isLetter) known.letterCount++;
    known.run = Math.max(known.run, run);
  }

  #control(n: number, promise: 'exact' | 'once-or-more'): void {
    const count = this.#controls.get(valueOf(n)) ?? 0;
    if (count === 0) this.#world.violate('lost', `control ${n} never came`);
    if (count > 1 && promise === 'exact') this.#world.violate('doubled', `control ${n} came ${count} times`);
  }

  /** True where the record has outcomes of its own. */
  #leaf(value: number, promise: 'exact' | 'once-or-more'): void {
    const outcomes = this.#outcomes.get(value);
    if (outcomes === undefined) {
      this.#world.violate('lost', `record ${nameOf(value)} has no outcome`);
      return;
    }
    this.#coveredCount++;
    this.#once(value, outcomes, promise);
  }

  #once(value: number, { count, letterCount }: Outcomes, promise: 'exact' | 'once-or-more'): void {
    if (count === 1 || promise !== 'exact') return;
    // An upsert by id keeps each sink to one entry; a record that failed in one run and not in the next is in both.
    if (this.#world.scenario.sink === 'idempotent' && count === 2 && letterCount === 1) return;
    this.#world.violate('doubled', `record ${nameOf(value)} has ${count} outcomes`);
  }

  #cover(value: number, step: number, promise: 'exact' | 'once-or-more'): void {
    const functions = this.#functions;
    const { steps } = this.#world.scenario;
    const own = this.#outcomes.get(value);
    for (let at = step; at < steps.length; at++) {
      const kind = steps[at];
      if (kind === 'filter' && functions.isRefused(value)) {
        // It may have failed before it came to the filter.
        if (own !== undefined) this.#leaf(value, promise);
        return;
      }
      if (kind !== 'flatMap') continue;
      if (own !== undefined && own.letterCount === own.count) {
        // It failed before it was expanded; children can only be of an earlier run, where it did not.
        this.#leaf(value, promise);
        return;
      }
      const count = functions.leafCount(value);
      const after = functions.throwsAfter(value);
      for (let place = 0; place < count; place++) {
        const child = childOf(value, place);
        if (place === after) this.#leaf(child, promise);
        else this.#cover(child, at + 1, promise);
      }
      return;
    }
    this.#leaf(value, promise);
  }

  /** Children that were delivered before their parent failed in a later run. */
  #isExplained(value: number): boolean {
    const run = this.#outcomes.get(value)?.run ?? 0;
    for (const ancestor of ancestorsOf(value)) {
      const failed = this.#outcomes.get(ancestor);
      if (failed !== undefined && failed.letterCount > 0 && failed.run > run) return true;
    }
    return this.#isOfATree(value);
  }

  /** A record that the steps make of the source's, whether or not it was counted above. */
  #isOfATree(value: number): boolean {
    const n = recordOf(value);
    if (n >= this.#world.scenario.records) return false;
    return this.#reaches(valueOf(n), 0, value);
  }

  #reaches(value: number, step: number, wanted: number): boolean {
    const { steps } = this.#world.scenario;
    const functions = this.#functions;
    if (value === wanted) return true;
    for (let at = step; at < steps.length; at++) {
      if (steps[at] === 'filter' && functions.isRefused(value)) return false;
      if (steps[at] !== 'flatMap') continue;
      for (let place = 0; place < functions.leafCount(value); place++)
        if (this.#reaches(childOf(value, place), at + 1, wanted)) return true;
      return false;
    }
    return false;
  }
}

function ancestorsOf(value: number): number[] {
  const parent = valueOf(recordOf(value));
  const child = value - (value % 64);
  return child === value ? [parent] : [child, parent];
}
