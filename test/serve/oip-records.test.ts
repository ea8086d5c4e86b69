import test from 'ava';
import fc from 'fast-check';
import type { Signature, TensorRecord } from 'troupe';
import { isTroupeError } from '../../src/kernel/errors.js';
import { OIP_DATATYPES } from '../../src/serve/oip-datatype.js';
import { rawRequest, recordsFrom, tensorsOf, wantedOutputs } from '../../src/serve/oip-records.js';
import type { OipTensor } from '../../src/serve/oip-tensor.js';
import { packColumns, unpackColumns } from '../../src/wire/columns.js';
import { sizes } from '../e2e/sizes.js';
import { anyTensor, sameData } from './oip-bodies.js';

const runs = { numRuns: sizes.oipRuns };
const RECORDS_MAX = 100;
const all = { outputs: undefined, binaryOutputs: true };

function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isTroupeError(error) && (error.code === 'INPUT_INVALID' || error.code === 'SIGNATURE_MISMATCH'))
      return error.message;
    throw error;
  }
  return '';
}

/** Of a model that gives every tensor back. */
function mirrorOf(tensors: readonly OipTensor[], free: boolean): Signature {
  const specs = tensors.map(({ name, datatype, shape }) => {
    const own = shape.slice(1);
    return { name, dtype: datatype.dtype ?? 'float16', shape: free && own.length > 0 ? [-1, ...own.slice(1)] : own };
  });
  return { inputs: specs, outputs: specs };
}

test('tensors become records and records the same tensors again, for every datatype and shape', (t) => {
  let batches = 0;
  fc.assert(
    fc.property(fc.array(anyTensor, { minLength: 1, maxLength: 3 }), fc.boolean(), (given, free) => {
      const [first] = given;
      const count = first?.shape[0] ?? 0;
      const tensors = given
        .filter(({ datatype, shape }) => datatype.dtype !== undefined && shape[0] === count && count > 0)
        .map((tensor, index) => ({ ...tensor, name: `${tensor.name}${index}` }));
      fc.pre(tensors.length > 0);
      const signature = mirrorOf(tensors, free);
      const records = recordsFrom(tensors, signature, RECORDS_MAX);
      // The way of a batch through a pool.
      const { columns, faults } = packColumns(records, signature.inputs);
      if (faults.length > 0 || records.length !== count) return false;
      const results = unpackColumns(columns);
      const outputs = tensorsOf(results, wantedOutputs(all, signature));
      batches++;
      return outputs.every((output, index) => {
        const sent = tensors[index] as OipTensor;
        // Of nothing, a dimension of unknown size cannot be told.
        const isSame = sent.data.length === 0 || output.shape.join() === sent.shape.join();
        return isSame && sameData(output.data, sent.data, sent.shape.length === 1);
      });
    }),
    runs,
  );
  t.true(batches > 0);
});

test('tensors that are not those of the model are refused as such, whatever they are', (t) => {
  const dims = fc.array(fc.constantFrom(-1, 0, 1, 2, 3), { maxLength: 3 });
  const dtypes = [...OIP_DATATYPES.values()].flatMap(({ dtype }) => (dtype === undefined ? [] : [dtype]));
  const spec = fc.record({
    name: fc.constantFrom('x', 'X', 'y', '__proto__'),
    dtype: fc.constantFrom(...dtypes),
    shape: dims,
  });
  let taken = 0;
  fc.assert(
    fc.property(
      fc.array(anyTensor, { maxLength: 2 }),
      fc.array(spec, { maxLength: 2 }),
      fc.uint8Array(),
      (tensors, specs, bytes) => {
        const signature = { inputs: specs, outputs: specs };
        if (refusal(() => recordsFrom(tensors, signature, RECORDS_MAX)) === '') taken++;
        refusal(() => recordsFrom(rawRequest(Buffer.from(bytes), signature).inputs, signature, RECORDS_MAX));
      },
    ),
    runs,
  );
  t.true(taken < runs.numRuns);
});

test('a request may have so many records and no more, however little they hold', (t) => {
  const float = OIP_DATATYPES.get('FP32');
  if (float === undefined) throw new Error('FP32');
  const signature: Signature = { inputs: [{ name: 'x', dtype: 'float32', shape: [0] }], outputs: [] };
  const empty = (count: number): OipTensor => ({
    name: 'x',
    datatype: float,
    shape: [count, 0],
    data: new Float32Array(0),
  });
  t.is(recordsFrom([empty(100)], signature, RECORDS_MAX).length, 100);
  t.regex(
    refusal(() => recordsFrom([empty(101)], signature, RECORDS_MAX)),
    /at most 100 records a request/,
  );
  t.regex(
    refusal(() => recordsFrom([empty(2 ** 31)], signature, RECORDS_MAX)),
    /at most 100 records a request/,
  );
});

test('the classes of all outputs of an answer together are bounded', (t) => {
  const spec = { dtype: 'uint8', shape: [2 ** 13] } as const;
  const outputs = ['a', 'b', 'c'].map((name) => ({ name, ...spec }));
  const values = new Uint8Array(2 ** 13);
  const told = (...counts: number[]): readonly number[] => {
    const asked = counts.map((classes, at) => ({ name: 'abc'.charAt(at), isBinary: false, classes }));
    const wanted = wantedOutputs({ outputs: asked, binaryOutputs: false }, { inputs: [], outputs });
    return tensorsOf([{ a: values, b: values, c: values }], wanted).map(({ data }) => data.length);
  };
  t.deepEqual(told(2 ** 13, 2 ** 13, 0), [2 ** 13, 2 ** 13, 2 ** 13]);
  t.regex(
    refusal(() => told(2 ** 13, 2 ** 13, 1)),
    /output "c": with its classes the answer has 16385, more than 16384/,
  );
});

test('outputs whose sizes differ, or cannot be told, are refused and never guessed', (t) => {
  const of = (shape: readonly number[]): Signature => ({
    inputs: [],
    outputs: [{ name: 'y', dtype: 'float32', shape }],
  });
  const join = (signature: Signature, ...sizesOf: number[]): string => {
    const results: TensorRecord[] = sizesOf.map((size) => ({ y: new Float32Array(size) }));
    return refusal(() => tensorsOf(results, wantedOutputs(all, signature)));
  };
  t.is(join(of([-1]), 3, 3), '');
  t.regex(join(of([-1]), 3, 4), /not equally long/);
  t.regex(join(of([-1, -1]), 4), /2 dimensions of unknown size/);
});
