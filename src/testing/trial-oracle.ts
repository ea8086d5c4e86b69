/**
 * Books on what a version on trial is given: only its share, every key on one side, and never a third version beside two.
 * A second reading of core/traffic-split.ts and core/succession.ts, from what is sent and told alone.
 */

import type { PoolNews } from '../core/effects.js';
import type { Request } from '../core/request.js';
import type { SimRecord } from './sim-record.js';
import type { SimReplica } from './sim-replica.js';
import type { Shown } from './sim-trials.js';
import type { Message } from './sim-transport.js';
import type { World } from './world.js';

const EPSILON = 1e-6;

interface Key {
  /** The record of it that was sent and has not settled. */
  busyWith: SimRecord | undefined;
  lastSeq: Map<number, number>;
  version: string;
}

export class TrialOracle {
  /** Told to bake, and neither promoted nor rolled back since. */
  version: string | undefined;
  /** It is only given a share. */
  isShared = false;
  /** It is only shown records. */
  isShadow = false;
  /** Loaded still, and without work. */
  kept: string | undefined;
  /** Batches that replicas were shown, and how many records those had in all. */
  shownCount = 0;
  restoredCount = 0;
  promotedCount = 0;
  bakedCount = 0;
  readonly rolledBack = new Map<string, string | undefined>();
  readonly #world: World;
  readonly #keys = new Map<string, Key>();
  /** It takes one place after the other. */
  #rolling: string | undefined;
  readonly #shown = new Map<SimReplica, number>();
  #sent = 0;
  #given = 0;
  #hasKeys = false;

  constructor(world: World) {
    this.#world = world;
  }

  told(news: Extract<PoolNews, { name: 'rollout' }>): void {
    switch (news.step) {
      case 'baking':
        if (this.version !== undefined) this.#world.violate('trial', `version ${news.to} bakes beside ${this.version}`);
        this.version = news.to;
        this.isShadow = news.share === 0;
        this.isShared = !this.isShadow && (news.share ?? 1) < 1;
        this.bakedCount++;
        this.#sent = 0;
        this.#given = 0;
        return;
      case 'shifting':
        if (news.share !== undefined) this.#rolling = news.to;
        return;
      case 'kept':
        this.kept = news.from;
        return;
      case 'draining':
        this.kept = undefined;
        return;
      case 'promoted':
        if (news.to === this.kept) {
          this.restoredCount++;
          this.rolledBack.set(news.from ?? '', 'operator');
        } else this.promotedCount++;
        this.over();
        return;
      case 'rolled-back':
        this.rolledBack.set(news.to ?? '', news.reason);
        this.over();
        return;
    }
  }

  over(): void {
    this.version = undefined;
    this.isShared = false;
    this.isShadow = false;
    this.#rolling = undefined;
  }

  /** A version has work, or is shown some, and may be taken back. */
  get isOn(): boolean {
    return this.version !== undefined || this.#rolling !== undefined;
  }

  /** Whether this version is on trial. */
  mayTry(version: string): boolean {
    return version === this.version || version === this.#rolling;
  }

  /** Whether work may go to this version beside the one that serves. */
  mayWork(version: string): boolean {
    return (this.isShared && version === this.version) || version === this.#rolling;
  }

  sent({ replica, requests, trigger }: Message): void {
    const { share, limits } = this.#world.scenario;
    for (let i = 0; i < requests.length; i++) this.#sentKey(requests[i] as Request, replica);
    if (this.isShadow && trigger !== 'retry' && trigger !== 'split' && trigger !== 'quarantine')
      this.#sent += requests.length;
    if (!this.isShared || this.#hasKeys || trigger === 'retry' || trigger === 'split' || trigger === 'quarantine')
      return;
    this.#sent += requests.length;
    if (replica.version === this.version) this.#given += requests.length;
    if (this.#given > share * this.#sent + limits.batching.maxSize + EPSILON)
      this.#world.violate('trial', `the canary had ${this.#given} of ${this.#sent} records, its share is ${share}`);
  }

  /** S1 to S3: to the version on trial, within its share, and never more than two at once. */
  shown(replica: SimReplica, batchId: number, requests: readonly Request[]): void {
    if (!this.isShadow || replica.version !== this.version || !replica.isReady || replica.stopAsked)
      this.#world.violate('shadow', `batch ${batchId} was shown to version ${replica.version}, which is not to see it`);
    this.shownCount++;
    this.#given += requests.length;
    const open = (this.#shown.get(replica) ?? 0) + 1;
    this.#shown.set(replica, open);
    if (open > 2) this.#world.violate('shadow', `cell ${replica.cell} is shown ${open} batches at once`);
    if (this.#given > this.#world.scenario.shadow * this.#sent + EPSILON)
      this.#world.violate('shadow', `${this.#given} of ${this.#sent} records were shown`);
  }

  shownEnded({ replica }: Shown): void {
    this.#shown.set(replica, (this.#shown.get(replica) ?? 0) - 1);
  }

  /** P5 and T3: one of a key at a time, in its order, and never back to an older version unless the newer was given up. */
  #sentKey({ key, owner }: Request, { version }: SimReplica): void {
    if (key === undefined) return;
    this.#hasKeys = true;
    const record = owner as SimRecord;
    const known = this.#keys.get(key);
    if (known === undefined) {
      this.#keys.set(key, { busyWith: record, lastSeq: new Map([[record.client, record.seq]]), version });
      return;
    }
    const { busyWith } = known;
    // Sends are carried out before those whose records have settled are told.
    if (busyWith !== undefined && busyWith !== record && busyWith.request?.place !== 'settled')
      this.#world.violate('keys', `records ${busyWith.id} and ${record.id} of key ${key} run at once`);
    if (busyWith !== record && (known.lastSeq.get(record.client) ?? -1) >= record.seq)
      this.#world.violate('keys', `record ${record.seq} of client ${record.client} was overtaken in key ${key}`);
    if (Number(version) < Number(known.version) && !this.rolledBack.has(known.version))
      this.#world.violate('keys', `key ${key} went back from version ${known.version} to ${version}`);
    known.busyWith = record;
    known.lastSeq.set(record.client, record.seq);
    known.version = version;
  }

  started(live: readonly SimReplica[]): void {
    const { bakeMs, swapStrategy } = this.#world.scenario;
    const started = live.at(-1);
    for (const other of live)
      if (swapStrategy !== 'beside' && other !== started && other.version !== started?.version)
        if (swapStrategy === 'recreate' || other.slot === started?.slot)
          this.#world.violate('places', `version ${started?.version} starts in the place of version ${other.version}`);
    if (bakeMs === 0) return;
    const versions = new Set(live.map(({ version }) => version));
    if (versions.size > 2) this.#world.violate('trial', `versions ${[...versions].join(', ')} are resident at once`);
  }
}
