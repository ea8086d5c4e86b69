import type { NumericArray } from '../wire/tensor.js';
import { makeValues, type OipDatatype } from './oip-datatype.js';
import { invalid, shownValue } from './oip-invalid.js';
import { ELEMENTS_MAX, elementsOf, EXPANDED_BYTES_MAX, expectedOf, numberFrom, valuesFromBytes } from './oip-tensor.js';
import { BYTES, FIXED32, FIXED64, ProtoReader, VARINT } from './proto-reader.js';

/** Typed values of a tensor in a message of gRPC: InferTensorContents. As in oip-tensor.ts, T1 and T2 hold. */

interface Home {
  readonly field: string;
  readonly number: number;
  /** `text`: bytes, one field for each value; the others may be packed. */
  readonly kind: 'signed' | 'unsigned' | 'float' | 'double' | 'text';
}

const home = (field: string, number: number, kind: Home['kind']): Home => ({ field, number, kind });
const BOOL = 1;
const LENGTH_BYTES = 4;
const INT = home('int_contents', 2, 'signed');
const UINT = home('uint_contents', 4, 'unsigned');

/** FP16 and BF16 have none. */
const HOMES: ReadonlyMap<string, Home> = new Map([
  ['BOOL', home('bool_contents', BOOL, 'unsigned')],
  ['INT8', INT],
  ['INT16', INT],
  ['INT32', INT],
  ['INT64', home('int64_contents', 3, 'signed')],
  ['UINT8', UINT],
  ['UINT16', UINT],
  ['UINT32', UINT],
  ['UINT64', home('uint64_contents', 5, 'unsigned')],
  ['FP32', home('fp32_contents', 6, 'float')],
  ['FP64', home('fp64_contents', 7, 'double')],
  ['BYTES', home('bytes_contents', 8, 'text')],
]);

/** Throws PARSE_FAILED or INPUT_INVALID. */
export function valuesFromContents(
  contents: Buffer,
  datatype: OipDatatype,
  shape: readonly number[],
  where: string,
): NumericArray | string[] {
  const place = HOMES.get(datatype.name);
  if (place === undefined) throw invalid(`${where}: ${datatype.name} has no typed contents; send raw_input_contents`);
  const count = elementsOf(shape);
  if (count > ELEMENTS_MAX || count * datatype.bytes > EXPANDED_BYTES_MAX)
    throw invalid(`${where}: ${count} values are too many for typed contents; send raw_input_contents`);
  // Counted before anything is allocated for them.
  let given = 0;
  let bytes = 0;
  eachPart(contents, place, datatype, where, {
    run: (part) => {
      bytes += part.length;
      given += valuesIn(part, place);
      if (!Number.isInteger(given))
        throw invalid(`${where}: ${place.field} has ${part.length} bytes, which is no whole number of values`);
    },
    value: () => given++,
  });
  if (given !== count)
    throw invalid(`${where}: shape [${shape.join(', ')}] takes ${count} values, ${place.field} has ${given}`);
  if (place.kind === 'signed' || place.kind === 'unsigned')
    return wholeNumbers(contents, place, datatype, count, where);
  // As they lie in raw_input_contents, so that one reader judges both.
  const raw = Buffer.allocUnsafe(bytes + (place.kind === 'text' ? LENGTH_BYTES * count : 0));
  let at = 0;
  const run = (part: Buffer): void => {
    if (place.kind === 'text') at = raw.writeUInt32LE(part.length, at);
    at += part.copy(raw, at);
  };
  eachPart(contents, place, datatype, where, { run, value: () => undefined });
  return valuesFromBytes(raw, datatype, shape, where);
}

interface Parts {
  /** Packed values, or one that is not a whole number. */
  run(part: Buffer): void;
  /** One whole number. */
  value(value: number | bigint): void;
}

function eachPart(contents: Buffer, place: Home, { name }: OipDatatype, where: string, { run, value }: Parts): void {
  const { field, number, kind } = place;
  const reader = new ProtoReader(contents);
  while (reader.next()) {
    if (reader.number === number) {
      if (reader.wire === BYTES) run(reader.slice());
      else if (reader.wire === VARINT && kind === 'signed') value(reader.int());
      else if (reader.wire === VARINT && kind === 'unsigned') value(reader.uint());
      else if (kind === 'float' || kind === 'double') run(reader.fixed(kind === 'float' ? FIXED32 : FIXED64));
      else throw invalid(`${where}: ${field} has values of the wire type ${reader.wire}, which is none of its own`);
    } else if (reader.wire !== BYTES || reader.slice().length > 0)
      throw invalid(`${where}: values of ${name} go into ${field} and no other contents`);
  }
}

function valuesIn(part: Buffer, { kind }: Home): number {
  if (kind === 'text') return 1;
  if (kind === 'float' || kind === 'double') return part.length / (kind === 'float' ? 4 : 8);
  let ends = 0;
  for (const byte of part) if (byte < 0x80) ends++;
  return ends;
}

function wholeNumbers(
  contents: Buffer,
  place: Home,
  datatype: OipDatatype,
  count: number,
  where: string,
): NumericArray {
  const values = makeValues(datatype, count) as { [index: number]: number | bigint };
  const isSigned = place.kind === 'signed';
  let at = 0;
  const put = (given: number | bigint): void => {
    const value = numberFrom(place.number === BOOL ? given !== 0 : given, datatype, 'bare');
    if (value === undefined)
      throw invalid(
        `${where}: value ${at} must be ${expectedOf(datatype, 'bare')} (${datatype.name}), got ${shownValue(given)}`,
      );
    values[at++] = value;
  };
  const run = (part: Buffer): void => {
    const packed = new ProtoReader(part);
    while (!packed.isAtEnd) put(isSigned ? packed.nextInt() : packed.nextUint());
  };
  eachPart(contents, place, datatype, where, { run, value: put });
  return values as NumericArray;
}
