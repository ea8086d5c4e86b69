import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import test from 'ava';
import fc from 'fast-check';
import { ContentKeys, copyPlain } from '../../src/wire/plain-content.js';

const keys = new ContentKeys();
const keyOf = (record: unknown, model?: string) => keys.keyOf(model, record);

/** Plain data of every kind, built from values that are easily confused. */
const leaf = fc.oneof(
  fc.constantFrom(undefined, null, true, false, 0, -0, NaN, Infinity, '', '0', 'null', '\ud800', '\ufffd', 0n, -1n),
  fc.integer(),
  fc.double(),
  fc.string({ unit: 'binary' }),
  fc.bigInt(),
  fc.uint8Array({ maxLength: 9 }),
  fc.int8Array({ maxLength: 9 }),
  fc.float32Array({ maxLength: 5 }),
  fc.float64Array({ maxLength: 5 }),
  fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes)),
  fc.uint8Array({ maxLength: 9 }).map((bytes) => bytes.slice().buffer),
  fc.date({ noInvalidDate: false }),
);
const plain = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.constantFrom('a', 'b', 'ab', '', '__proto__', 'constructor'), tie('value'), {
      noNullPrototype: false,
    }),
  ),
})).value;

/** What a value is, written out: the model that keys are held against. */
function written(value: unknown): string {
  if (typeof value === 'string') return `text ${JSON.stringify(Array.from(value, (unit) => unit.codePointAt(0)))}`;
  if (typeof value === 'number') return Object.is(value, -0) ? '-0' : String(value);
  if (typeof value !== 'object' || value === null) return `${typeof value} ${String(value)}`;
  if (Buffer.isBuffer(value)) return `buffer ${value.toString('hex')}`;
  if (ArrayBuffer.isView(value))
    return `${value.constructor.name} ${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`;
  if (value instanceof ArrayBuffer) return `memory ${Buffer.from(value).toString('hex')}`;
  if (value instanceof Date) return `date ${value.getTime()}`;
  if (Array.isArray(value)) return `[${value.map(written).join()}]`;
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${written(name)}:${written((value as Record<string, unknown>)[name])}`).join()}}`;
}

test('two records have the same key where they hold the same, and nowhere else', (t) => {
  fc.assert(
    fc.property(plain, plain, (one, other) => {
      t.is(keyOf(one) === keyOf(other), written(one) === written(other));
    }),
    { numRuns: 1000 },
  );
});

test('a copy has the key of what it was copied from, shares no memory with it, and names its bytes', (t) => {
  const memories = (value: unknown): unknown[] => {
    if (ArrayBuffer.isView(value)) return [value.buffer];
    if (value instanceof ArrayBuffer || value instanceof Date) return [value];
    if (typeof value !== 'object' || value === null) return [];
    return [value, ...Object.values(value).flatMap(memories)];
  };
  fc.assert(
    fc.property(plain, (value) => {
      const copied = copyPlain(value, Infinity);
      t.is(keyOf(copied?.value), keyOf(value));
      t.is(written(copied?.value), written(value));
      const own = new Set(memories(value));
      t.false(memories(copied?.value).some((memory) => own.has(memory)));
      const bytes = copied?.bytes ?? 0;
      t.true(bytes >= 16);
      t.deepEqual(copyPlain(value, bytes)?.bytes, bytes);
      t.is(copyPlain(value, bytes - 1), undefined);
    }),
    { numRuns: 300 },
  );
});

test('copies hold no more of the heap than they say', (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const named = (count: number, nameOf: (at: number) => string): object =>
    Object.fromEntries(Array.from({ length: count }, (_, at) => [nameOf(at), at]));
  const kinds: Record<string, (index: number) => unknown> = {
    mixed: (index) => ['a', ...Array.from({ length: 999 }, (_, at) => index + at + 0.5)],
    bigints: (index) => Array.from({ length: 1000 }, (_, at) => BigInt(index * 1000 + at)),
    'long bigints': (index) => Array.from({ length: 1000 }, (_, at) => 2n ** 64n + BigInt(index * 1000 + at)),
    dates: (index) => Array.from({ length: 1000 }, (_, at) => new Date(1.7e12 + index * 1000 + at)),
    texts: (index) => Array.from({ length: 1000 }, (_, at) => `${index}, ${at}`),
    empty: () => Array.from({ length: 1000 }, () => ({})),
    bare: () => Array.from({ length: 1000 }, () => Object.create(null) as object),
    'empty arrays': () => Array.from({ length: 1000 }, () => []),
    'many names': (index) => named(1000, (at) => `k${index * 1000 + at}`),
    'some names': (index) => Array.from({ length: 20 }, (_, part) => named(50, (at) => `p${index}-${part}-${at}`)),
    'one name': (index) => Array.from({ length: 1000 }, (_, at) => ({ [`n${index * 1000 + at}`]: 1 })),
    'far indices': (index) => named(1000, (at) => `${at * 100_000 + index}`),
  };
  for (const [kind, make] of Object.entries(kinds)) {
    copyPlain(make(-1), Infinity);
    const kept: unknown[] = [];
    let told = 0;
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let index = 0; index < 300; index++) {
      const { value, bytes } = copyPlain(make(index), Infinity) ?? { bytes: 0 };
      kept.push(value);
      told += bytes;
    }
    collect();
    const held = process.memoryUsage().heapUsed - before;
    t.is(kept.length, 300);
    // What the engine compiles meanwhile is within it too.
    t.true(held <= told + 1_500_000, `${kind}: ${held} held, ${told} told`);
  }
});

test('the order of names does not count, that of values does, and the model does', (t) => {
  t.is(keyOf({ a: 1, b: 2 }), keyOf({ b: 2, a: 1 }));
  t.not(keyOf([1, 2]), keyOf([2, 1]));
  t.not(keyOf('x', 'fr'), keyOf('x', 'de'));
  t.not(keyOf('x', 'fr@1'), keyOf('x', 'fr@2'));
  t.is(keyOf('x')?.length, 32);
});

test('a view counts by what it shows, wherever that lies', (t) => {
  const floats = Float32Array.of(9, 1, 2, 9);
  t.is(keyOf({ x: floats.subarray(1, 3) }), keyOf({ x: Float32Array.of(1, 2) }));
  const copy = copyPlain(floats.subarray(1, 3), Infinity)?.value as Float32Array;
  t.is(copy.buffer.byteLength, 8);
  const buffer = copyPlain(Buffer.from('text'), Infinity)?.value as Buffer;
  t.true(Buffer.isBuffer(buffer));
  t.is(buffer.buffer.byteLength, 4, 'not the pool of small Buffers');
});

test('records larger than what is hashed at once differ by their last value', (t) => {
  const large = (last: number) => Float64Array.from({ length: 100_000 }, (_, i) => (i === 99_999 ? last : i));
  t.is(keyOf({ x: large(1) }), keyOf({ x: large(1) }));
  t.not(keyOf({ x: large(1) }), keyOf({ x: large(2) }));
  const text = 'x'.repeat(50_000);
  t.not(keyOf([text, 1]), keyOf([text, 2]));
  t.not(keyOf(`${text}a`), keyOf(`${text}b`));
  t.not(keyOf(Array.from({ length: 5000 }, () => 'y')), keyOf(Array.from({ length: 5001 }, () => 'y')));
});

test('what is no plain data has neither key nor copy', (t) => {
  class Point {
    x = 1;
  }
  class Floats extends Float32Array {}
  const loop: unknown[] = [];
  loop.push(loop);
  const gap = new Array<number>(2);
  gap[1] = 2;
  const deep = (depth: number): unknown => (depth === 0 ? 1 : [deep(depth - 1)]);
  let shared: unknown = 1;
  for (let level = 0; level < 40; level++) shared = [shared, shared];
  const strange: Record<string, unknown> = {
    function: () => 1,
    symbol: Symbol('s'),
    map: new Map(),
    set: new Set(),
    point: new Point(),
    promise: Promise.resolve(1),
    subclass: new Floats(2),
    subarray: class extends Array<number> {}.from([1]),
    view: new DataView(new ArrayBuffer(1)),
    shared: new Uint8Array(new SharedArrayBuffer(4)),
    stream: { async *[Symbol.asyncIterator]() {} },
    loop,
    gap,
    named: Object.assign([1, 2], { index: 0 }),
    'a gap and a name': Object.assign(new Array<number>(1), { name: 1 }),
    deep: deep(65),
    'the same within itself 2^40 times': shared,
    'too many values': Array.from({ length: 65_536 }, () => 0),
    throws: {
      get x(): number {
        throw new Error('no');
      },
    },
    proxy: new Proxy(
      {},
      {
        getPrototypeOf: () => {
          throw new Error('no');
        },
      },
    ),
  };
  for (const [name, value] of Object.entries(strange)) {
    t.is(keyOf(value), undefined, name);
    t.is(keyOf({ inner: value }), undefined, `${name}, within`);
    t.is(copyPlain(value, Infinity), undefined, name);
  }
  t.not(keyOf(deep(64)), undefined);
  t.not(keyOf(Array.from({ length: 65_535 }, () => 0)), undefined);
});

test('of what has too many values none is looked at', (t) => {
  const looked: PropertyKey[] = [];
  const watched = <Value extends object>(value: Value): Value =>
    new Proxy(value, {
      ownKeys: (target) => {
        if (Array.isArray(target)) looked.push('keys');
        return Reflect.ownKeys(target);
      },
      get: (target, name) => {
        if (name !== 'length') looked.push(name);
        return Reflect.get(target, name) as unknown;
      },
    });
  const values = Array.from({ length: 65_536 }, () => 0);
  const names = Object.fromEntries(values.map((value, at) => [`n${at}`, value]));
  for (const value of [watched(values), watched(names)]) {
    t.is(keyOf(value), undefined);
    t.is(copyPlain(value, Infinity), undefined);
    t.deepEqual(looked, []);
  }
  const rest = watched(values.slice(0, 40_000));
  const before = values.slice(0, 40_000);
  t.is(keyOf([before, rest]), undefined, 'what is left for an array is what those before it leave');
  t.is(copyPlain([before, rest], Infinity), undefined);
  t.deepEqual(looked, []);
  t.not(keyOf(watched({ x: 1 })), undefined);
  t.deepEqual(looked, ['x']);
});

test('a record whose getter asks for another key has one itself', (t) => {
  const inner: (string | undefined)[] = [];
  const record = {
    get x() {
      inner.push(keyOf('other'));
      return 1;
    },
  };
  t.is(keyOf(record), keyOf({ x: 1 }));
  t.deepEqual(inner, [undefined]);
});

test('a copy keeps names that an object has anyway', (t) => {
  const record = JSON.parse('{"__proto__": {"x": 1}, "constructor": 2}') as object;
  const copy = copyPlain(record, Infinity)?.value as object;
  t.deepEqual(Object.keys(copy), ['__proto__', 'constructor']);
  t.is(Object.getPrototypeOf(copy), Object.prototype);
  t.is(JSON.stringify(copy), '{"__proto__":{"x":1},"constructor":2}');
  const bare = Object.assign(Object.create(null) as object, { x: 1 });
  t.is(Object.getPrototypeOf(copyPlain(bare, Infinity)?.value), null);
  t.is(keyOf(bare), keyOf({ x: 1 }));
});
