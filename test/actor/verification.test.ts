import test from 'ava';
import fc from 'fast-check';
import { problemOf, type Verification } from '../../src/actor/verification.js';
import { TroupeError } from '../../src/kernel/errors.js';

const check = (value: unknown, rules: Omit<Verification, 'records'> = {}): string | undefined =>
  problemOf([{ ok: true, value }], { records: [0], ...rules });

test('without expectations every probe must be answered, and no answer may hold a NaN', (t) => {
  t.is(check({ scores: new Float32Array([0.1, Infinity]), label: 'a', big: 3n, none: null }), undefined);
  t.is(check({ scores: new Float32Array([0.1, NaN]) }), 'probe 1 of 1: its result.scores[1] is NaN');
  t.is(check([1, [2, { x: NaN }]]), 'probe 1 of 1: its result[1][1].x is NaN');
  t.is(check(NaN), 'probe 1 of 1: its result is NaN');
  const error = new TroupeError('PREDICT_FAILED', 'predict threw: no');
  t.is(
    problemOf(
      [
        { ok: true, value: 1 },
        { ok: false, error },
      ],
      { records: [1, 2] },
    ),
    'probe 2 of 2 failed: predict threw: no',
  );
  t.is(problemOf([{ ok: true, value: 1 }], { records: [1, 2] }), 'probe 2 of 2 was not answered');
});

test('numbers may be off by the tolerance, or by that part of them where they are large', (t) => {
  t.is(check(0.5, { expect: [0.51], tolerance: 0.02 }), undefined);
  t.is(check(0.5, { expect: [0.51] }), 'probe 1 of 1: its result: expected 0.51, got 0.5');
  t.is(check(1010, { expect: [1000], tolerance: 0.02 }), undefined);
  t.not(check(1030, { expect: [1000], tolerance: 0.02 }), undefined);
  t.is(check(5n, { expect: [5] }), undefined);
  t.not(check(5n, { expect: [6n], tolerance: 10 }), undefined, 'whole numbers beyond a double are exact');
});

test('of an object the named fields count, and a list stands for any array of numbers of its length', (t) => {
  const value = { scores: new Float32Array([0.25, 0.75]), label: 'js' };
  t.is(check(value, { expect: [{ label: 'js' }] }), undefined);
  t.is(check(value, { expect: [{ scores: [0.25, 0.75] }] }), undefined);
  t.is(
    check(value, { expect: [{ scores: [0.25, 0.5] }], tolerance: 0.1 }),
    'probe 1 of 1: its result.scores[1]: expected 0.5, got 0.75 (tolerance 0.1)',
  );
  t.is(check(value, { expect: [{ scores: [0.25] }] }), 'probe 1 of 1: its result.scores: expected 1 values, got 2');
  t.is(check(value, { expect: [{ label: 'ts' }] }), 'probe 1 of 1: its result.label: expected "ts", got "js"');
  t.is(check(value, { expect: [[1]] }), 'probe 1 of 1: its result: expected 1 values, got an object');
  t.is(check([1], { expect: [{ label: 'x' }] }), 'probe 1 of 1: its result: expected an object, got 1 values');
  t.is(check(undefined, { expect: [{ label: 'x' }] }), 'probe 1 of 1: its result: expected an object, got undefined');
});

test('dates, maps, sets and buffers are not taken for objects without fields', (t) => {
  const day = (n: number): Date => new Date(n * 86_400_000);
  t.is(check({ at: day(1) }, { expect: [{ at: day(1) }] }), undefined);
  t.is(
    check({ at: day(2) }, { expect: [{ at: day(1) }] }),
    'probe 1 of 1: its result.at: expected an object, got an object',
  );
  t.not(check(new Map([['a', 1]]), { expect: [new Map([['a', 2]])] }), undefined);
  t.not(check(new Uint8Array([1]).buffer, { expect: [new Uint8Array([2]).buffer] }), undefined);
  t.not(check({}, { expect: [new Set([1])] }), undefined);
});

test('values that are nested deeply are compared to the end, with the tolerance as deep as 32', (t) => {
  const nested = (depth: number, value: unknown): unknown => (depth === 0 ? value : [{ in: nested(depth - 1, value) }]);
  t.is(check(nested(10, new Float64Array([1])), { expect: [nested(10, [1.001])], tolerance: 0.01 }), undefined);
  t.not(check(nested(10, new Float64Array([1])), { expect: [nested(10, [1.1])], tolerance: 0.01 }), undefined);
  t.is(check(nested(40, 'x'), { expect: [nested(40, 'x')] }), undefined);
  t.not(check(nested(40, 'x'), { expect: [nested(40, 'y')] }), undefined);
});

test('what is expected of itself is always met, and anything that JSON can say is compared without a throw', (t) => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (one, other) => {
      t.is(check(one, { expect: [one] }), undefined);
      const difference = check(one, { expect: [other] });
      t.true(difference === undefined || difference.startsWith('probe 1 of 1'));
    }),
  );
});
