import type { PoolState } from '../state.js';

/** In the place of a version, where an actor has none. */
export const NO_VERSION = 'none';

export interface VersionShare {
  readonly version: string;
  /** Part of the records: of those it was sent, once there are any; else of those it is to have. */
  readonly share: number;
  /** What it is to have, where that was said. */
  readonly wanted: number | undefined;
  readonly isNew: boolean;
}

/** Who gets which part of the records. */
export function sharesOf({ version, rollout }: PoolState): readonly VersionShare[] {
  const current = version ?? NO_VERSION;
  if (rollout === null || rollout.step !== 'baking' || rollout.to === null) {
    return [{ version: current, share: 1, wanted: undefined, isNew: false }];
  }
  const wanted = rollout.share ?? 1;
  const sent = rollout.sent === null ? 0 : rollout.sent.old + rollout.sent.new;
  const share = rollout.sent === null || sent === 0 ? wanted : rollout.sent.new / sent;
  return [
    { version: current, share: 1 - share, wanted: 1 - wanted, isNew: false },
    { version: rollout.to, share, wanted, isNew: true },
  ];
}

const COLOURS = 5;
/** Versions without end would be memory without end. */
const VERSIONS_MAX = 500;

/** One colour for each version of a pool, in the order they are met; after five they come again. */
export class VersionColours {
  readonly #known = new Map<string, number>();

  of(version: string): string {
    if (version === NO_VERSION) return `version-${COLOURS}`;
    let colour = this.#known.get(version);
    if (colour === undefined) {
      colour = this.#known.size % COLOURS;
      if (this.#known.size >= VERSIONS_MAX) this.#known.clear();
      this.#known.set(version, colour);
    }
    return `version-${colour}`;
  }
}
