import test from 'ava';
import fc from 'fast-check';
import { TroupeError } from '../../src/kernel/errors.js';
import { CAUSE_DEPTH_MAX, fromFault, retryAfterOf, toFault } from '../../src/wire/fault.js';

const across = (error: unknown): Error => fromFault(structuredClone(toFault(error)));

test('an error keeps name, message, code, stack, cause and plain fields', (t) => {
  class ShelfError extends RangeError {
    override readonly name = 'ShelfError';
  }
  const cause = Object.assign(new TypeError('below'), { code: 'E_BELOW' });
  const error = Object.assign(new ShelfError('above', { cause }), {
    code: 'E_ABOVE',
    shelf: 7,
    full: true,
    note: null,
  });
  const back = across(error);
  t.like(back, { name: 'ShelfError', message: 'above', code: 'E_ABOVE', shelf: 7, full: true, note: null });
  t.is(back.stack, error.stack);
  t.true(back.cause instanceof TypeError);
  t.like(back.cause, { message: 'below', code: 'E_BELOW' });
});

test('a retryAfterMs crosses, however many other fields there are and wherever it stands', (t) => {
  const many = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`field${n}`, n]));
  t.like(across(Object.assign(new Error('busy'), many, { retryAfterMs: 250 })), { retryAfterMs: 250 });
  class Busy extends Error {
    get retryAfterMs(): number {
      return 70;
    }
  }
  t.like(across(new Busy('busy')), { retryAfterMs: 70 });
  t.is((across(new TroupeError('BREAKER_OPEN', 'open', { retryAfterMs: 5 })) as TroupeError).retryAfterMs, 5);
  for (const nonsense of [Number.NaN, -1, '5', Infinity]) {
    t.is(retryAfterOf(Object.assign(new Error('busy'), { retryAfterMs: nonsense })), undefined);
  }
});

test('a TroupeError is a TroupeError again, with where it happened and what it says about the record', (t) => {
  const error = new TroupeError('DEADLINE_PASSED', 'late', {
    ran: 'not-started',
    actor: 'a',
    replica: 1,
    incarnation: 2,
    modelVersion: '3',
    attempt: 4,
    cause: new Error('why'),
  });
  const back = across(error);
  t.true(back instanceof TroupeError);
  t.like(back, {
    code: 'DEADLINE_PASSED',
    ran: 'not-started',
    retryable: true,
    actor: 'a',
    replica: 1,
    incarnation: 2,
  });
  t.like(back, { modelVersion: '3', attempt: 4, message: 'late' });
  t.is((back.cause as Error).message, 'why');
});

test('the parts of an AggregateError come along', (t) => {
  const back = across(new AggregateError([new RangeError('one'), 'two'], 'both'));
  t.true(back instanceof AggregateError);
  t.deepEqual(
    (back as AggregateError).errors.map((part: Error) => [part.name, part.message]),
    [
      ['RangeError', 'one'],
      ['Error', 'A value that is no Error was thrown: "two"'],
    ],
  );
});

test('cycles and long chains of causes end', (t) => {
  const cyclic = new Error('a');
  cyclic.cause = new Error('b', { cause: cyclic });
  t.is((across(cyclic).cause as Error).cause, undefined);
  let deep = new Error('0');
  for (let i = 1; i < 50; i++) deep = new Error(String(i), { cause: deep });
  let depth = 0;
  for (let at: unknown = across(deep); at instanceof Error; at = at.cause) depth++;
  t.is(depth, CAUSE_DEPTH_MAX);
  const wide = (level: number): Error =>
    level === 0
      ? new Error('leaf')
      : new AggregateError(
          Array.from({ length: 8 }, () => wide(level - 1)),
          'node',
        );
  t.true(JSON.stringify(toFault(wide(5))).length < 1_000_000);
});

test('hostile values are told as well as they can be, and never throw', (t) => {
  const trap = (): never => {
    throw new Error('no looking');
  };
  const hostile = [
    new Proxy({}, { get: trap, ownKeys: trap, getPrototypeOf: trap, has: trap }),
    Object.defineProperty(new Error('x'), 'message', { get: trap }),
    Object.defineProperty(new Error('x'), 'cause', { get: trap }),
    Object.defineProperty(new Error('x'), 'errors', { value: new Proxy([], { get: trap }) }),
    Object.defineProperty({}, 'extra', { get: trap, enumerable: true }),
    Proxy.revocable({}, {}).proxy,
    { toJSON: trap },
    Object.create(null),
    () => 1,
    Symbol('s'),
    undefined,
    null,
    10n,
    new Date(Number.NaN),
  ];
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  for (const value of [...hostile, revoked.proxy]) {
    const back = across(value);
    t.true(back instanceof Error);
    t.is(typeof back.message, 'string');
  }
});

test('sizes are capped, and fields cannot reach the prototype', (t) => {
  const error = Object.assign(new Error('m'.repeat(1_000_000)), { big: 'f'.repeat(100_000) });
  for (let i = 0; i < 100; i++) Object.assign(error, { [`field${i}`]: i });
  Object.defineProperty(error, '__proto__', { value: 'bad', enumerable: true });
  const fault = toFault(error);
  t.true(JSON.stringify(fault).length < 40_000);
  t.is(Object.keys(fault.fields ?? {}).length, 16);
  const forged = fromFault({
    name: 'Error',
    message: 'x',
    fields: JSON.parse('{"__proto__":"bad","constructor":"bad"}'),
  });
  t.is(Object.getPrototypeOf(forged), Error.prototype);
  t.false(Object.hasOwn(forged, 'constructor'));
});

test('anything thrown becomes an error on the other side', (t) => {
  fc.assert(
    fc.property(fc.anything({ withNullPrototype: true, withBigInt: true, withDate: true }), (value) => {
      t.true(across(value) instanceof Error);
      t.true(across(Object.assign(new Error('with'), { value, cause: value })) instanceof Error);
    }),
    { numRuns: 300 },
  );
});
