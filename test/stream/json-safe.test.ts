import test from 'ava';
import fc from 'fast-check';
import { jsonSafe } from '../../src/stream/json-safe.js';

test('what JSON can hold stays the very same value', (t) => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => Object.is(jsonSafe(value), value)),
    { numRuns: 500, seed: 1 },
  );
  const shared = { deep: [1, { two: '2' }] };
  const twice = { a: shared, b: shared };
  t.is(jsonSafe(twice), twice, 'the same object in two places is no circle');
});

test('what JSON has no word for becomes what comes nearest, and only what holds it is copied', (t) => {
  const keep = { untouched: true };
  const circle: Record<string, unknown> = { keep };
  circle['self'] = circle;
  circle['again'] = circle;
  const given = {
    keep,
    circle,
    big: 2n ** 70n,
    fn: function named() {},
    sym: Symbol('s'),
    floats: new Float32Array([1.5, 2]),
    longs: new BigInt64Array([7n]),
    bytes: new Uint8Array([1, 2]).buffer,
    view: new DataView(new Uint8Array([1, 2, 3]).buffer, 1),
    map: new Map([['k', 1n]]),
    set: new Set(['x']),
    date: new Date(0),
    error: new RangeError('r'),
  };
  const safe = jsonSafe(given) as Record<string, unknown>;
  t.like(JSON.parse(JSON.stringify(safe)), {
    circle: { keep: { untouched: true }, self: '[circular]', again: '[circular]' },
    big: '1180591620717411303424',
    fn: '[function named]',
    sym: '[Symbol(s)]',
    floats: [1.5, 2],
    longs: ['7'],
    bytes: [1, 2],
    view: [2, 3],
    map: [['k', '1']],
    set: ['x'],
    date: '1970-01-01T00:00:00.000Z',
    error: { name: 'RangeError', message: 'r' },
  });
  t.is(safe['keep'], keep);
  t.is(typeof given.big, 'bigint', 'what was given is not changed');
});

test('no value makes it throw: proxies, getters and toJSON that do, depths and keys that are traps', (t) => {
  const trap = (): never => {
    throw new Error('trap');
  };
  const hostile = new Proxy({}, { get: trap, has: trap, ownKeys: trap, getPrototypeOf: trap });
  let deep: unknown = 1;
  for (let n = 0; n < 10_000; n++) deep = [deep];
  const proto = JSON.parse('{"__proto__":{"x":1},"n":0}') as Record<string, unknown>;
  proto['n'] = 1n;
  for (const value of [
    hostile,
    {
      get x() {
        return trap();
      },
    },
    { toJSON: trap },
    deep,
    Object.create(null),
    Object.assign([], { 2: 1 }),
  ]) {
    t.notThrows(() => JSON.stringify(jsonSafe(value)));
  }
  t.is(JSON.stringify(jsonSafe(proto)), '{"__proto__":{"x":1},"n":"1"}');
  t.is(jsonSafe({ toJSON: trap }), '[unreadable: trap]');
});
