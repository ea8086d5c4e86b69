import { encodeSnapshot, type Snapshot } from '../../../src/stream/checkpoint/format.js';
import type { Processes } from '../../../src/stream/checkpoint/lock.js';
import { CheckpointStore, type StoreOptions } from '../../../src/stream/checkpoint/store.js';
import type { Disk } from '../../../src/stream/checkpoint/disk.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';

export const AT = '2026-01-01T00:00:00.000Z';

/** Every other process is dead. */
export const alone: Processes = { pid: 7, startOf: () => 'start', isAlive: () => false };

/** Of a crashed process; the next one has another id. */
export const survivor: Processes = { ...alone, pid: 8 };

export function openStore(disk: Disk, options: Partial<Omit<StoreOptions, 'disk'>> = {}): Promise<CheckpointStore> {
  const defaults = { directory: '/c', keep: 3, processes: alone, clock: new VirtualClock(), timeoutMs: 1000 };
  return CheckpointStore.open({ ...defaults, disk, ...options });
}

export function snapshotOf(mark: number): Snapshot {
  return {
    pipeline: { name: 'p', source: 's', stepCount: 0 },
    source: {
      kind: 'replayable',
      progress: { lowest: mark, settled: [], open: [] },
      next: mark,
      hasEnded: false,
      place: { seq: mark, position: { mark } },
      outcomes: [],
      open: [],
      items: [],
    },
    held: [],
    sinks: [],
  };
}

export const dataOf = (mark: number): Uint8Array => encodeSnapshot(snapshotOf(mark));

/** The mark of the newest checkpoint; undefined for none. */
export async function recover(disk: Disk): Promise<{ mark: number | undefined; putAside: readonly string[] }> {
  const store = await openStore(disk, { processes: survivor });
  try {
    const loaded = await store.latest();
    return { mark: loaded?.snapshot.source.next, putAside: loaded?.putAside ?? [] };
  } finally {
    await store.close();
  }
}
