/**
 * Records that were sent once and must go again, ahead of everything in the mailbox.
 *
 * A group is sent exactly as it stands: the halves of a batch that threw (`split`), one suspect alone (`quarantine`),
 * or what a dead replica held without blame (`retry`). At most what was in flight can be here, so the lane is bounded
 * by replicas x maxInFlight x maxSize and needs no capacity of its own.
 */

import type { Shelf } from './batcher.js';
import type { Request } from './request.js';
import { removeAt } from './short-list.js';

export interface RetryGroup {
  readonly requests: Request[];
  readonly trigger: 'split' | 'quarantine' | 'retry';
  /** The version it goes to while that has work, by its generation; ANY for whichever has room first. */
  readonly generation: number;
}

/** No generation has this number. */
export const ANY = 0;
const NONE = -1;

export class RetryLane {
  #groups: RetryGroup[] = [];

  get isEmpty(): boolean {
    return this.#groups.length === 0;
  }

  /** In the order they go; some of their records may have settled. */
  get groups(): readonly RetryGroup[] {
    return this.#groups;
  }

  /** `other`: the generation that works beside the one that is asked about; `shelf`: what that one may run. */
  suspectIsNext(other: number = NONE, shelf?: Shelf): boolean {
    return this.#groups[this.#firstFor(other, shelf)]?.trigger === 'quarantine';
  }

  /** Puts groups at the front, in their order; empty ones are left out. */
  putFirst(groups: readonly Request[][], trigger: RetryGroup['trigger'], generation: number = ANY): void {
    if (groups.length === 0) return;
    const first: RetryGroup[] = [];
    for (const requests of groups) {
      if (requests.length === 0) continue;
      for (const request of requests) request.place = 'retry';
      first.push({ requests, trigger, generation });
    }
    if (first.length > 0) this.#groups = [...first, ...this.#groups];
  }

  /** The next group with what of it is still wanted. A suspect goes to an idle replica only, so undefined may mean "not to you". */
  take(replicaIsIdle: boolean, other: number = NONE, shelf?: Shelf): RetryGroup | undefined {
    for (;;) {
      const at = this.#firstFor(other, shelf);
      const group = this.#groups[at];
      if (group === undefined || (group.trigger === 'quarantine' && !replicaIsIdle)) return undefined;
      removeAt(this.#groups, at);
      // Expired and cancelled records have settled where they stood.
      if (group.requests.every(isHere)) return group;
      const requests = group.requests.filter(isHere);
      if (requests.length > 0) return { ...group, requests };
    }
  }

  #firstFor(other: number, shelf: Shelf | undefined): number {
    const groups = this.#groups;
    let at = 0;
    for (; at < groups.length; at++) {
      const { generation, requests } = groups[at] as RetryGroup;
      if (generation !== other && (shelf === undefined || shelf.mayRun(requests[0]?.model))) return at;
    }
    return at;
  }

  /** Takes everything out: the pool ends. */
  empty(): Request[] {
    if (this.#groups.length === 0) return [];
    const all = this.#groups.flatMap((group) => group.requests.filter(isHere));
    this.#groups = [];
    return all;
  }
}

function isHere(request: Request): boolean {
  return request.place === 'retry';
}
