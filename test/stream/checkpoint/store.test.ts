import { readFileSync } from 'node:fs';
import test from 'ava';
import {
  FORMATS,
  decodeManifest,
  encodeManifest,
  loadHeld,
  sha256,
  type Snapshot,
} from '../../../src/stream/checkpoint/format.js';
import { decodeItem } from '../../../src/stream/checkpoint/items.js';
import type { LoadedCheckpoint } from '../../../src/stream/checkpoint/store.js';
import { MemoryDisk, diskError, type DiskImage } from '../../../src/testing/memory-disk.js';
import { AT, alone, dataOf, openStore, recover, snapshotOf, survivor } from './stores.js';

/** A directory with two checkpoints, marked 1 and 2. */
async function twoCheckpoints(): Promise<DiskImage> {
  const disk = new MemoryDisk();
  const store = await openStore(disk);
  await store.save(dataOf(1), AT);
  await store.save(dataOf(2), AT);
  await store.close();
  return disk.image;
}

test('of the checkpoints the newest is given and the last three stay', async (t) => {
  const disk = new MemoryDisk();
  const store = await openStore(disk);
  t.is(await store.latest(), undefined);
  for (const mark of [1, 2, 3, 4, 5]) t.is(await store.save(dataOf(mark), AT), mark);
  await store.close();
  const names = [...disk.image.keys()].sort();
  t.deepEqual(
    names.map((name) => name.slice(3)),
    [3, 4, 5].flatMap((n) => [`00000000000${n}.data`, `00000000000${n}.manifest`]),
  );
  t.deepEqual(await recover(disk), { mark: 5, putAside: [] });
});

test('E2: whatever a loss of power leaves of a save after two others, the newest acknowledged or a newer one recovers', async (t) => {
  const seen = new Set<string>();
  let images = 0;
  for (const keep of [1, 3]) {
    const disk = new MemoryDisk();
    let acknowledged = 0;
    const checks: { readonly image: DiskImage; readonly acknowledged: number }[] = [];
    let isWatched = false;
    disk.onOperation = () => {
      if (isWatched) for (const image of disk.crashImages()) checks.push({ image, acknowledged });
      return undefined;
    };
    const store = await openStore(disk, { keep });
    for (const mark of [1, 2, 3]) {
      isWatched = mark === 3;
      await store.save(dataOf(mark), AT);
      acknowledged = mark;
    }
    for (const image of disk.crashImages()) checks.push({ image, acknowledged });
    for (const { image, acknowledged: least } of checks) {
      const key = sha256(JSON.stringify([...image].map(([name, bytes]) => [name, [...bytes]])));
      if (seen.has(`${least} ${key}`)) continue;
      seen.add(`${least} ${key}`);
      images += 1;
      const after = new MemoryDisk(image);
      const { mark = 0, putAside } = await recover(after);
      t.true(mark >= least && mark <= 3, `acknowledged ${least}, recovered ${mark}`);
      t.deepEqual(putAside, [], 'a crash is no damage');
      // And the directory is as good as before.
      const next = await openStore(after, { keep, processes: survivor });
      await next.save(dataOf(4), AT);
      await next.close();
      t.is((await recover(after)).mark, 4);
    }
  }
  t.log(`${images} images`);
  t.true(images >= 100 && images <= 10_000, `${images} images`);
});

test('E2: a loss of power while the checkpoints are given up leaves the newest or none', async (t) => {
  const disk = new MemoryDisk(await twoCheckpoints());
  const images: DiskImage[] = [];
  disk.onOperation = () => {
    images.push(...disk.crashImages());
    return undefined;
  };
  const store = await openStore(disk);
  await store.clear();
  for (const image of images) {
    const { mark, putAside } = await recover(new MemoryDisk(image));
    t.true(mark === undefined || mark === 2, `recovered ${mark}`);
    t.deepEqual(putAside, []);
  }
  t.is(await store.latest(), undefined);
  t.true(images.length > 10);
});

const CODES = ['ENOSPC', 'EIO', 'EMFILE', 'EACCES', 'EROFS'];

test('E3: an error at any operation of a save is typed, keeps the last good one, and the next save is new', async (t) => {
  let fired = 0;
  const count = await operationsOfSave();
  t.true(count >= 12);
  for (const code of CODES) {
    for (let at = 0; at < count; at += 1) {
      const disk = new MemoryDisk();
      const store = await openStore(disk, { keep: 2 });
      await store.save(dataOf(1), AT);
      await store.save(dataOf(2), AT);
      const begin = disk.operations.length;
      disk.onOperation = ({ path }, index) => {
        if (index !== begin + at) return undefined;
        fired += 1;
        return diskError(code, path);
      };
      const error = await t.throwsAsync(store.save(dataOf(3), AT), { code: 'CHECKPOINT_FAILED' });
      t.true(error?.message.includes(`${code}: /c/`) || error?.message.includes(`${code}: /c`), error?.message);
      disk.onOperation = undefined;
      for (const image of disk.crashImages()) {
        const { mark = 0 } = await recover(new MemoryDisk(image));
        t.true(mark === 2 || mark === 3, `after ${code} at ${at}: recovered ${mark}`);
      }
      await store.save(dataOf(4), AT);
      t.is(disk.syncedAfterFailure, 0, 'a file whose fsync failed is not synced again');
      for (const image of disk.crashImages()) t.is((await recover(new MemoryDisk(image))).mark, 4);
      await store.close();
    }
  }
  t.is(fired, CODES.length * count);
});

async function operationsOfSave(): Promise<number> {
  const disk = new MemoryDisk();
  const store = await openStore(disk, { keep: 2 });
  await store.save(dataOf(1), AT);
  await store.save(dataOf(2), AT);
  const begin = disk.operations.length;
  await store.save(dataOf(3), AT);
  return disk.operations.length - begin;
}

test('E3: an error at any operation of opening or reading is typed, and nothing is lost', async (t) => {
  const image = await twoCheckpoints();
  const use = async (disk: MemoryDisk): Promise<void> => {
    const store = await openStore(disk);
    try {
      await store.latest();
    } finally {
      await store.close();
    }
  };
  const whole = new MemoryDisk(image);
  await use(whole);
  let fired = 0;
  for (let at = 0; at < whole.operations.length; at += 1) {
    const disk = new MemoryDisk(image);
    disk.onOperation = ({ path }, index) => {
      if (index !== at) return undefined;
      fired += 1;
      return diskError('EMFILE', path);
    };
    await t.throwsAsync(use(disk), { code: 'CHECKPOINT_FAILED' });
    disk.onOperation = undefined;
    t.is((await recover(new MemoryDisk(disk.image))).mark, 2);
  }
  t.is(fired, whole.operations.length);
});

test('E4: a truncation at any byte and a flip of any bit is noticed, the one before is used, the damaged one kept', async (t) => {
  const image = await twoCheckpoints();
  let damages = 0;
  for (const kind of ['data', 'manifest']) {
    const name = `/c/000000000002.${kind}`;
    const good = image.get(name) as Uint8Array;
    const damaged = [
      ...Array.from({ length: good.length }, (_, length) => good.slice(0, length)),
      ...Array.from({ length: good.length * 8 }, (_, bit) => {
        const bytes = Uint8Array.from(good);
        bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
        return bytes;
      }),
    ];
    for (const bytes of damaged) {
      damages += 1;
      const disk = new MemoryDisk(new Map(image).set(name, bytes));
      const { mark, putAside } = await recover(disk);
      if (mark !== 1 || !putAside.includes(`${name}.corrupt`)) t.fail(`${name} with ${bytes.length} bytes: ${mark}`);
      if (disk.image.get(`${name}.corrupt`) !== bytes) t.fail('the damaged file is kept as it was');
    }
  }
  t.true(damages > 3000, `${damages} damages`);
  t.log(`${damages} damages`);
});

test('E4: where only damaged ones are left no run begins anew unasked', async (t) => {
  const image = new Map(await twoCheckpoints());
  for (const number of [1, 2]) image.set(`/c/00000000000${number}.data`, new Uint8Array(3));
  const disk = new MemoryDisk(image);
  const invalid = { code: 'CHECKPOINT_INVALID', message: /only damaged checkpoints/ };
  await t.throwsAsync(recover(disk), invalid);
  await t.throwsAsync(recover(disk), invalid, 'also the second time, when they have been put aside');
  const store = await openStore(disk);
  await store.clear();
  t.is(await store.save(dataOf(9), AT), 3, 'numbers go on behind those of damaged ones');
  await store.close();
  t.is((await recover(disk)).mark, 9);
});

test('a data file that cannot be read back by the disk is damaged, one that may not be read is an error', async (t) => {
  for (const [code, expected] of [
    ['EIO', 1],
    ['EACCES', undefined],
  ] as const) {
    const disk = new MemoryDisk(await twoCheckpoints());
    disk.onOperation = ({ kind, path }) =>
      kind === 'read' && path.endsWith('2.data') ? diskError(code, path) : undefined;
    if (expected === undefined) await t.throwsAsync(recover(disk), { code: 'CHECKPOINT_FAILED' });
    else t.is((await recover(disk)).mark, expected);
  }
});

test('E5: a newer format is refused and left as it is', async (t) => {
  const formats = { current: 2, readers: new Map([[2, (data: unknown) => data as Snapshot]]) };
  const disk = new MemoryDisk(await twoCheckpoints());
  const newer = await openStore(disk, { formats });
  await newer.save(dataOf(3), AT);
  await newer.close();
  const before = disk.image;
  await t.throwsAsync(recover(disk), { code: 'CHECKPOINT_INVALID', message: /has format 2, newer than .*\(1\)/ });
  t.deepEqual(disk.image, before);
});

test('E5: the format before the current one is read, and what is saved then has the current one', async (t) => {
  const formats = {
    current: 2,
    readers: new Map<number, (data: unknown) => Snapshot>([
      ...FORMATS.readers,
      [2, (data) => (data as { readonly snapshot: Snapshot }).snapshot],
    ]),
  };
  const disk = new MemoryDisk(await twoCheckpoints());
  const store = await openStore(disk, { formats });
  t.deepEqual((await store.latest())?.snapshot, snapshotOf(2));
  await store.save(Buffer.from(JSON.stringify({ snapshot: snapshotOf(3) })), AT);
  t.deepEqual((await store.latest())?.snapshot, snapshotOf(3));
  await store.close();
});

test('E5: a checkpoint of format 1 as it was first written is read', async (t) => {
  // These very bytes are on disks: they never change, whatever later formats are.
  const folder = new URL('../../../../test/fixtures/checkpoint-format-1/', import.meta.url);
  const names = ['000000000012.data', '000000000012.manifest'];
  const disk = new MemoryDisk(new Map(names.map((name) => [`/c/${name}`, readFileSync(new URL(name, folder))])));
  const store = await openStore(disk);
  const loaded = await store.latest();
  t.truthy(loaded);
  const { number, snapshot } = loaded as LoadedCheckpoint;
  t.is(number, 12);
  const { source, held, sinks } = snapshot;
  t.deepEqual(source.progress, {
    lowest: 4,
    settled: [[5, 7]],
    open: [{ place: 4, lowest: 1, settled: [], open: [] }],
  });
  t.deepEqual(
    source.items.map(({ seq, item }) => [seq, decodeItem(Buffer.from(item, 'base64'))]),
    [[4, 'a{']],
  );
  t.deepEqual(
    held.map((step) => step.map(loadHeld)),
    [[{ id: '4.1', attempts: 2, leftMs: 30, outcome: undefined }]],
  );
  t.deepEqual(sinks, [{ name: 'out', state: { length: 12 } }]);
  await store.close();
});

test('a manifest is read only as the very bytes that were written', (t) => {
  const manifest = { format: 1, number: 3, at: AT, data: { bytes: 1, sha256: 'x' } };
  const bytes = encodeManifest(manifest);
  t.deepEqual(decodeManifest(bytes), manifest);
  t.is(decodeManifest(Buffer.concat([bytes, Buffer.from('\n')])), undefined);
  t.is(decodeManifest(new Uint8Array()), undefined);
});

test('two runs never share a directory, and the lock of a dead process is taken over', async (t) => {
  const disk = new MemoryDisk();
  const store = await openStore(disk);
  await t.throwsAsync(openStore(disk), { code: 'CHECKPOINT_FAILED', message: /in use by another run of this process/ });
  const other = { pid: 8, startOf: () => 'start', isAlive: (pid: number) => pid === 7 };
  await t.throwsAsync(openStore(new MemoryDisk(disk.image), { processes: other }), {
    code: 'CHECKPOINT_FAILED',
    message: /in use by process 7; its lock is \/c\/lock\.7/,
  });
  await t.throwsAsync(openStore(new MemoryDisk(disk.image)), { message: /another thread of this process/ });
  // A process that was given the id of the dead one: as another, and as ourselves.
  const later = { ...other, startOf: (pid: number) => (pid === 7 ? 'later' : 'start') };
  for (const processes of [survivor, later, { ...alone, startOf: () => 'later' }]) {
    const next = await openStore(new MemoryDisk(disk.image), { processes });
    await next.close();
  }
  await store.close();
  await (await openStore(disk)).close();
  t.false([...disk.image.keys()].some((name) => name.includes('lock')));
});

test('two that come at the same moment never both get the directory', async (t) => {
  const everybody = (pid: number) => ({ pid, startOf: (of: number) => `${of}`, isAlive: () => true });
  for (let turn = 0; turn < 20; turn += 1) {
    const disk = new MemoryDisk();
    // Another process has another notion of who holds what: only the names are shared.
    const aside = new Proxy(disk, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const delayed = async (): Promise<unknown> => {
      for (let n = 0; n < turn; n += 1) await Promise.resolve();
      return openStore(aside, { processes: everybody(2) });
    };
    const results = await Promise.allSettled([openStore(disk, { processes: everybody(1) }), delayed()]);
    t.true(results.filter(({ status }) => status === 'fulfilled').length <= 1);
  }
});
