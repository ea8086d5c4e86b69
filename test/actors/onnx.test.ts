import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import {
  isTroupeError,
  type ActorDefinition,
  type Column,
  type Columns,
  type ErrorCode,
  type LoadContext,
  type Signature,
} from 'troupe';
import onnx from '../../actors/onnx.js';
import { encodeModel, identityModel, mlpModel, type Dim, type ElementType } from '../fixtures/onnx-writer.js';

// The definition itself is the subject here, called as the child side calls it; pools around it are in test/e2e.

function modelDir(t: ExecutionContext, bytes?: Buffer): string {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'troupe-onnx-')));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  if (bytes !== undefined) writeFileSync(join(dir, 'model.onnx'), bytes);
  return dir;
}

function contextOf(dir: string | undefined, more: Partial<LoadContext> = {}): LoadContext {
  const { signal } = new AbortController();
  const plain = { version: '1', options: {}, device: 'auto', replica: 0, replicas: 2, maxBatchSize: 4 };
  return {
    pool: 'net',
    modelDir: dir,
    warmedUp: () => undefined,
    usesBytes: () => undefined,
    signal,
    ...plain,
    ...more,
  };
}

interface Loaded {
  readonly signature: Signature;
  readonly predict: (count: number, columns: Record<string, Column>) => Promise<Columns>;
  readonly call: (method: string) => unknown;
}

async function load(t: ExecutionContext, bytes: Buffer, more: Partial<LoadContext> = {}): Promise<Loaded> {
  const definition: ActorDefinition<unknown, unknown, unknown> = onnx as ActorDefinition<unknown, unknown, unknown>;
  const state = await definition.load?.(contextOf(modelDir(t, bytes), more));
  t.teardown(() => definition.unload?.(state));
  const signature = typeof definition.signature === 'function' ? definition.signature(state) : undefined;
  if (signature === undefined) throw new TypeError('expected the signature to be read from the state');
  const { signal } = new AbortController();
  return {
    signature,
    predict: (count, columns) =>
      definition.predict({ count, columns }, { state, signal, version: '1' }) as Promise<Columns>,
    call: (method) => definition.methods?.[method]?.(state),
  };
}

async function refusal(t: ExecutionContext, context: LoadContext): Promise<{ code: string; message: string }> {
  const error = await t.throwsAsync(async () => onnx.load?.(context));
  if (!isTroupeError(error)) throw error ?? new Error('nothing was thrown');
  t.true(error.message.includes('"net"'), `names the pool: ${error.message}`);
  return error;
}

test('the signature is read from the model: the batch dimension is left out, symbolic dimensions become -1', async (t) => {
  const { signature } = await load(t, identityModel('float32', ['n', 'length', 3]));
  t.deepEqual(signature, {
    inputs: [{ name: 'x', dtype: 'float32', shape: [-1, 3] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: [-1, 3] }],
  });
});

test('a network answers a batch with one row per record', async (t) => {
  const first = { weights: Float32Array.of(1, -1, 1, -1), bias: Float32Array.of(0, 0) };
  const second = { weights: Float32Array.of(1, 2), bias: Float32Array.of(0.5) };
  const { predict } = await load(t, mlpModel([first, second]));
  const x = Float32Array.of(1, 2, -3, 1, 0, 0);
  const { count, columns } = await predict(3, { x: { dtype: 'float32', shape: [2], data: x } });
  t.is(count, 3);
  t.deepEqual(columns['scores'], { dtype: 'float32', shape: [1], data: Float32Array.of(3.5, 4.5, 0.5) });
});

const samples: readonly (readonly [ElementType, Column['data']])[] = [
  ['float32', Float32Array.of(1.5, -2, 0, 4)],
  ['float64', Float64Array.of(1.5, -2, Math.PI, 4)],
  ['uint8', Uint8Array.of(0, 1, 254, 255)],
  ['int8', Int8Array.of(-128, -1, 0, 127)],
  ['uint16', Uint16Array.of(0, 1, 2, 65535)],
  ['int16', Int16Array.of(-32768, 0, 1, 32767)],
  ['uint32', Uint32Array.of(0, 1, 2, 4294967295)],
  ['int32', Int32Array.of(-2147483648, 0, 1, 2147483647)],
  ['uint64', BigUint64Array.of(0n, 1n, 2n, 18446744073709551615n)],
  ['int64', BigInt64Array.of(-9007199254740993n, 0n, 1n, 9007199254740993n)],
  ['bool', Uint8Array.of(0, 1, 1, 0)],
  ['float16', Uint16Array.of(0x3c00, 0xc000, 0, 0x4400)],
  ['string', ['', 'a', 'naïve 🎭', ' x\n']],
];

for (const [dtype, data] of samples) {
  test(`a tensor of dtype ${dtype} comes back as it went in`, async (t) => {
    const { signature, predict } = await load(t, identityModel(dtype, ['n', 2]));
    t.is(signature.inputs[0]?.dtype, dtype as never);
    const { columns } = await predict(2, { x: { dtype: dtype as Column['dtype'], shape: [2], data } });
    t.deepEqual(columns['y'], { dtype: dtype as Column['dtype'], shape: [2], data });
  });
}

test('a string with a NUL is refused, because the engine would cut it off', async (t) => {
  const { predict } = await load(t, identityModel('string', ['n', 1]));
  const data = ['whole', 'cut\0off'];
  const error = await t.throwsAsync(predict(2, { x: { dtype: 'string', shape: [1], data } }));
  t.true(isTroupeError(error) && error.code === 'INPUT_INVALID', String(error));
});

test('an input is read as a view with an offset into the memory of the batch', async (t) => {
  const { predict } = await load(t, identityModel('float32', ['n', 2]));
  const memory = Float32Array.of(9, 9, 1, 2, 3, 4, 9);
  const data = memory.subarray(2, 6);
  const { columns } = await predict(2, { x: { dtype: 'float32', shape: [2], data } });
  t.deepEqual(columns['y']?.data, Float32Array.of(1, 2, 3, 4));
});

test('input in shared memory is taken', async (t) => {
  const { predict } = await load(t, identityModel('float32', ['n', 2]));
  const data = new Float32Array(new SharedArrayBuffer(8));
  data.set([5, 6]);
  const { columns } = await predict(1, { x: { dtype: 'float32', shape: [2], data } });
  t.deepEqual(columns['y']?.data, Float32Array.of(5, 6));
});

test('a dimension that varies takes another size in each batch', async (t) => {
  const { predict } = await load(t, identityModel('int64', ['n', 'length']));
  for (const length of [1, 5, 2]) {
    const data = new BigInt64Array(2 * length).fill(7n);
    const { columns } = await predict(2, { x: { dtype: 'int64', shape: [length], data } });
    t.deepEqual(columns['y']?.shape, [length]);
  }
});

test('a batch without records has an answer without records', async (t) => {
  const { predict } = await load(t, identityModel('float32', ['n', 2]));
  const { count, columns } = await predict(0, { x: { dtype: 'float32', shape: [2], data: new Float32Array(0) } });
  t.is(count, 0);
  t.is(columns['y']?.data.length, 0);
});

const fixed: readonly (readonly [string, readonly Dim[]])[] = [
  ['fixed at 1', [1, 4]],
  ['fixed at 8', [8, 4]],
];
for (const [what, shape] of fixed) {
  test(`a model whose batch dimension is ${what} is refused with file and input`, async (t) => {
    const dir = modelDir(t, identityModel('float32', shape));
    const error = await refusal(t, contextOf(dir));
    t.is(error.code, 'SIGNATURE_MISMATCH');
    t.true(error.message.includes(join(dir, 'model.onnx')), error.message);
    t.true(error.message.includes('input "x"'), error.message);
  });
}

test('a model with a scalar input is refused', async (t) => {
  const error = await refusal(t, contextOf(modelDir(t, identityModel('float32', []))));
  t.is(error.code, 'SIGNATURE_MISMATCH');
  t.regex(error.message, /input "x" is a scalar/);
});

test('a model with an unsupported dtype is refused with the dtype', async (t) => {
  const bytes = encodeModel({
    inputs: [{ name: 'x', type: 'bfloat16', shape: ['n'] }],
    outputs: [{ name: 'y', type: 'float32', shape: ['n'] }],
    nodes: [{ op: 'Cast', inputs: ['x'], outputs: ['y'], attributes: { to: 1 } }],
  });
  const error = await refusal(t, contextOf(modelDir(t, bytes)));
  t.is(error.code, 'SIGNATURE_MISMATCH');
  t.regex(error.message, /bfloat16/);
});

test('a model whose output loses the batch dimension is refused when it warms up', async (t) => {
  const bytes = encodeModel({
    inputs: [{ name: 'x', type: 'float32', shape: ['n', 2] }],
    outputs: [{ name: 'y', type: 'float32', shape: ['m', 1] }],
    nodes: [{ op: 'ReduceSum', inputs: ['x'], outputs: ['y'], attributes: { keepdims: 1 } }],
  });
  const error = await refusal(t, contextOf(modelDir(t, bytes)));
  t.is(error.code, 'SIGNATURE_MISMATCH');
  t.regex(error.message, /output "y"/);
});

test('a missing model file and a missing directory are MODEL_NOT_FOUND with the path', async (t) => {
  const dir = modelDir(t);
  for (const place of [dir, join(dir, 'nowhere')]) {
    const error = await refusal(t, contextOf(place));
    t.is(error.code, 'MODEL_NOT_FOUND');
    t.true(error.message.includes(join(place, 'model.onnx')), error.message);
  }
});

test('a pool without a model is told to set one', async (t) => {
  const error = await refusal(t, contextOf(undefined));
  t.is(error.code, 'MODEL_NOT_FOUND');
  t.regex(error.message, /set the option model/);
});

test('an empty file and garbage are MODEL_INVALID, a directory and a symlink loop MODEL_REFUSED, with the path', async (t) => {
  const garbage = Buffer.from(Uint8Array.from({ length: 4096 }, (_, index) => (index * 2654435761) >>> 13));
  const makers: readonly (readonly [ErrorCode, (file: string) => void])[] = [
    ['MODEL_INVALID', (file) => writeFileSync(file, '')],
    ['MODEL_INVALID', (file) => writeFileSync(file, garbage)],
    [
      'MODEL_INVALID',
      (file) => writeFileSync(file, 'version https://git-lfs.github.com/spec/v1\noid sha256:0000\nsize 12345\n'),
    ],
    ['MODEL_REFUSED', (file) => mkdirSync(file)],
    ['MODEL_REFUSED', (file) => symlinkSync(file, file)],
  ];
  for (const [code, make] of makers) {
    const dir = modelDir(t);
    const file = join(dir, 'model.onnx');
    make(file);
    const error = await refusal(t, contextOf(dir));
    t.is(error.code, code, error.message);
    t.true(error.message.includes(file), error.message);
  }
});

test('a model file cut off at any byte is MODEL_INVALID', async (t) => {
  const bytes = mlpModel([{ weights: Float32Array.of(1, 2, 3, 4), bias: Float32Array.of(0, 0) }]);
  const dir = modelDir(t, bytes);
  for (let length = bytes.length - 1; length > 0; length -= 3) {
    truncateSync(join(dir, 'model.onnx'), length);
    const error = await refusal(t, contextOf(dir));
    t.is(error.code, 'MODEL_INVALID', `cut to ${length} of ${bytes.length} bytes: ${error.message}`);
  }
});

const asRoot = process.getuid?.() === 0;
(asRoot ? test.skip : test)(
  'a model file that may not be read is MODEL_INVALID (root may read everything)',
  async (t) => {
    const dir = modelDir(t, identityModel('float32'));
    chmodSync(join(dir, 'model.onnx'), 0);
    const error = await refusal(t, contextOf(dir));
    t.is(error.code, 'MODEL_INVALID');
    t.regex(error.message, /not permitted/);
  },
);

test('without the engine the error names the command that installs it', async (t) => {
  // The compiled actor in a place of its own, where troupe is installed and the engine is not.
  const place = modelDir(t, identityModel('float32'));
  const actors = fileURLToPath(new URL('../../actors', import.meta.url));
  cpSync(actors, join(place, 'actors'), { recursive: true });
  writeFileSync(join(place, 'package.json'), '{"type":"module"}');
  mkdirSync(join(place, 'node_modules'));
  symlinkSync(fileURLToPath(new URL('../../..', import.meta.url)), join(place, 'node_modules', 'troupe'));
  const module = (await import(pathToFileURL(join(place, 'actors', 'onnx.js')).href)) as { default: typeof onnx };
  const error = await t.throwsAsync(async () => module.default.load?.(contextOf(place)));
  t.true(isTroupeError(error) && error.code === 'ENGINE_NOT_INSTALLED', String(error));
  t.regex(error?.message ?? '', /"net".*npm install onnxruntime-node/);
});

test('an unknown option and a wrong value are refused with pool, option, expectation and value', async (t) => {
  const dir = modelDir(t, identityModel('float32'));
  const cases: readonly (readonly [Record<string, unknown>, RegExp])[] = [
    [{ threads: 2 }, /Pool "net": actor onnx has no option "threads"; it has intraOpThreads/],
    [{ intraOpThreads: 0 }, /option intraOpThreads .* whole number from 1, got 0/],
    [{ allowSpinning: 'no' }, /option allowSpinning .* got "no"/],
    [{ graphOptimization: 'most' }, /one of disabled, basic, extended, all, got "most"/],
    [{ warmUp: [1, 99] }, /option warmUp .* from 1 to 4, got \[1,99\]/],
  ];
  for (const [options, message] of cases) {
    await t.throwsAsync(async () => onnx.load?.(contextOf(dir, { options })), { instanceOf: TypeError, message });
  }
});

test('a device that is no CPU is refused', async (t) => {
  const error = await refusal(t, contextOf(modelDir(t, identityModel('float32')), { device: 'gpu:0' }));
  t.regex(error.message, /must be auto or cpu, got gpu:0/);
});

test('cores are divided among the replicas, and no replica has less than one thread', async (t) => {
  const { call } = await load(t, identityModel('float32'), { replicas: 2 });
  t.like(call('describe'), {
    intraOpThreads: Math.max(1, Math.floor(availableParallelism() / 2)),
    allowSpinning: false,
  });
  const many = await load(t, identityModel('float32'), { replicas: 1000 });
  t.like(many.call('describe'), { intraOpThreads: 1 });
});

test('the warm-up runs sizes 1, 2, 4 up to the largest batch, or those asked for, or none', async (t) => {
  const bytes = identityModel('float32');
  const sizes = async (options: Record<string, unknown>, maxBatchSize: number): Promise<unknown> =>
    ((await load(t, bytes, { options, maxBatchSize })).call('describe') as { warmUpSizes: unknown }).warmUpSizes;
  t.deepEqual(await sizes({}, 6), [1, 2, 4, 6]);
  t.deepEqual(await sizes({}, 1), [1]);
  t.deepEqual(await sizes({ warmUp: [3, 1] }, 6), [1, 3]);
  t.deepEqual(await sizes({ warmUp: false }, 6), []);
});

test('a load that is given up while it warms up rejects', async (t) => {
  const aborted = new AbortController();
  aborted.abort();
  const context = contextOf(modelDir(t, identityModel('float32')), { signal: aborted.signal });
  const reason: unknown = await Promise.resolve(onnx.load?.(context)).catch((error: unknown) => error);
  t.is((reason as Error).name, 'AbortError');
});

test('unload waits for the runs that have begun, and every one of them is answered', async (t) => {
  const definition: ActorDefinition<unknown, unknown, unknown> = onnx as ActorDefinition<unknown, unknown, unknown>;
  const state = await definition.load?.(contextOf(modelDir(t, identityModel('float32', ['n', 2]))));
  const { signal } = new AbortController();
  const batch = (value: number): Columns => ({
    count: 1,
    columns: { x: { dtype: 'float32', shape: [2], data: Float32Array.of(value, value) } },
  });
  const answers = [1, 2, 3].map(
    (value) => definition.predict(batch(value), { state, signal, version: '1' }) as Promise<Columns>,
  );
  await definition.unload?.(state);
  const values = (await Promise.all(answers)).map(({ columns }) => columns['y']?.data[0]);
  t.deepEqual(values, [1, 2, 3]);
});
