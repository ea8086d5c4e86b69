import type { Entry } from './sim-sink.js';
import { isAncestor, recordOf, type UserFunctions } from './values.js';
import type { StreamWorld } from './world.js';

/**
 * The order of what one run delivers, or of what a sink that can go back holds in the end: ordered = source order,
 * keyed = per key, and nothing passes a control. Values and dead letters are told apart: two sinks have no common order.
 */
export class OrderOracle {
  readonly #world: StreamWorld;
  readonly #functions: UserFunctions;
  readonly #last = [-1, -1];
  readonly #highest = [-1, -1];
  readonly #lastOfKey = [new Map<string, number>(), new Map<string, number>()] as const;
  #lastControl = -1;

  constructor(world: StreamWorld, functions: UserFunctions) {
    this.#world = world;
    this.#functions = functions;
  }

  delivered({ value, isControl, id }: Entry, isLetter: boolean): void {
    const { order } = this.#world.scenario;
    const which = isLetter ? 1 : 0;
    if (isControl) {
      const passed = Math.max(this.#highest[0] as number, this.#highest[1] as number);
      if (passed > value) this.#violate(`control ${id} was passed by record ${recordOf(passed)}`);
      this.#lastControl = value;
    } else if (value < this.#lastControl) this.#violate(`record ${id} passed control ${recordOf(this.#lastControl)}`);
    if (value > (this.#highest[which] as number)) this.#highest[which] = value;
    if (order === 'ordered') {
      // Of a record that failed in a later run than the one that delivered some of its children.
      const isOwnFailure = isLetter && isAncestor(value, this.#last[which] as number);
      if (value < (this.#last[which] as number) && !isOwnFailure)
        this.#violate(`record ${id} came after record ${recordOf(this.#last[which] as number)}`);
      this.#last[which] = value;
    } else if (order === 'keyed' && !isControl && !isLetter) {
      const key = this.#functions.key(value);
      const last = this.#lastOfKey[which].get(key) ?? -1;
      if (value < last) this.#violate(`record ${id} of key ${key} came after record ${recordOf(last)}`);
      this.#lastOfKey[which].set(key, value);
    }
  }

  #violate(what: string): never {
    this.#world.violate('source-order', what);
  }
}
