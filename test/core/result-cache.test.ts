import test from 'ava';
import fc from 'fast-check';
import { KEPT_BYTES, ResultCache } from '../../src/core/result-cache.js';

const GENERATION = 1;

function cacheOf(maxBytes: number, ttlMs = Infinity) {
  const cache = new ResultCache({ maxBytes, ttlMs });
  const keep = (key: string, value: unknown, bytes: number, now = 0) =>
    cache.keep(key, cache.editionOf(GENERATION), value, bytes, '1', now);
  return { cache, keep };
}

test('an answer is found as it was kept, until its time is over', (t) => {
  const { cache, keep } = cacheOf(10_000, 100);
  keep('a', 'A', 10, 5);
  t.like(cache.find('a', 104), { value: 'A', version: '1' });
  t.is(cache.bytes, KEPT_BYTES + 10);
  t.is(cache.find('a', 105), undefined);
  t.deepEqual([cache.count, cache.bytes, cache.evictions], [0, 0, { room: 0, ttl: 1 }]);
});

test('what was used longest ago makes room', (t) => {
  const { cache, keep } = cacheOf(3 * (KEPT_BYTES + 10));
  for (const key of ['a', 'b', 'c']) keep(key, key, 10);
  t.truthy(cache.find('a', 0));
  keep('d', 'd', 10);
  t.is(cache.find('b', 0), undefined);
  for (const key of ['a', 'c', 'd']) t.is(cache.find(key, 0)?.value, key);
  t.deepEqual(cache.evictions, { room: 1, ttl: 0 });
});

test('an answer larger than the cache is not kept, and costs no other', (t) => {
  const { cache, keep } = cacheOf(KEPT_BYTES + 10);
  keep('a', 'A', 10);
  keep('b', 'B', 11);
  t.is(cache.find('b', 0), undefined);
  t.is(cache.find('a', 0)?.value, 'A');
});

test('another generation begins with nothing, and what was kept for the one before does not get in', (t) => {
  const { cache, keep } = cacheOf(10_000);
  const edition = cache.editionOf(GENERATION);
  keep('a', 'A', 10);
  cache.editionOf(2);
  t.is(cache.find('a', 0), undefined);
  cache.keep('a', edition, 'A', 10, '1', 0);
  t.is(cache.find('a', 0), undefined);
  t.is(cache.bytes, 0);
});

const key = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f');
const commands = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.record({ kind: fc.constant('find' as const), key }) },
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('keep' as const),
        key,
        value: fc.integer(),
        bytes: fc.nat(1500),
        isLate: fc.boolean(),
      }),
    },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(60) }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('generation' as const), generation: fc.integer({ min: 1, max: 3 }) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('forget' as const) }) },
  ),
  { maxLength: 200 },
);

test('no order of commands makes the cache hold too much, or find anything but what a plain map would', (t) => {
  fc.assert(
    fc.property(commands, fc.integer({ min: 1, max: 6000 }), fc.constantFrom(Infinity, 50), (list, maxBytes, ttlMs) => {
      const cache = new ResultCache({ maxBytes, ttlMs });
      const plain = new Map<string, { value: unknown; bytes: number; keptAt: number }>();
      let now = 0;
      let generation = 1;
      let edition = cache.editionOf(generation);
      let oldEdition = edition;
      for (const command of list) {
        switch (command.kind) {
          case 'find': {
            const expected = plain.get(command.key);
            const isStale = expected !== undefined && expected.keptAt + ttlMs <= now;
            if (expected !== undefined) plain.delete(command.key);
            if (expected !== undefined && !isStale) plain.set(command.key, expected);
            t.is(cache.find(command.key, now)?.value, isStale ? undefined : expected?.value);
            break;
          }
          case 'keep': {
            const bytes = command.bytes + KEPT_BYTES;
            const isOld = command.isLate && oldEdition !== edition;
            const at = command.isLate ? oldEdition : edition;
            cache.keep(command.key, at, command.value, command.bytes, undefined, now);
            if (isOld || bytes > maxBytes) break;
            plain.delete(command.key);
            // A Map is in the order of its last writes, and `find` writes too.
            let held = [...plain.values()].reduce((sum, entry) => sum + entry.bytes, bytes);
            for (const [oldest, entry] of plain) {
              if (held <= maxBytes) break;
              plain.delete(oldest);
              held -= entry.bytes;
            }
            plain.set(command.key, { value: command.value, bytes, keptAt: now });
            break;
          }
          case 'wait':
            now += command.ms;
            break;
          case 'generation':
            if (command.generation !== generation) plain.clear();
            generation = command.generation;
            break;
          case 'forget':
            cache.forget();
            plain.clear();
            break;
        }
        const next = cache.editionOf(generation);
        if (next !== edition) oldEdition = edition;
        edition = next;
        t.true(cache.bytes <= maxBytes);
        t.is(cache.count, plain.size);
        t.is(
          cache.bytes,
          [...plain.values()].reduce((sum, { bytes }) => sum + bytes, 0),
        );
      }
    }),
    { numRuns: 400 },
  );
});
