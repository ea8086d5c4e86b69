import test from 'ava';
import { untilStopped } from '../../src/config/until-stopped.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';

test('a source that is stopped gives nothing more', async (t) => {
  const stop = new AbortController();
  const reader = await untilStopped(fromIterable([1, 2, 3, 4]), stop.signal).open();
  t.deepEqual(await reader.read(2), [1, 2]);
  stop.abort();
  t.is(await reader.read(2), undefined);
  await reader.close();
});

test('a read that is open when the source is stopped is not waited for', async (t) => {
  const stop = new AbortController();
  const never = {
    name: 'never',
    open: () => ({ read: () => new Promise<undefined>(() => undefined), close: () => undefined }),
  };
  const reader = await untilStopped(never, stop.signal).open();
  const read = reader.read(1);
  stop.abort();
  t.is(await read, undefined);
});

test('a failing read fails as without the stop', async (t) => {
  const broken = {
    name: 'broken',
    open: () => ({ read: () => Promise.reject(new Error('disk')), close: () => undefined }),
  };
  const reader = await untilStopped(broken, new AbortController().signal).open();
  await t.throwsAsync(async () => reader.read(1), { message: 'disk' });
});
