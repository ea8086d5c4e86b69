import test, { type ExecutionContext } from 'ava';
import { stream, runIn } from '../../../src/stream/pipeline.js';
import { StreamError } from '../../../src/stream/report.js';
import { toArray } from '../../../src/stream/sinks/array.js';
import { fromIterable } from '../../../src/stream/sources/iterable.js';
import { MemoryDisk } from '../../../src/testing/memory-disk.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { settleDown } from '../hand-target.js';
import { HangingDisk } from './hanging-disk.js';
import { AT, alone, dataOf, openStore, recover } from './stores.js';

const TIMEOUT_MS = 1000;

/** After any crash the newest whole checkpoint is one of these, and nothing is damaged. */
async function leaves(t: ExecutionContext, disk: MemoryDisk, marks: readonly number[], when: string): Promise<void> {
  for (const image of disk.crashImages()) {
    const { mark, putAside } = await recover(new MemoryDisk(image));
    t.true(mark !== undefined && marks.includes(mark), `${mark} is one of ${marks.join()}, ${when}`);
    t.deepEqual(putAside, [], when);
  }
}

test('whichever operation of a save hangs, it fails in time, nothing is asked meanwhile, and what ends late does no harm', async (t) => {
  const hung: string[] = [];
  for (let step = 1; ; step += 1) {
    const disk = new HangingDisk(new MemoryDisk());
    const clock = new VirtualClock();
    const store = await openStore(disk, { clock, timeoutMs: TIMEOUT_MS });
    await store.save(dataOf(1), AT);
    disk.hangsAt = disk.asked + step;
    const saving = store.save(dataOf(2), AT);
    saving.catch(() => undefined);
    await settleDown(20);
    if (disk.hanging === undefined) {
      await saving;
      break;
    }
    const when = `${disk.hanging}, operation ${step}`;
    hung.push(disk.hanging);
    clock.advance(TIMEOUT_MS - 1);
    await settleDown();
    const { asked } = disk;
    clock.advance(1);
    await t.throwsAsync(saving, {
      code: 'CHECKPOINT_FAILED',
      message:
        /Cannot write checkpoint 2 in \/c: the disk did not answer within 1000 ms \(checkpoint\.timeoutMs\): \w+ \/c/,
    });
    await t.throwsAsync(store.save(dataOf(3), AT), { code: 'CHECKPOINT_FAILED', message: /has not answered yet/ });
    t.is(disk.asked, asked, `nothing is asked while it hangs: ${when}`);
    await leaves(t, disk.disk, [1, 2], `${when} hangs`);
    disk.letGo();
    await settleDown();
    await leaves(t, disk.disk, [1, 2], `${when} has ended`);
    await store.save(dataOf(4), AT);
    await leaves(t, disk.disk, [4], `after ${when}`);
    t.deepEqual(
      disk.disk.operations.filter(({ kind }) => kind === 'create').length,
      disk.disk.operations.filter(({ kind }) => kind === 'close').length,
      `every file is closed: ${when}`,
    );
    await store.close();
    t.is(clock.timerCount, 0);
  }
  t.deepEqual(hung, [
    'create',
    'write',
    'sync',
    'close',
    'rename',
    'sync',
    'create',
    'write',
    'sync',
    'close',
    'rename',
    'sync',
  ]);
});

test('a directory stays locked while an operation on it hangs, and is let go when that has ended', async (t) => {
  const disk = new HangingDisk(new MemoryDisk());
  const clock = new VirtualClock();
  const store = await openStore(disk, { clock, timeoutMs: TIMEOUT_MS });
  disk.hangsAt = disk.asked + 1;
  const saving = store.save(dataOf(1), AT);
  saving.catch(() => undefined);
  await settleDown();
  clock.advance(TIMEOUT_MS);
  await t.throwsAsync(saving);
  await t.throwsAsync(store.close(), { code: 'CHECKPOINT_FAILED', message: /the lock goes when it has/ });
  await t.throwsAsync(openStore(disk), { code: 'CHECKPOINT_FAILED', message: /in use by another run of this process/ });
  disk.letGo();
  await settleDown(6);
  await (await openStore(disk)).close();
  t.pass();
});

test('whichever operation hangs while a directory is opened, that fails in time, and goes well later', async (t) => {
  for (let step = 1; ; step += 1) {
    const disk = new HangingDisk(new MemoryDisk());
    const clock = new VirtualClock();
    disk.hangsAt = step;
    const opening = openStore(disk, { clock, timeoutMs: TIMEOUT_MS });
    opening.catch(() => undefined);
    await settleDown(20);
    if (disk.hanging === undefined) {
      t.is(step, 9, 'operations of opening');
      break;
    }
    clock.advance(TIMEOUT_MS);
    await t.throwsAsync(opening, {
      code: 'CHECKPOINT_FAILED',
      message: /Cannot use the checkpoint directory \/c: the disk did not/,
    });
    disk.letGo();
    await settleDown(6);
    await (await openStore(disk)).close();
  }
});

test('a disk that hangs ends the run, or fails its checkpoints until it answers, as the policy says', async (t) => {
  for (const onFailure of ['stop', 'continue'] as const) {
    const world = { disk: new HangingDisk(new MemoryDisk()), clock: new VirtualClock(), processes: alone };
    const sink = toArray<number>();
    let next: () => void = () => undefined;
    async function* numbers(): AsyncGenerator<number> {
      for (const n of [1, 2, 3]) {
        yield n;
        await new Promise<void>((resolve) => (next = resolve));
      }
    }
    const checkpoint = { dir: '/c', intervalMs: 100, onFailure, timeoutMs: TIMEOUT_MS };
    const running = runIn(world, stream(fromIterable(numbers())), sink, { checkpoint });
    running.catch(() => undefined);
    await settleDown(30);
    world.disk.hangsAt = world.disk.asked + 1;
    world.clock.advance(100);
    await settleDown();
    t.is(world.disk.hanging, 'create');
    world.clock.advance(TIMEOUT_MS);
    await settleDown(6);
    if (onFailure === 'stop') {
      const error = await t.throwsAsync(running, { instanceOf: StreamError, code: 'CHECKPOINT_FAILED' });
      t.like(error?.report, { results: 1, checkpoints: { written: 1, failed: 1 } });
      continue;
    }
    next();
    await settleDown(6);
    t.deepEqual(sink.values, [1, 2], 'the run goes on');
    world.disk.letGo();
    await settleDown(6);
    world.clock.advance(100);
    await settleDown(30);
    next();
    await settleDown(6);
    next();
    const report = await running;
    t.like(report, { results: 3, checkpoints: { written: 3, failed: 1 } });
    t.regex(report.checkpoints?.lastError?.message ?? '', /did not answer within 1000 ms/);
  }
});
