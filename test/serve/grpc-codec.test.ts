import test from 'ava';
import fc from 'fast-check';
import { isTroupeError } from '../../src/kernel/errors.js';
import { Refusal } from '../../src/stream/http-body.js';
import { type Framed, GrpcFrames } from '../../src/serve/grpc-frames.js';
import { encodeInferResponse, readInferMessage } from '../../src/serve/grpc-infer-message.js';
import { decodeMessage, MODEL_REQUEST, REPOSITORY_INDEX_REQUEST } from '../../src/serve/grpc-messages.js';
import { OIP_DATATYPES, type OipDatatype } from '../../src/serve/oip-datatype.js';
import type { OipRequest } from '../../src/serve/oip-request.js';
import { elementsOf, type OipTensor, valuesFromBytes, valuesToBytes } from '../../src/serve/oip-tensor.js';
import { beginRow, inTenths } from '../e2e/row-report.js';
import { fuzzOf, sizes } from '../e2e/sizes.js';
import { codecOf, type Message } from './grpc-stand.js';
import { LoopBlock } from './loop-block.js';
import { anyTensor, sameData } from './oip-bodies.js';

const runs = fuzzOf(sizes.oipRuns);
const { write } = codecOf('ModelInfer');
const { read } = codecOf('ModelInfer');

/** The message of the refusal, which is a typed one of a client's mistake; anything else fails the test. */
function refusal(bytes: Buffer): string {
  try {
    decode(bytes);
  } catch (error) {
    if (isTroupeError(error) && (error.code === 'INPUT_INVALID' || error.code === 'PARSE_FAILED')) return error.message;
    throw error;
  }
  return '';
}

function decode(bytes: Buffer): OipRequest {
  return readInferMessage(bytes).decode();
}

const CONTENTS: Readonly<Record<string, string>> = {
  BOOL: 'bool_contents',
  INT8: 'int_contents',
  INT16: 'int_contents',
  INT32: 'int_contents',
  INT64: 'int64_contents',
  UINT8: 'uint_contents',
  UINT16: 'uint_contents',
  UINT32: 'uint_contents',
  UINT64: 'uint64_contents',
  FP32: 'fp32_contents',
  FP64: 'fp64_contents',
  BYTES: 'bytes_contents',
};

function contentsOf({ datatype, data }: OipTensor): Message | undefined {
  const field = CONTENTS[datatype.name];
  if (field === undefined) return undefined;
  const values = Array.from(data as ArrayLike<number | bigint | string>, (value) => {
    if (datatype.json === 'boolean') return value !== 0;
    if (datatype.json === 'text') return Buffer.from(value as string);
    return typeof value === 'bigint' ? String(value) : value;
  });
  return { [field]: values };
}

const tensors = fc.uniqueArray(anyTensor, { selector: ({ name }) => name, minLength: 1, maxLength: 4 });
const head = ({ name, datatype, shape }: OipTensor): Message => ({ name, datatype: datatype.name, shape });

test('G4 tensors of all datatypes come through a message that others wrote, raw bit for bit, typed value for value', (t) => {
  const row = beginRow(t, 'G4');
  const seen = new Set<string>();
  fc.assert(
    fc.property(tensors, fc.boolean(), (sent, asked) => {
      const isRaw = asked || sent.some((tensor) => contentsOf(tensor) === undefined);
      const values = isRaw
        ? { inputs: sent.map(head), raw_input_contents: sent.map((tensor) => Buffer.from(valuesToBytes(tensor))) }
        : { inputs: sent.map((tensor) => ({ ...head(tensor), contents: contentsOf(tensor) })) };
      const bytes = write({ model_name: 'm', model_version: '3', id: 'a', ...values });
      const message = readInferMessage(bytes);
      const { inputs, id } = message.decode();
      if (message.modelName !== 'm' || message.modelVersion !== '3' || id !== 'a') return false;
      return sent.every((tensor, index) => {
        seen.add(`${tensor.datatype.name} ${isRaw}`);
        const got = inputs[index];
        return (
          got !== undefined &&
          got.name === tensor.name &&
          got.datatype === tensor.datatype &&
          got.shape.join() === tensor.shape.join() &&
          sameData(got.data, tensor.data, !isRaw)
        );
      });
    }),
    runs,
  );
  t.is(seen.size, 2 * OIP_DATATYPES.size - 2, [...seen].join(', '));
  row({ faults: 0, runs: runs.numRuns, lost: 0, dup: 0, reorder: 0 });
});

test('G4 answers are read by others as they were meant, their tensors bit for bit', (t) => {
  const row = beginRow(t, 'G4');
  const { read: readStream } = codecOf('ModelStreamInfer');
  fc.assert(
    fc.property(tensors, fc.boolean(), fc.string(), (all, isOfStream, id) => {
      const outputs = all.map((tensor) => ({ ...tensor, isBinary: true }));
      const response = { modelName: 'm', modelVersion: '1', id, outputs };
      const bytes = Buffer.concat(encodeInferResponse(response, isOfStream));
      const got = isOfStream ? readStream(bytes)['infer_response'] : read(bytes);
      const { model_name: name, model_version: version, outputs: told, raw_output_contents: raws, parameters } = got;
      if (name !== 'm' || version !== '1' || got.id !== id || raws.length !== all.length) return false;
      if (isOfStream !== (parameters.triton_final_response?.bool_param === true)) return false;
      return all.every((tensor, index) => {
        const { name: own, datatype, shape } = told[index];
        const data = valuesFromBytes(raws[index], tensor.datatype, tensor.shape, '');
        return (
          own === tensor.name &&
          datatype === tensor.datatype.name &&
          shape.join() === tensor.shape.join() &&
          sameData(data, tensor.data, false)
        );
      });
    }),
    runs,
  );
  t.pass();
  row({ faults: 0, runs: runs.numRuns, lost: 0, dup: 0, reorder: 0 });
});

test('parameters come through with their types, whatever their names', (t) => {
  const parameters = {
    a: { bool_param: true },
    b: { int64_param: '-9007199254740993' },
    c: { string_param: 'grüße' },
    d: { double_param: -0.5 },
    e: { uint64_param: '18446744073709551615' },
    constructor: { int64_param: '7' },
    triton_enable_empty_final_response: { bool_param: true },
  };
  const got = decode(write({ model_name: 'm', parameters })).parameters;
  t.deepEqual(
    [...got],
    [
      ['a', true],
      ['b', -9007199254740993n],
      ['c', 'grüße'],
      ['d', -0.5],
      ['e', 18446744073709551615n],
      ['constructor', 7],
    ],
  );
  const own = JSON.parse('{"__proto__":{"int64_param":"1"}}');
  const proto = decode(write({ model_name: 'm', parameters: own })).parameters;
  t.true([...proto.keys()].every((name) => name === '__proto__'));
});

const tensorOf = (datatype: string, contents: Message, shape: readonly number[] = [1]): Buffer =>
  write({ inputs: [{ name: 'x', datatype, shape, contents }] });

test('typed values out of range, and what is no text, are refused', (t) => {
  for (const [datatype, contents] of [
    ['INT8', { int_contents: [128] }],
    ['INT8', { int_contents: [-129] }],
    ['INT16', { int_contents: [-32_769] }],
    ['UINT8', { uint_contents: [256] }],
    ['UINT16', { uint_contents: [65_536] }],
  ] as const)
    t.regex(refusal(tensorOf(datatype, contents)), new RegExp(`value 0 must be .* \\(${datatype}\\)`));
  t.regex(refusal(tensorOf('BYTES', { bytes_contents: [Buffer.from([0xff])] })), /not UTF-8/);
  t.regex(refusal(tensorOf('BF16', { uint_contents: [1] })), /no typed contents/);
  t.regex(refusal(tensorOf('FP32', { fp64_contents: [1] })), /go into fp32_contents/);
  t.regex(refusal(tensorOf('INT64', { int64_contents: ['1'] }, [2])), /takes 2 values, int64_contents has 1/);
  t.regex(refusal(tensorOf('INT64', {}, [4_000_000, 8])), /too many for typed contents/);
  // 2 ** 32 as a varint that says it is an int32: nothing is wrapped.
  const wrapped = Buffer.from('0a01781205494e5433321a01012a0712058080808010', 'hex');
  t.regex(refusal(Buffer.concat([Buffer.from([0x2a, wrapped.length]), wrapped])), /value 0 must be/);
  // Eight bytes of fixed64 in int_contents: they are no varints.
  const fixed = Buffer.from('0a01781205494e5433321a01082a09110102030405060708', 'hex');
  t.regex(
    refusal(Buffer.concat([Buffer.from([0x2a, fixed.length]), fixed])),
    /int_contents has values of the wire type 1/,
  );
});

/** A field of bytes. */
const field = (number: number, ...parts: readonly Uint8Array[]): Buffer => {
  const bytes = Buffer.concat(parts);
  const length: number[] = [];
  for (let left = bytes.length; ; left >>>= 7) {
    length.push(left > 0x7f ? (left & 0x7f) | 0x80 : left);
    if (left <= 0x7f) break;
  }
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length]), bytes]);
};

test('fields that repeat without end are refused before they cost memory', (t) => {
  const many = (one: Uint8Array): Buffer => Buffer.concat(Array.from({ length: 100_000 }, () => one));
  t.regex(refusal(many(field(5))), /inputs: more than 256/);
  t.regex(refusal(many(field(6))), /outputs: more than 256/);
  t.regex(refusal(many(field(7))), /raw_input_contents: more than 256/);
  t.regex(refusal(many(field(4))), /more than 256 parameters/);
  t.regex(refusal(field(5, many(field(4)))), /more than 256 parameters/);
  t.regex(refusal(field(5, field(3, Buffer.alloc(100_000, 1)))), /more than 16 dimensions/);
  t.regex(refusal(field(5, many(Buffer.from([0x18, 1])))), /more than 16 dimensions/);
  t.regex(refusal(field(5, field(5, Buffer.from([0x35])), field(5, Buffer.from([0x35])))), /contents twice/);
  t.is(refusal(many(field(99, Buffer.from('skipped')))), '', 'what is unknown is skipped');
  for (const bytes of ['0a', '0aff', '0a05ab', '00', '07', '0b', '0affffffffffffffffff7f', '18ffffffffffffffffffff01'])
    t.regex(refusal(Buffer.from(bytes, 'hex')), /not what its \.proto says/, bytes);
});

test('G1 any bytes whatever are a message of gRPC or a typed refusal, and block nobody', (t) => {
  const row = beginRow(t, 'G1');
  const loop = new LoopBlock();
  let taken = 0;
  const valid = tensors.map((all) =>
    write({
      model_name: 'm',
      parameters: { a: { int64_param: '3' } },
      inputs: all.map((tensor) => ({ ...head(tensor), contents: contentsOf(tensor) })),
      outputs: [{ name: 'y' }],
    }),
  );
  const bent = fc
    .tuple(valid, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 }), fc.nat())
    .map(([bytes, changes, cut]) => {
      const copy = Buffer.from(bytes);
      for (const [at, byte] of changes) if (copy.length > 0) copy[at % copy.length] = byte;
      return cut % 3 === 0 ? copy.subarray(0, cut % (copy.length + 1)) : copy;
    });
  fc.assert(
    fc.property(fc.oneof(bent, fc.uint8Array({ maxLength: 200 }).map(Buffer.from)), (bytes) => {
      if (loop.during(`a message of ${bytes.length} bytes`, () => refusal(bytes)) === '') taken++;
      for (const table of [MODEL_REQUEST, REPOSITORY_INDEX_REQUEST]) {
        try {
          decodeMessage(table, bytes);
        } catch (error) {
          if (!isTroupeError(error) || !['INPUT_INVALID', 'PARSE_FAILED'].includes(error.code)) throw error;
        }
      }
    }),
    runs,
  );
  t.true(taken > 0, `${taken}`);
  const { numRuns } = runs;
  row({
    faults: numRuns,
    runs: numRuns,
    lost: 0,
    dup: 0,
    reorder: 0,
    more: { taken, slowestMs: inTenths(loop.slowestMs) },
  });
});

test('messages are the same however the stream is cut into chunks, and each of their bytes is taken once', (t) => {
  const message = fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.boolean());
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 8 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 30 })),
      (all, cuts) => {
        const stream = Buffer.concat(
          all.flatMap(([bytes, isPacked]) => {
            const prefix = Buffer.from([isPacked ? 1 : 0, 0, 0, 0, 0]);
            prefix.writeUInt32BE(bytes.length, 1);
            return [prefix, bytes];
          }),
        );
        let takenBytes = 0;
        const frames = new GrpcFrames(100, (bytes) => {
          takenBytes += bytes;
          return true;
        });
        const got: Framed[] = [];
        for (let at = 0; at < stream.length; ) {
          const { value } = cuts.next();
          if (frames.push(stream.subarray(at, at + value), got) !== undefined) return false;
          at += value;
        }
        return (
          !frames.isInside &&
          frames.drop() === 0 &&
          takenBytes === all.reduce((total, [bytes]) => total + bytes.length, 0) &&
          got.length === all.length &&
          got.every(({ bytes, isPacked }, index) => {
            const [sent, wasPacked] = all[index] as (typeof all)[number];
            return isPacked === wasPacked && bytes.equals(sent);
          })
        );
      },
    ),
    runs,
  );
  const lies = new GrpcFrames(100, () => true);
  t.true(lies.push(Buffer.from([0, 0, 0, 0, 101]), []) instanceof Refusal, 'refused before a byte of it');
  t.true(new GrpcFrames(100, () => true).push(Buffer.from([2, 0, 0, 0, 1]), []) instanceof Refusal);
  const full = new GrpcFrames(100, () => false);
  t.is(full.push(Buffer.from([0, 0, 0, 0, 3, 1]), []), 'busy');
  t.is(full.drop(), 0);
});

test('every datatype with typed values has a place for them', (t) => {
  for (const datatype of OIP_DATATYPES.values() as Iterable<OipDatatype>)
    t.is(CONTENTS[datatype.name] === undefined, datatype.json === 'none', datatype.name);
  t.is(elementsOf([]), 1);
});

test('a message that is given up in the middle is told in bytes once, whole ones and prefixes not counted', (t) => {
  const frames = new GrpcFrames(100, () => true);
  const into: Framed[] = [];
  t.is(frames.drop(), 0);
  t.is(frames.push(Buffer.from([0, 0, 0, 0, 2, 1, 2, 0, 0, 0, 0, 9, 1]), into), undefined);
  t.is(frames.push(Buffer.from([2, 3]), into), undefined);
  t.is(into.length, 1);
  t.is(frames.drop(), 3);
  t.is(frames.drop(), 0);
});
