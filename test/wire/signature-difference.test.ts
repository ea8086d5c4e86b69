import test from 'ava';
import type { Signature, TensorSpec } from '../../src/wire/tensor.js';
import { signatureDifferences } from '../../src/wire/signature-difference.js';

const x: TensorSpec = { name: 'x', dtype: 'float32', shape: [4] };
const m: TensorSpec = { name: 'm', dtype: 'int64', shape: [] };
const y: TensorSpec = { name: 'y', dtype: 'float32', shape: [-1, 2] };
const old: Signature = { inputs: [x, m], outputs: [y] };

test('tensors go by their names: their order is no difference, and neither are two without any', (t) => {
  t.deepEqual(signatureDifferences(old, { inputs: [m, x], outputs: [y] }), []);
  t.deepEqual(signatureDifferences(undefined, undefined), []);
});

test('every tensor that is missing, new, or of another type or shape is a line', (t) => {
  const other: Signature = {
    inputs: [{ ...x, shape: [8] }],
    outputs: [
      { ...y, dtype: 'float64' },
      { ...y, name: 'z' },
    ],
  };
  t.deepEqual(signatureDifferences(old, other), [
    'input "x" is float32[8], not float32[4]',
    'input "m" (int64[]) is missing',
    'output "y" is float64[-1,2], not float32[-1,2]',
    'output "z" (float32[-1,2]) is new',
  ]);
});

test('a model of tensors and one of records differ as a whole', (t) => {
  t.is(signatureDifferences(old, undefined).length, 1);
  t.is(signatureDifferences(undefined, old).length, 1);
});

test('one that answers a record once and one that is decoupled differ', (t) => {
  t.deepEqual(signatureDifferences(old, { ...old, decoupled: true }), [
    'it answers a record once, the other any number of times',
  ]);
  t.deepEqual(signatureDifferences({ ...old, decoupled: false }, old), []);
});
