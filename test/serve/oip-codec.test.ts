import { isDeepStrictEqual } from 'node:util';
import test from 'ava';
import fc from 'fast-check';
import { isTroupeError } from '../../src/kernel/errors.js';
import { OIP_DATATYPES } from '../../src/serve/oip-datatype.js';
import { parseOipJson } from '../../src/serve/oip-json.js';
import { decodeRequest, isRaw, KnownHead, type OipRequest } from '../../src/serve/oip-request.js';
import { encodeResponse } from '../../src/serve/oip-response.js';
import { type NonFinite, valuesFromBytes, valuesFromJson } from '../../src/serve/oip-tensor.js';
import { beginRow } from '../e2e/row-report.js';
import { fuzzOf, sizes } from '../e2e/sizes.js';
import { anyTensor, bodyOf, sameData } from './oip-bodies.js';

const runs = fuzzOf(sizes.oipRuns);

function decode(body: string | Buffer, headerLength?: string, nonFinite: NonFinite = 'bare'): OipRequest {
  return decodeRequest(typeof body === 'string' ? Buffer.from(body) : body, headerLength, nonFinite);
}

/** The message of the refusal, which is a typed one of a client's mistake; anything else fails the test. */
function refusal(body: string | Buffer, headerLength?: string, nonFinite?: NonFinite): string {
  try {
    decode(body, headerLength, nonFinite);
  } catch (error) {
    if (isTroupeError(error) && (error.code === 'INPUT_INVALID' || error.code === 'PARSE_FAILED')) return error.message;
    throw error;
  }
  return '';
}

const one = (data: string, datatype = 'FP32', shape = '[1]'): string =>
  `{"inputs":[{"name":"x","datatype":"${datatype}","shape":${shape},"data":${data}}]}`;

test('G4 tensors of all datatypes come through a request bit for bit as bytes, and value for value as JSON', (t) => {
  const row = beginRow(t, 'G4');
  const seen = new Set<string>();
  fc.assert(
    fc.property(
      fc.uniqueArray(anyTensor, { selector: ({ name }) => name, minLength: 1, maxLength: 4 }),
      fc.boolean(),
      (tensors, all) => {
        const sent = tensors.map((tensor) => ({ ...tensor, isBinary: all || tensor.datatype.json === 'none' }));
        const { body, headerLength } = bodyOf(sent, { id: 'a' });
        const { inputs, id } = decode(body, headerLength);
        if (id !== 'a' || inputs.length !== sent.length) return false;
        return sent.every((tensor, index) => {
          seen.add(`${tensor.datatype.name} ${tensor.isBinary}`);
          const got = inputs[index];
          return (
            got !== undefined &&
            got.name === tensor.name &&
            got.datatype === tensor.datatype &&
            got.shape.join() === tensor.shape.join() &&
            sameData(got.data, tensor.data, !tensor.isBinary)
          );
        });
      },
    ),
    runs,
  );
  t.is(seen.size, 2 * OIP_DATATYPES.size - 2, [...seen].join(', '));
  row({ faults: 0, runs: runs.numRuns, lost: 0, dup: 0, reorder: 0 });
});

test('G4 tensors of all datatypes come through a response bit for bit as bytes, and value for value as JSON', (t) => {
  const row = beginRow(t, 'G4');
  fc.assert(
    fc.property(fc.array(anyTensor, { maxLength: 4 }), fc.boolean(), (tensors, all) => {
      const outputs = tensors.map((tensor) => ({ ...tensor, isBinary: all || tensor.datatype.json === 'none' }));
      const { json, blobs } = encodeResponse({ modelName: 'm', modelVersion: '1', id: '', outputs }, 'bare');
      const root = parseOipJson(json) as { outputs: Record<string, unknown>[] };
      let blob = 0;
      return outputs.every((tensor, index) => {
        const said = root.outputs[index] as { data?: unknown; parameters?: { binary_data_size: number } };
        const size = said.parameters?.binary_data_size;
        if (tensor.isBinary !== (size !== undefined)) return false;
        const data =
          size === undefined
            ? valuesFromJson(said.data, tensor.datatype, tensor.shape, '', 'bare')
            : valuesFromBytes(
                size === 0 ? new Uint8Array() : (blobs[blob++] as Uint8Array),
                tensor.datatype,
                tensor.shape,
                '',
              );
        return sameData(data, tensor.data, !tensor.isBinary);
      });
    }),
    runs,
  );
  t.pass();
  row({ faults: 0, runs: runs.numRuns, lost: 0, dup: 0, reorder: 0 });
});

test('G2 a lie about a length, a shape, a datatype or a size is refused, and allocates nothing for it', (t) => {
  const row = beginRow(t, 'G2');
  const size = fc.oneof(
    fc.integer({ min: -9, max: 200 }),
    fc.constantFrom<number | bigint>(2 ** 31, 2 ** 32 - 1, 2 ** 53, 2n ** 64n - 32n, 1e300, 0.5, -0.5),
  );
  const dims = fc.array(
    fc.oneof(fc.nat({ max: 5 }), fc.constantFrom(-1, 2 ** 16, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 1e18, 0.5)),
    { maxLength: 24 },
  );
  const before = process.memoryUsage().arrayBuffers;
  let most = before;
  let lies = 0;
  const isRefused = (body: Buffer, length?: string): boolean => {
    lies++;
    return refusal(body, length) !== '';
  };
  fc.assert(
    fc.property(anyTensor, dims, size, size, fc.boolean(), (tensor, shape, blob, head, isJson) => {
      const json = isJson && tensor.datatype.json !== 'none';
      const right = bodyOf([{ ...tensor, isBinary: !json }]);
      const bend = (text: string): Buffer => Buffer.concat([Buffer.from(text), right.body.subarray(right.json.length)]);
      if (shape.join() !== tensor.shape.join()) {
        const bent = right.json.replace(/"shape":\[[^\]]*\]/, `"shape":[${shape.join(',')}]`);
        const isSameSize =
          shape.every((dim) => dim >= 0) &&
          shape.length <= 16 &&
          shape.reduce((all, dim) => all * dim, 1) === tensor.data.length;
        const length = json ? undefined : String(Buffer.byteLength(bent));
        const hasFailed = isSameSize ? refusal(bend(bent), length) !== '' : isRefused(bend(bent), length);
        most = Math.max(most, process.memoryUsage().arrayBuffers);
        if (!isSameSize && !hasFailed) return false;
      }
      if (!json && tensor.data.length > 0) {
        const bent = right.json.replace(/"binary_data_size":\d+/, `"binary_data_size":${blob}`);
        const isTrue = right.json === bent;
        if (!isTrue && !isRefused(bend(bent), String(Buffer.byteLength(bent)))) return false;
        if (String(head) !== right.headerLength && !isRefused(right.body, String(head))) return false;
        if (!isRefused(right.body, undefined)) return false;
        if (!isRefused(Buffer.concat([right.body, Buffer.from([0])]), right.headerLength)) return false;
        if (!isRefused(right.body.subarray(0, -1), right.headerLength)) return false;
      }
      return true;
    }),
    runs,
  );
  t.true(most - before < 64 * 2 ** 20, `${most - before} bytes`);
  row({ faults: lies, runs: runs.numRuns, lost: 0, dup: 0, reorder: 0 });
});

test('whole numbers of 64 bits keep every digit, in and out', (t) => {
  const edges = ['9007199254740993', '-9223372036854775808', '9223372036854775807', '0', '-1'];
  const { inputs } = decode(one(`[${edges.join()}]`, 'INT64', '[5]'));
  t.deepEqual(inputs[0]?.data, BigInt64Array.from(edges, BigInt));
  const outputs = inputs.map((tensor) => ({ ...tensor, isBinary: false }));
  const { json } = encodeResponse({ modelName: 'm', modelVersion: '1', id: '7', outputs }, 'bare');
  t.is(
    json,
    `{"model_name":"m","model_version":"1","id":"7","outputs":[{"name":"x","datatype":"INT64","shape":[5],"data":[${edges.join()}]}]}`,
  );
  t.deepEqual(decode(one('[18446744073709551615]', 'UINT64')).inputs[0]?.data, BigUint64Array.of(2n ** 64n - 1n));
  for (const [data, type] of [
    ['[9223372036854775808]', 'INT64'],
    ['[18446744073709551616]', 'UINT64'],
    ['[-1]', 'UINT64'],
    ['[1.5]', 'INT64'],
    ['[1e300]', 'INT64'],
    [`[${'9'.repeat(100_000)}]`, 'INT64'],
    ['[256]', 'UINT8'],
    ['[-129]', 'INT8'],
    ['["1"]', 'INT32'],
    ['[2]', 'BOOL'],
  ] as const)
    t.regex(refusal(one(data, type)), /value 0 must be .*, got /, `${type} ${data.slice(0, 30)}`);
});

test('NaN and the infinities are taken bare and as words, and refused where the policy says so', (t) => {
  for (const data of ['[NaN, Infinity, -Infinity]', '["NaN", "Infinity", "-Infinity"]']) {
    t.deepEqual(decode(one(data, 'FP64', '[3]')).inputs[0]?.data, Float64Array.of(Number.NaN, Infinity, -Infinity));
    t.regex(refusal(one(data, 'FP64', '[3]'), undefined, 'refuse'), /value 0 must be a finite number/);
  }
  t.regex(refusal(one('[NaN]', 'INT32')), /value 0 must be a whole number/);
  t.regex(refusal(one('[1e39]')), /value 0 must be a number in range \(FP32\), got 1e\+39/);
  t.regex(refusal(one('[NaNa]')), /not JSON/);
  t.regex(refusal('{"id": NaN, "inputs": []}'), /id must be a string/);
});

test('null is never a value, and an empty array is one where the shape says so', (t) => {
  t.regex(refusal(one('[null]')), /value 0 must be .* got null/);
  t.regex(refusal(one('[null]', 'FP32', '[1,0]')), /takes 0 values, data has more/);
  t.regex(refusal(one('[null]', 'BYTES')), /value 0 must be a string \(BYTES\), got null/);
  t.deepEqual(decode(one('[]', 'FP32', '[1,0]')).inputs[0]?.data, new Float32Array(0));
  t.regex(refusal(one('null')), /data must be an array, got null/);
});

test('data may be nested in any way, as long as the values are as many as the shape says', (t) => {
  for (const data of ['[1,2,3,4]', '[[1,2],[3,4]]', '[[[1],[2]],[3,[4]]]', '[1,[[2,[3]]],4]'])
    t.deepEqual(decode(one(data, 'FP32', '[2,2]')).inputs[0]?.data, Float32Array.of(1, 2, 3, 4), data);
  t.regex(refusal(one('[[1,2],[3]]', 'FP32', '[2,2]')), /takes 4 values, data has 3/);
  t.regex(refusal(one('[[1,2],[3,4,5]]', 'FP32', '[2,2]')), /takes 4 values, data has more/);
  t.regex(refusal(one(`${'['.repeat(101)}1${']'.repeat(101)}`)), /nested deeper than 100/);
  t.regex(refusal(one(`${'['.repeat(200_000)}`)), /not JSON: it is nested deeper than 100/);
  t.regex(refusal(one(`[${'{},'.repeat(1_000_000)}1]`)), /not JSON: it has more than 1000000 objects and arrays/);
  t.notRegex(refusal(one(`["${'[{'.repeat(1_000_000)}"]`)), /objects and arrays/, 'those in a string are its own');
  t.regex(refusal(one(`${'['.repeat(200_000)}NaN`)), /not JSON: it is nested deeper than 100/);
});

test('FP16 and BF16 travel as bytes alone', (t) => {
  for (const type of ['FP16', 'BF16']) {
    t.regex(refusal(one('[1]', type)), /is not sent as JSON; send it as binary data/);
    const datatype = OIP_DATATYPES.get(type);
    if (datatype === undefined) throw new Error(type);
    const tensor = { name: 'x', datatype, shape: [2], data: Uint16Array.of(0x7e01, 0x8000), isBinary: true };
    const { body, headerLength } = bodyOf([tensor]);
    t.deepEqual(decode(body, headerLength).inputs[0]?.data, tensor.data);
    const response = { modelName: 'm', modelVersion: '1', id: '', outputs: [{ ...tensor, isBinary: false }] };
    t.throws(() => encodeResponse(response, 'bare'), { message: /ask for binary_data/ });
  }
});

test('BYTES are texts: their lengths must end where their data does, and what is no UTF-8 is refused', (t) => {
  const bytes = (...parts: (number | string)[]): Buffer =>
    Buffer.concat(
      parts.map((part) => {
        if (typeof part === 'string') return Buffer.from(part);
        const length = Buffer.alloc(4);
        length.writeUInt32LE(part);
        return length;
      }),
    );
  const read = (blob: Buffer, shape = '[2]'): string => {
    const json = `{"inputs":[{"name":"x","datatype":"BYTES","shape":${shape},"parameters":{"binary_data_size":${blob.length}}}]}`;
    return refusal(Buffer.concat([Buffer.from(json), blob]), String(json.length));
  };
  t.is(read(bytes(2, 'é', 0)), '');
  t.regex(read(bytes(2, 'é', 1)), /goes beyond the end/);
  t.regex(read(bytes(0xffffffff, 'abcdefgh')), /goes beyond the end/);
  t.regex(read(bytes(2, 'é', 0, 0)), /4 bytes are left/);
  t.regex(read(bytes(0)), /8 bytes at least/);
  t.regex(read(bytes(0), '[4294967296]'), /more values than can be served/);
  t.regex(read(Buffer.concat([bytes(1), Buffer.from([0xff]), bytes(0)])), /value 0 is not UTF-8/);
});

test('binary data and the header that announces it must agree to the byte', (t) => {
  const said = (size: unknown): string =>
    `{"inputs":[{"name":"x","datatype":"INT16","shape":[2],"parameters":{"binary_data_size":${JSON.stringify(size)}}}]}`;
  const send = (size: unknown, length: (bytes: number) => string | undefined, blob = Buffer.alloc(4)): string => {
    const head = Buffer.from(said(size));
    return refusal(Buffer.concat([head, blob]), length(head.length));
  };
  t.is(send(4, String), '');
  t.regex(
    send(4, () => undefined),
    /not JSON/,
  );
  t.regex(refusal(said(4)), /needs the header Inference-Header-Content-Length/);
  for (const length of ['-1', '1.5', 'x', '', '1e2', '99999999999999999999'])
    t.regex(
      send(4, () => length),
      /must be a whole number/,
      length,
    );
  t.regex(
    send(4, (bytes) => String(bytes + 5)),
    /the body has \d+ bytes/,
  );
  t.regex(
    send(4, (bytes) => String(bytes + 4)),
    /not JSON/,
  );
  t.regex(send(4, String, Buffer.alloc(5)), /1 bytes are left behind/);
  t.regex(send(5, String, Buffer.alloc(5)), /takes 4 bytes, there are 5/);
  t.regex(send(5, String), /binary_data_size 5 is more than the 4 bytes left/);
  for (const size of [-4, 1.5, '4', true, 2 ** 60]) t.regex(send(size, String), /binary_data_size/, String(size));
  t.true(isRaw('0') && isRaw('00') && !isRaw('10') && !isRaw(undefined));
});

test('names given twice, reserved parameters, and what belongs to other servers are refused', (t) => {
  const x = '{"name":"x","datatype":"FP32","shape":[1],"data":[1]}';
  t.regex(refusal(`{"inputs":[${x},${x}]}`), /input "x" is given twice/);
  t.regex(refusal(`{"inputs":[${x}],"outputs":[{"name":"y"},{"name":"y"}]}`), /output "y" is given twice/);
  t.regex(refusal(`{"inputs":[${x}],"parameters":{"triton_x":1}}`), /"triton_x" is reserved/);
  t.regex(refusal(`{"inputs":[${x}],"parameters":{"a":[1]}}`), /must be a string, a number or a boolean/);
  t.regex(
    refusal('{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"shared_memory_region":"r"}}]}'),
    /shared memory is not served/,
  );
  t.regex(
    refusal(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1],"parameters":{"binary_data_size":4}}]}`),
    /both data and binary_data_size/,
  );
  t.regex(refusal('{"inputs":[{"name":"x","datatype":"FP32","shape":[1]}]}'), /data is missing/);
  t.regex(refusal(`{"inputs":[${Array(257).fill(x).join()}]}`), /more than 256/);
  t.regex(refusal('[]'), /must be an object, got an array/);
  t.regex(refusal('{}'), /inputs are missing/);
  const { parameters, outputs, binaryOutputs } = decode(
    `{"inputs":[${x}],"outputs":[],"parameters":{"__proto__":1,"binary_data_output":true}}`,
  );
  t.is(parameters.get('__proto__'), 1);
  t.deepEqual([outputs, binaryOutputs], [undefined, true]);
});

/** A value, and JSON that says it, as clients of the protocol may write it. */
const written: fc.Arbitrary<readonly [unknown, string]> = fc.letrec<{ any: readonly [unknown, string] }>((tie) => ({
  any: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc
      .oneof(fc.bigInt(-(2n ** 63n), 2n ** 64n - 1n), fc.bigInt(2n ** 53n - 3n, 2n ** 53n + 3n))
      .map((big) => [Number.isSafeInteger(Number(big)) ? Number(big) : big, String(big)] as const),
    fc
      .oneof(fc.string(), fc.constantFrom('NaN', '-Infinity', '"NaN', '\\', '\\"12345678901234567890', '\ud800'))
      .map((text) => [text, JSON.stringify(text)] as const),
    fc
      .constantFrom(Number.NaN, Infinity, -Infinity, 0.1234567890123456, null, true)
      .map((word) => [word, String(word)] as const),
    fc
      .array(tie('any'))
      .map((all) => [all.map(([value]) => value), `[${all.map(([, text]) => text).join(' , ')}]`] as const),
    fc
      .uniqueArray(
        fc.tuple(fc.oneof(fc.string(), fc.constantFrom('__proto__', 'NaN', '9007199254740993')), tie('any')),
        {
          selector: ([name]) => name,
        },
      )
      .map(
        (all) =>
          [
            Object.fromEntries(all.map(([name, [value]]) => [name, value])),
            `{${all.map(([name, [, text]]) => `${JSON.stringify(name)} :${text}`).join()}}`,
          ] as const,
      ),
  ),
})).any;

test('what JSON says of 64 bits, NaN and the infinities is read so wherever it stands, and nothing else is', (t) => {
  t.notThrows(() =>
    fc.assert(
      fc.property(written, ([value, text]) => isDeepStrictEqual(parseOipJson(text), value)),
      runs,
    ),
  );
});

test('what looks like a number of 64 bits and is none is read as ever', (t) => {
  const body = '[9007199254740991,"12345678901234567890",NaN,123456789012345678901]';
  t.deepEqual(parseOipJson(body), [9_007_199_254_740_991, '12345678901234567890', Number.NaN, 123456789012345680000]);
  t.deepEqual(parseOipJson(`[${'1'.repeat(20_000_000)}]`), [Infinity], 'and however long it is');
});

test('JSON is read as JSON.parse does, whichever reader takes it', (t) => {
  const long = 9007199254740993n;
  fc.assert(
    fc.property(fc.json(), (json) => {
      const [, read] = parseOipJson(`[${long},${json}]`) as unknown[]; // The long number needs its mark.
      const plain = (_: string, value: unknown): unknown => (typeof value === 'bigint' ? Number(value) : value);
      return JSON.stringify(read, plain) === JSON.stringify(JSON.parse(json));
    }),
    runs,
  );
  t.is(parseOipJson('-9007199254740993'), -long);
  const fractions = '[0.12345678901234567, 1234567890123456.5]';
  t.deepEqual(parseOipJson(fractions), JSON.parse(fractions));
  for (const text of [
    '[1,]',
    '{"a":1,}',
    '[NaN',
    '[01]',
    '[1 2]',
    '{"a" NaN}',
    '"\u0001NaN',
    '[+NaN]',
    'NaN NaN',
    '{NaN:1}',
    '["\\x", NaN]',
    '["NaN',
    '{9007199254740993:1}',
    '[09007199254740993]',
    '[-NaN]',
    '[1NaN]',
    '[NaNNaN]',
    '[Infinity1]',
    '[-9007199254740993-9007199254740993]',
    '["a"9007199254740993]',
  ])
    t.throws(() => parseOipJson(text), { instanceOf: SyntaxError }, text);
});

test('JSON that came before says the same of other bytes, and lies are found as ever', (t) => {
  const known = new KnownHead();
  const head = (size: number, more = ''): Buffer =>
    Buffer.from(
      `{"id":"a"${more},"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":${size}}}]}`,
    );
  const read = (json: Buffer, ...values: number[]): OipRequest =>
    decodeRequest(
      Buffer.concat([json, Buffer.from(Float32Array.from(values).buffer)]),
      String(json.length),
      'bare',
      known,
    );
  t.deepEqual([...(read(head(8), 1, 2).inputs[0]?.data ?? [])], [1, 2]);
  const again = read(head(8), 3, 4);
  t.deepEqual([...(again.inputs[0]?.data ?? [])], [3, 4]);
  const length = String(head(8).length);
  t.deepEqual(
    again,
    decodeRequest(Buffer.concat([head(8), Buffer.from(Float32Array.of(3, 4).buffer)]), length, 'bare'),
  );
  t.throws(() => read(head(8), 3), { message: /more than the 4 bytes left/ });
  t.throws(() => read(head(8), 3, 4, 5), { message: /4 bytes are left behind/ });
  t.throws(() => read(head(4), 3), { message: /takes 8 bytes, there are 4/ });
  t.throws(() => read(head(4), 3), { message: /takes 8 bytes, there are 4/ }, 'what is refused is not known');
  t.is(read(head(8, ',"parameters":{"binary_data_output":true}'), 5, 6).binaryOutputs, true);
  t.is(read(head(8), 5, 6).binaryOutputs, false);
});
