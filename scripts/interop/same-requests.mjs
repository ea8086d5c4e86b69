// Requests that two servers with the same models must answer alike: those of pytriton_server.py.

const VALUES = {
  BOOL: [true, false, true],
  UINT8: [0, 1, 255],
  UINT16: [0, 1, 65535],
  UINT32: [0, 1, 4294967295],
  UINT64: [0, '9007199254740993', '18446744073709551615'],
  INT8: [-128, 0, 127],
  INT16: [-32768, 0, 32767],
  INT32: [-2147483648, 0, 2147483647],
  INT64: ['-9223372036854775808', '9007199254740993', '9223372036854775807'],
  FP32: [0.1, -0.5, 16777216],
  FP64: [0.1, 5e-324, -1.7976931348623157e308],
  BYTES: ['"grüße"', '""', '"a\\u0000b"'],
};
const BLOBS = {
  BOOL: Buffer.from([1, 0, 1]),
  INT64: Buffer.from(new BigInt64Array([-(2n ** 63n), 2n ** 53n + 1n, 2n ** 63n - 1n]).buffer),
  FP16: Buffer.from(new Uint16Array([0x8000, 0x7bff, 0x7c00]).buffer),
  FP32: Buffer.from(new Float32Array([0.1, Number.NaN, Number.NEGATIVE_INFINITY]).buffer),
  FP64: Buffer.from(new Float64Array([0.1, 5e-324, Number.NaN]).buffer),
  BYTES: Buffer.concat(['grüße', '', 'a\0b'].map((text) => lengthBefore(Buffer.from(text)))),
};
const BODY = 'the body says it too';
const INFER = '/v2/models/mirror_fp32/infer';
const HEAD_LENGTH = 'inference-header-content-length';

/** { what, method, path, headers, body, differs }; `differs` is why the answers are not the same, where they are not. */
export function sameRequests() {
  return [...plain(), ...asJson(), ...asBytes(), ...asClasses(), ...wrong(), ...lies()];
}

function plain() {
  const get = (what, path, differs) => ({ what, method: 'GET', path, headers: {}, body: '', differs });
  return [
    get('liveness', '/v2/health/live', BODY),
    get('readiness', '/v2/health/ready', BODY),
    get('the server', '/v2'),
    get('a model', '/v2/models/mirror_fp32'),
    get('a version of a model', '/v2/models/mirror_fp32/versions/1'),
    get('a model is ready', '/v2/models/mirror_fp32/ready', BODY),
    get('a configuration', '/v2/models/mirror_fp32/config'),
    get('statistics', '/v2/models/mirror_fp32/stats'),
    get('statistics of all', '/v2/models/stats'),
    get('no model', '/v2/models/none'),
    get('no version', '/v2/models/mirror_fp32/versions/9'),
    get('no model is not ready', '/v2/models/none/ready', 'that model is none, which is more than not ready'),
    get('no path', '/v2/nothing'),
    get('inference by GET', INFER),
    { ...get('the index', '/v2/repository/index'), method: 'POST' },
    get('shared memory', '/v2/systemsharedmemory/status'),
    get('model-version latest', '/v2/models/mirror_fp32/versions/latest', 'Flink sends it'),
  ];
}

function asJson() {
  return [
    ...Object.keys(VALUES).map((name) => infer(`${name} as JSON`, request(name), `mirror_${name.toLowerCase()}`)),
    infer('nested data', request('FP32', { data: '[[1, 2, 3], [4, 5, 6]]', shape: '[2, 3]' })),
    infer('nested otherwise', request('FP32', { data: '[[[1], [2]], 3]' })),
    infer('id and parameters', `{"id": "a7", "parameters": {"own": 1}, ${request('FP32').slice(1)}`),
    infer('priority and timeout', `{"parameters": {"priority": 1, "timeout": 5000000}, ${request('FP32').slice(1)}`),
    infer('outputs not named', request('FP32', { outputs: '' })),
    infer('an empty list of outputs', request('FP32', { outputs: ', "outputs": []' })),
    infer('NaN and Infinity as bare words', request('FP32', { data: '[NaN, Infinity, -Infinity]' })),
    infer(
      '32 rows',
      request('FP32', { shape: '[32, 3]', data: JSON.stringify(Array.from({ length: 96 }, (_, at) => at / 8)) }),
    ),
  ];
}

function asBytes() {
  const all = Object.keys(BLOBS).map((name) => packed(`${name} as bytes`, name, BLOBS[name], { isOut: true }));
  const empty = lengthBefore(Buffer.alloc(0));
  return [
    ...all,
    packed('bytes in, JSON out', 'INT64', BLOBS.INT64, { isOut: false }),
    packed('binary_data_output', 'FP32', BLOBS.FP32, {
      parameters: '"parameters": {"binary_data_output": true}, ',
      outputs: '',
    }),
    packed('three empty texts', 'BYTES', Buffer.concat([empty, empty, empty]), { isOut: true }),
    { ...infer('a body without JSON', ''), headers: { [HEAD_LENGTH]: '0' }, body: BLOBS.FP32 },
  ];
}

function asClasses() {
  const one = (what, name, data, count, differs, more = '') =>
    infer(
      what,
      request(name, {
        data,
        shape: `[${data.split(',').length / 3}, 3]`,
        outputs: `, "outputs": [{"name": "out_${name}", "parameters": {"classification": ${count}${more}}}]`,
      }),
      `mirror_${name.toLowerCase()}`,
      differs,
    );
  const floats = '[0.0078125, 1e30, -2.5, -0.0, 3e-7, 0.0234375]';
  return [
    one('classes of FP32', 'FP32', floats, 2),
    one('classes of FP64', 'FP64', '[1e300, 1e21, 5e-324, 0.9999995, -1e-9, -0.0078125]', 3),
    one('classes as bytes', 'FP32', floats, 3, undefined, ', "binary_data": true'),
    ...['UINT8', 'UINT16', 'UINT32', 'INT8', 'INT16', 'INT32'].map((name) =>
      one(`classes of ${name}`, name, '[3, 127, 0]', 2),
    ),
    one('classes of UINT64', 'UINT64', '[1, 18446744073709551615, 9007199254740993]', 2),
    one('classes of INT64', 'INT64', '[-9223372036854775808, 9223372036854775807, 0]', 3),
    one('classes of equal values', 'FP32', '[1, 1, 1]', 2),
    one('more classes than values', 'FP32', '[1, 2, 3]', 9),
    one('0 classes', 'FP32', '[1, 2, 3]', 0),
    one('-1 classes', 'FP32', '[1, 2, 3]', -1),
    one('1.5 classes', 'FP32', '[1, 2, 3]', 1.5),
    one('classes by a word', 'FP32', '[1, 2, 3]', '"2"'),
    one('classes of BOOL', 'BOOL', '[true, false, true]', 2),
    // Of BYTES it is not asked: Triton 2.51 refuses it and ends.
  ];
}

function wrong() {
  return [
    infer('no JSON', '{'),
    infer('JSON and more behind it', `${request('FP32')} x`),
    infer('an empty body', ''),
    infer('an array', '[]'),
    infer('no inputs', '{}'),
    infer('an empty list of inputs', '{"inputs": []}'),
    infer('an input of another name', request('FP32').replace('"name": "FP32"', '"name": "z"')),
    infer('an input twice', request('FP32').replace(/"inputs": \[(.*?)\], "outputs"/, '"inputs": [$1, $1], "outputs"')),
    infer('another datatype', request('FP32').replace('"datatype": "FP32"', '"datatype": "FP64"')),
    infer('no datatype of the protocol', request('FP32').replace('"datatype": "FP32"', '"datatype": "FLOAT"')),
    infer('another shape', request('FP32', { shape: '[1, 2]', data: '[1, 2]' })),
    infer('a negative dimension', request('FP32', { shape: '[-1, 3]' })),
    infer('a dimension that is no whole number', request('FP32', { shape: '[1.5, 3]' })),
    infer('dimensions whose product overflows', request('FP32', { shape: '[4294967296, 4294967296]' })),
    infer('too few values', request('FP32', { data: '[1, 2]' })),
    infer('too many values', request('FP32', { data: '[1, 2, 3, 4]' })),
    infer('null among values', request('FP32', { data: '[1, null, 3]' })),
    infer('text among numbers', request('FP32', { data: '[1, "a", 3]' })),
    infer(
      'a whole number out of range',
      request('INT8', { data: '[1, 300, 3]' }),
      'mirror_int8',
      'Triton answers with 44 for 300',
    ),
    infer('a fraction for a whole number', request('INT32', { data: '[1, 1.5, 3]' }), 'mirror_int32'),
    infer('a negative number for UINT64', request('UINT64', { data: '[1, -1, 3]' }), 'mirror_uint64'),
    infer('FP16 as JSON', request('FP16', { data: '[1, 2, 3]' }), 'mirror_fp16'),
    infer('an output that is not there', request('FP32').replace('out_FP32', 'q')),
    infer('no data', '{"inputs": [{"name": "FP32", "shape": [1, 3], "datatype": "FP32"}]}'),
    infer('nesting of 200', request('FP32', { data: `${'['.repeat(200)}1${']'.repeat(200)}` })),
    infer('a reserved parameter', `{"parameters": {"triton_x": 1}, ${request('FP32').slice(1)}`),
    infer('a model that is not there', request('FP32'), 'none'),
    infer('no row', request('FP32', { shape: '[0, 3]', data: '[]' })),
    infer(
      'a tensor without its first dimension',
      request('FP32', { shape: '[3]' }),
      'mirror_fp32',
      'Flink may leave it out',
    ),
  ];
}

/** What the head says of the bytes behind it is not so. */
function lies() {
  const whole = packed('', 'FP32', BLOBS.FP32, { isOut: true });
  const length = Number(whole.headers[HEAD_LENGTH]);
  const lie = (what, headers, body = whole.body) => ({
    ...whole,
    what,
    headers: { ...whole.headers, ...headers },
    body,
  });
  const sized = (size) => packed('', 'FP32', BLOBS.FP32, { isOut: true, size });
  return [
    lie('a head longer than the body', { [HEAD_LENGTH]: '99999' }),
    lie('a head of negative length', { [HEAD_LENGTH]: '-1' }),
    lie('a head whose length is no number', { [HEAD_LENGTH]: 'x' }),
    lie('a head that ends too early', { [HEAD_LENGTH]: String(length - 1) }),
    lie('bytes left behind the tensors', {}, Buffer.concat([whole.body, Buffer.from([0])])),
    lie('bytes missing at the end', {}, whole.body.subarray(0, -1)),
    { ...sized(13), what: 'binary_data_size of one too many' },
    { ...sized(11), what: 'binary_data_size of one too few' },
    { ...sized(-1), what: 'a negative binary_data_size' },
    { ...sized('18446744073709551584'), what: 'binary_data_size 2^64 - 32' },
    packed(
      'the length of a text beyond the end',
      'BYTES',
      Buffer.from([3, 0, 0, 0, 97, 97, 97, 255, 255, 255, 255, 0, 0, 0, 0]),
      { isOut: true },
    ),
    packed(
      'one text too few',
      'BYTES',
      Buffer.concat([lengthBefore(Buffer.from('a')), lengthBefore(Buffer.from('b'))]),
      { isOut: true },
    ),
    { ...infer('binary_data_size without a head', whole.body.subarray(0, length)) },
  ];
}

function request(name, { shape = '[1, 3]', data, outputs = `, "outputs": [{"name": "out_${name}"}]` } = {}) {
  const values = data ?? `[${VALUES[name].join(', ')}]`;
  return `{"inputs": [{"name": "${name}", "shape": ${shape}, "datatype": "${name}", "data": ${values}}]${outputs}}`;
}

function infer(what, body, model = 'mirror_fp32', differs) {
  const headers = { 'content-type': 'application/json' };
  return { what, method: 'POST', path: `/v2/models/${model}/infer`, headers, body, differs };
}

function packed(what, name, blob, { isOut = false, parameters = '', outputs, size = blob.length }) {
  const wanted =
    outputs ?? `, "outputs": [{"name": "out_${name}"${isOut ? ', "parameters": {"binary_data": true}' : ''}}]`;
  const head = Buffer.from(
    `{${parameters}"inputs": [{"name": "${name}", "shape": [1, 3], "datatype": "${name}", "parameters": {"binary_data_size": ${size}}}]${wanted}}`,
  );
  return {
    what,
    method: 'POST',
    path: `/v2/models/mirror_${name.toLowerCase()}/infer`,
    headers: { 'content-type': 'application/octet-stream', [HEAD_LENGTH]: String(head.length) },
    body: Buffer.concat([head, blob]),
    differs: undefined,
  };
}

function lengthBefore(bytes) {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(bytes.length);
  return Buffer.concat([length, bytes]);
}
