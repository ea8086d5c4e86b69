import fc from 'fast-check';
import { OIP_DATATYPES, type OipDatatype, makeValues, valuesOver } from '../../src/serve/oip-datatype.js';
import { elementsOf, type OipTensor, valuesToBytes, valuesToJson } from '../../src/serve/oip-tensor.js';

/** Bodies as a client writes them, and tensors to put into them. */

const FLOATS: readonly number[] = [
  0,
  -0,
  1,
  -1.5,
  Number.NaN,
  Infinity,
  -Infinity,
  1e-45,
  5e-324,
  3.4028234663852886e38,
];

/** Some value of a datatype: random bits, so that every value there is may come, edges more often. */
function bitsOf(datatype: OipDatatype, count: number): fc.Arbitrary<OipTensor['data']> {
  if (datatype.json === 'text') return fc.array(fc.string({ unit: 'binary' }), { minLength: count, maxLength: count });
  if (datatype.json === 'boolean')
    return fc.array(fc.boolean(), { minLength: count, maxLength: count }).map((bits) => Uint8Array.from(bits, Number));
  const size = count * datatype.bytes;
  const random = fc
    .uint8Array({ minLength: size, maxLength: size })
    .map((bytes) => valuesOver(datatype, new Uint8Array(bytes)));
  const edges = fc
    .array(fc.constantFrom(0x00, 0x7f, 0x80, 0xff), { minLength: size, maxLength: size })
    .map((bytes) => valuesOver(datatype, Uint8Array.from(bytes)));
  if (datatype.json !== 'float') return fc.oneof(random, edges);
  const floats = fc.array(fc.constantFrom(...FLOATS), { minLength: count, maxLength: count }).map((values) => {
    const data = makeValues(datatype, count) as Float32Array;
    data.set(values);
    return data;
  });
  return fc.oneof(random, edges, floats);
}

export const anyDatatype: fc.Arbitrary<OipDatatype> = fc.constantFrom(...OIP_DATATYPES.values());

export const anyTensor: fc.Arbitrary<OipTensor> = fc
  .record({
    name: fc.oneof(fc.string({ minLength: 1 }), fc.constantFrom('__proto__', 'constructor', 'x')),
    datatype: anyDatatype,
    shape: fc.array(fc.nat({ max: 3 }), { maxLength: 4 }),
  })
  .chain(({ name, datatype, shape }) =>
    bitsOf(datatype, elementsOf(shape)).map((data) => ({ name, datatype, shape, data })),
  );

/** What is said of a tensor in a body; tests bend it. */
export interface Said {
  readonly input: Record<string, unknown>;
  readonly blob: Uint8Array | undefined;
}

/** `data` stands in the text as `"@n"` until it is put together, because JSON.stringify has no bigint and no NaN. */
export function bodyOf(
  tensors: readonly (OipTensor & { readonly isBinary: boolean })[],
  rest: Readonly<Record<string, unknown>> = {},
): { readonly json: string; readonly body: Buffer; readonly headerLength: string } {
  const blobs: Uint8Array[] = [];
  const parts = tensors.map((tensor) => {
    const { name, datatype, shape } = tensor;
    const head = `"name":${JSON.stringify(name)},"datatype":"${datatype.name}","shape":[${shape.join(',')}]`;
    if (!tensor.isBinary) return `{${head},"data":${valuesToJson(tensor, 'bare')}}`;
    const blob = valuesToBytes(tensor);
    blobs.push(blob);
    return `{${head},"parameters":{"binary_data_size":${blob.length}}}`;
  });
  const more = Object.entries(rest).map(([key, value]) => `,${JSON.stringify(key)}:${JSON.stringify(value)}`);
  const json = `{"inputs":[${parts.join(',')}]${more.join('')}}`;
  const head = Buffer.from(json);
  return { json, body: Buffer.concat([head, ...blobs]), headerLength: String(head.length) };
}

/** Same values, bit for bit; of numbers, which keep that they are NaN but not which one, with NaN of any payload. */
export function sameData(a: OipTensor['data'], b: OipTensor['data'], asNumbers: boolean): boolean {
  if (a.constructor !== b.constructor || a.length !== b.length) return false;
  if (Array.isArray(a)) return a.every((text, index) => text === b[index]);
  if (asNumbers) return (a as Float64Array).every((value, index) => Object.is(value, (b as Float64Array)[index]));
  const bytes = (data: OipTensor['data']): Buffer => {
    const { buffer, byteOffset, byteLength } = data as Float64Array;
    return Buffer.from(buffer, byteOffset, byteLength);
  };
  return bytes(a).equals(bytes(b));
}
