import { linkSync, mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ErrorCode, isTroupeError } from 'troupe';
import { createShell } from '../../src/entry/shell.js';
import { runWarmUps, type WarmUpRun } from '../../src/entry/warm-up.js';
import { seededRandom } from '../../src/kernel/random.js';
import type { ActorDefinition } from '../../src/wire/definition.js';
import { type HostLane, STATE_WORD_COUNT } from '../../src/wire/messages.js';
import type { Columns, DType, TensorSpec } from '../../src/wire/tensor.js';
import type { WarmUp, WarmUpInput } from '../../src/wire/warm-up.js';
import { makeTree } from '../models/model-tree.js';

/** A model of these inputs and one output, whose batches are kept; `run` takes warm-ups. */
function modelOf(inputs: readonly TensorSpec[], more: Partial<WarmUpRun> = {}) {
  const seen: Columns[] = [];
  const costs: (readonly [number, number])[] = [];
  const definition: ActorDefinition = {
    predict(batch: Columns) {
      seen.push(batch);
      const data = new Float32Array(batch.count);
      return { count: batch.count, columns: { y: { dtype: 'float32', shape: [], data } } };
    },
  };
  const run: WarmUpRun = {
    definition,
    signature: { inputs, outputs: [{ name: 'y', dtype: 'float32', shape: [] }] },
    context: { state: undefined, signal: new AbortController().signal, version: '1' },
    modelDir: undefined,
    maxBatchSize: 16,
    where: { actor: 'p' },
    noteCost: (size, ms) => costs.push([size, ms]),
    inTurn: async (turn) => await turn(),
    ...more,
  };
  return { seen, costs, run: (...warmUps: WarmUp[]) => runWarmUps(warmUps, run, seededRandom(7)) };
}

const warmUp = (inputs: readonly WarmUpInput[], more: Partial<WarmUp> = {}): WarmUp => {
  const place = { name: 'w', file: '/m/config.pbtxt', at: { line: 1, col: 1 } };
  return { ...place, batchSize: 1, count: 1, mayHoldBatch: false, inputs, ...more };
};
const input = (dtype: DType, dims: readonly number[], from: WarmUpInput['from']): WarmUpInput => {
  return { name: 'x', dtype, dims, from };
};
const spec = (dtype: DType, shape: readonly number[]): TensorSpec => ({ name: 'x', dtype, shape });

async function rejects(t: ExecutionContext, run: Promise<void>, code: ErrorCode, message: RegExp): Promise<void> {
  const error = await t.throwsAsync(run, { message });
  t.true(isTroupeError(error) && error.code === code, String(error));
  t.true(error?.message.startsWith('model_warmup "w" (/m/config.pbtxt:1:1)'), error?.message);
}

test('predict is called as often as asked, with batches of the size that was asked, in memory of their own', async (t) => {
  const { seen, run, costs } = modelOf([spec('float32', [-1, 3])]);
  await run(warmUp([input('float32', [2, 3], 'zeros')], { batchSize: 4, count: 3 }));
  t.deepEqual(
    seen.map(({ count }) => count),
    [4, 4, 4],
  );
  t.deepEqual({ ...seen[0]?.columns }, { x: { dtype: 'float32', shape: [2, 3], data: new Float32Array(24) } });
  t.not(seen[0]?.columns['x']?.data, seen[1]?.columns['x']?.data);
  t.deepEqual(
    costs.map(([size]) => size),
    [4, 4],
    'the first run of a size pays for its memory and is not what it costs',
  );
});

test('of a decoupled signature every stream is read to its end, and its pieces are held against the outputs', async (t) => {
  const outputs = [spec('float32', [])];
  const signature = { inputs: outputs, outputs, decoupled: true };
  const pieces: number[] = [];
  const zeros = warmUp([input('float32', [1], 'zeros')], { batchSize: 2, count: 1 });
  async function* streamOf(index: number, last: object): AsyncGenerator<object> {
    yield { x: 1 };
    pieces.push(index);
    yield last;
  }
  const running = (piece: object): Promise<void> => {
    const predict = ({ count }: Columns): unknown[] =>
      Array.from({ length: count }, (_, index) => streamOf(index, piece));
    return modelOf(outputs, { signature, definition: { predict } }).run(zeros);
  };
  await running({ x: 2 });
  t.deepEqual(pieces, [0, 1]);
  await rejects(t, running({ y: 2 }), 'ACTOR_LOAD_FAILED', /output "x" is missing/);
  const none = modelOf(outputs, { signature, definition: { predict: () => 7 } });
  await rejects(t, none.run(zeros), 'ACTOR_LOAD_FAILED', /must return an async iterable/);
});

test('the first run of a size is no cost, whichever warm-up it belongs to', async (t) => {
  const { run, costs } = modelOf([spec('float32', [])]);
  const zeros = [input('float32', [1], 'zeros')];
  await run(warmUp(zeros, { batchSize: 2 }), warmUp(zeros, { batchSize: 8 }), warmUp(zeros, { batchSize: 2 }));
  t.deepEqual(
    costs.map(([size]) => size),
    [2],
  );
});

test('no batch is larger than the pool lets them be', async (t) => {
  const { seen, run } = modelOf([spec('float32', [])], { maxBatchSize: 3 });
  await run(warmUp([input('float32', [1], 'zeros')], { batchSize: 8 }));
  t.is(seen[0]?.count, 3);
  t.is(seen[0]?.columns['x']?.data.length, 3);
});

test('where the model has no max_batch_size the dims may begin with the records', async (t) => {
  const { seen, run } = modelOf([spec('int32', [2])]);
  await run(warmUp([input('int32', [5, 2], 'zeros')], { mayHoldBatch: true }));
  t.is(seen[0]?.count, 5);
  t.deepEqual(seen[0]?.columns['x'], { dtype: 'int32', shape: [2], data: new Int32Array(10) });
  const two = modelOf([spec('int32', [2]), { name: 'z', dtype: 'int32', shape: [] }]);
  const other = { name: 'z', dtype: 'int32', dims: [4], from: 'zeros' } as const;
  const inputs = [input('int32', [5, 2], 'zeros'), other];
  await rejects(t, two.run(warmUp(inputs, { mayHoldBatch: true })), 'SIGNATURE_MISMATCH', /hold 5 records and 4/);
});

test('many random numbers are made in turns, so that who stops the replica is heard meanwhile', async (t) => {
  const stop = new AbortController();
  const { signal } = stop;
  let drawn = 0;
  const random = (): number => {
    if (++drawn === 1) setImmediate(() => stop.abort());
    return 0.5;
  };
  const inputs = [spec('uint8', [2 ** 22])];
  const run: WarmUpRun = {
    definition: { predict: () => t.fail('it was stopped before') },
    signature: { inputs, outputs: [] },
    context: { state: undefined, signal, version: '1' },
    modelDir: undefined,
    maxBatchSize: 1,
    where: { actor: 'p' },
    noteCost: () => {},
    inTurn: async (turn) => await turn(),
  };
  const ended = runWarmUps([warmUp([input('uint8', [2 ** 22], 'random')])], run, random);
  const error = await t.throwsAsync(ended, { message: /stopped while it warmed up/ });
  t.true(isTroupeError(error) && error.code === 'CANCELLED');
  t.true(drawn < 2 ** 22, `${drawn} numbers`);
});

test('random data are numbers that the type has, and not all the same', async (t) => {
  const dtypes = [
    'uint8',
    'uint16',
    'uint32',
    'uint64',
    'int8',
    'int16',
    'int32',
    'int64',
    'float32',
    'float64',
  ] as const;
  for (const dtype of dtypes) {
    const { seen, run } = modelOf([spec(dtype, [64])]);
    await run(warmUp([input(dtype, [64], 'random')], { batchSize: 2 }));
    const data = [...(seen[0]?.columns['x']?.data ?? [])];
    t.is(data.length, 128);
    t.true(new Set(data).size > 32, dtype);
    if (dtype.startsWith('float')) t.true(data.every((value) => Number(value) >= 0 && Number(value) < 1));
    if (dtype.startsWith('int'))
      t.true(
        data.some((value) => Number(value) < 0),
        `${dtype} has both signs`,
      );
  }
  const bool = modelOf([spec('bool', [64])]);
  await bool.run(warmUp([input('bool', [64], 'random')]));
  t.deepEqual(new Set(bool.seen[0]?.columns['x']?.data as Uint8Array), new Set([0, 1]));
  const half = modelOf([spec('float16', [64])]);
  await half.run(warmUp([input('float16', [64], 'random')]));
  t.true(
    [...(half.seen[0]?.columns['x']?.data ?? [])].every((bits) => Number(bits) < 0x3c00),
    'bits of 0 to 1',
  );
  const text = modelOf([spec('string', [2])]);
  await text.run(warmUp([input('string', [2], 'random')], { batchSize: 2 }));
  t.deepEqual(text.seen[0]?.columns['x']?.data, ['', '', '', ''], 'texts are empty, as in Triton');
});

test('a file is one record, which every record of the batch repeats', async (t) => {
  const values = Buffer.from(new Float32Array([1.5, -2, 3]).buffer);
  const texts = Buffer.concat([lengthOf('ab'), Buffer.from('ab'), lengthOf(''), lengthOf('ü'), Buffer.from('ü')]);
  const dir = makeTree(t, { 'net/1/m': '', 'net/warmup/x.bin': values, 'net/warmup/below/t.bin': texts });
  const modelDir = path.join(dir, 'net/1');
  const numbers = modelOf([spec('float32', [3])], { modelDir });
  await numbers.run(warmUp([input('float32', [3], { file: 'x.bin' })], { batchSize: 2 }));
  t.deepEqual(numbers.seen[0]?.columns['x']?.data, new Float32Array([1.5, -2, 3, 1.5, -2, 3]));
  const words = modelOf([spec('string', [-1])], { modelDir });
  await words.run(warmUp([input('string', [3], { file: 'below/t.bin' })], { batchSize: 2 }));
  t.deepEqual(words.seen[0]?.columns['x'], { dtype: 'string', shape: [3], data: ['ab', '', 'ü', 'ab', '', 'ü'] });
  const whole = modelOf([spec('float32', [])], { modelDir });
  await whole.run(warmUp([input('float32', [3], { file: 'x.bin' })], { mayHoldBatch: true }));
  t.deepEqual(whole.seen[0]?.columns['x'], { dtype: 'float32', shape: [], data: new Float32Array([1.5, -2, 3]) });
});

function lengthOf(text: string): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(Buffer.byteLength(text));
  return bytes;
}

test('a file that is not there, too long, too short or not what it should be fails the load and says which', async (t) => {
  const dir = makeTree(t, {
    'net/1/m': '',
    'net/warmup/long.bin': Buffer.alloc(13),
    'net/warmup/short.bin': Buffer.alloc(3),
    'net/warmup/lies.bin': Buffer.from([255, 255, 255, 255, 1]),
    'net/warmup/latin.bin': Buffer.from([1, 0, 0, 0, 0xff]),
    'net/warmup/rest.bin': Buffer.from([0, 0, 0, 0, 0]),
  });
  const modelDir = path.join(dir, 'net/1');
  const numbers = modelOf([spec('float32', [3])], { modelDir });
  const texts = modelOf([spec('string', [1])], { modelDir });
  const file = (name: string, dtype: DType): WarmUp =>
    warmUp([input(dtype, dtype === 'string' ? [1] : [3], { file: name })]);
  const { run } = numbers;
  await rejects(
    t,
    run(file('none.bin', 'float32')),
    'MODEL_NOT_FOUND',
    /making input "x" failed: There is no file .*none.bin/,
  );
  await rejects(t, run(file('long.bin', 'float32')), 'MODEL_INVALID', /13 bytes, its data_type and dims take 12/);
  await rejects(t, run(file('short.bin', 'float32')), 'MODEL_INVALID', /3 bytes, its data_type and dims take 12/);
  await rejects(t, texts.run(file('short.bin', 'string')), 'MODEL_INVALID', /ends within text 0 of 1/);
  await rejects(t, texts.run(file('lies.bin', 'string')), 'MODEL_INVALID', /ends within text 0 of 1/);
  await rejects(t, texts.run(file('latin.bin', 'string')), 'MODEL_INVALID', /text 0 of 1 is not UTF-8/);
  await rejects(t, texts.run(file('rest.bin', 'string')), 'MODEL_INVALID', /1 bytes are left behind 1 texts/);
  t.deepEqual([numbers.seen, texts.seen], [[], []], 'nothing ran');
});

test('a file is read from the directory warmup of the model and from nowhere else', async (t) => {
  const dir = makeTree(t, {
    'secret.bin': Buffer.alloc(4),
    'net/1/m': '',
    'net/warmup/own.bin': Buffer.alloc(4),
    'far/1/m': '',
  });
  const warmup = path.join(dir, 'net/warmup');
  symlinkSync('../../secret.bin', path.join(warmup, 'link.bin'));
  linkSync(path.join(dir, 'secret.bin'), path.join(warmup, 'hard.bin'));
  mkdirSync(path.join(warmup, 'dir.bin'));
  symlinkSync(warmup, path.join(dir, 'far/warmup'));
  const { run } = modelOf([spec('float32', [])], { modelDir: path.join(dir, 'net/1') });
  const of = (name: string): WarmUp => warmUp([input('float32', [1], { file: name })]);
  await run(of('own.bin'));
  await rejects(t, run(of('link.bin')), 'MODEL_REFUSED', /symbolic link/);
  await rejects(t, run(of('hard.bin')), 'MODEL_REFUSED', /hard links/);
  await rejects(t, run(of('dir.bin')), 'MODEL_REFUSED', /a directory/);
  await rejects(t, run(of('../1/m')), 'MODEL_REFUSED', /leads out of the directory/);
  const far = modelOf([spec('float32', [])], { modelDir: path.join(dir, 'far/1') });
  await rejects(t, far.run(of('own.bin')), 'MODEL_REFUSED', /behind a symbolic link/);
});

test('a warm-up that does not fit the model says what differs', async (t) => {
  const { run, seen } = modelOf([spec('float32', [2]), { name: 'mask', dtype: 'bool', shape: [-1] }]);
  const mask = { name: 'mask', dtype: 'bool', dims: [4], from: 'zeros' } as const;
  const x = input('float32', [2], 'zeros');
  const wrong = 'SIGNATURE_MISMATCH';
  await rejects(t, run(warmUp([x])), wrong, /its input "mask" is not given/);
  await rejects(t, run(warmUp([x, mask, { ...mask, name: 'z' }])), wrong, /no input "z", but "x", "mask"/);
  await rejects(
    t,
    run(warmUp([input('float64', [2], 'zeros'), mask])),
    wrong,
    /"x" is float32, the warm-up has float64/,
  );
  await rejects(t, run(warmUp([input('float32', [3], 'zeros'), mask])), wrong, /float32\[2\], the warm-up has \[3\]/);
  await rejects(t, run(warmUp([input('float32', [1, 2], 'zeros'), mask])), wrong, /the warm-up has \[1,2\]/);
  t.is(seen.length, 0);
});

test('a predict that throws or answers wrongly fails the load with the run it was in', async (t) => {
  let count = 0;
  const thrower = modelOf([spec('float32', [])], {
    definition: {
      predict(batch: Columns) {
        if (++count === 2) throw new Error('out of memory');
        return {
          count: batch.count,
          columns: { y: { dtype: 'float32', shape: [], data: new Float32Array(batch.count) } },
        };
      },
    },
  });
  const zeros = warmUp([input('float32', [1], 'zeros')], { batchSize: 2, count: 3 });
  await rejects(t, thrower.run(zeros), 'ACTOR_LOAD_FAILED', /run 2 of 3 with 2 records failed: out of memory/);
  const liar = modelOf([spec('float32', [])], { definition: { predict: () => ({ count: 1, columns: {} }) } });
  await rejects(
    t,
    liar.run(zeros),
    'ACTOR_LOAD_FAILED',
    /run 1 of 3 with 2 records failed: predict was given 2 records/,
  );
});

test('a replica that is to stop ends its warm-up between two runs', async (t) => {
  const controller = new AbortController();
  let count = 0;
  const { run } = modelOf([spec('float32', [])], {
    context: { state: undefined, signal: controller.signal, version: undefined },
    definition: {
      predict(batch: Columns) {
        if (++count === 3) controller.abort();
        return {
          count: batch.count,
          columns: { y: { dtype: 'float32', shape: [], data: new Float32Array(batch.count) } },
        };
      },
    },
  });
  const error = await t.throwsAsync(run(warmUp([input('float32', [1], 'zeros')], { count: 2 ** 32 - 1 })));
  t.true(isTroupeError(error) && error.code === 'CANCELLED');
  t.is(count, 3);
});

test('what the runs took is told with what was loaded, of each size once', async (t) => {
  const inputs = [spec('float32', [])];
  const zeros = [input('float32', [1], 'zeros')];
  const lane: HostLane = { post: () => undefined, copy: (value) => value };
  const shell = createShell(lane, new Int32Array(STATE_WORD_COUNT));
  const actor: ActorDefinition = {
    signature: { inputs, outputs: [{ name: 'y', dtype: 'float32', shape: [] }] },
    load: ({ warmedUp }) => warmedUp(4, 99_999),
    predict: (batch: Columns) => {
      const data = new Float32Array(batch.count);
      return { count: batch.count, columns: { y: { dtype: 'float32', shape: [], data } } };
    },
  };
  const answer = await shell.start({
    pool: 'p',
    replica: 0,
    replicas: 1,
    incarnation: 0,
    actor,
    modelDir: undefined,
    version: '1',
    options: {},
    device: 'cpu',
    maxBatchSize: 8,
    warmUps: [
      warmUp(zeros, { batchSize: 1 }),
      warmUp(zeros, { batchSize: 8, count: 4 }),
      warmUp(zeros, { batchSize: 4, count: 2 }),
    ],
  });
  const costs = answer.ok ? answer.value.costs : [];
  t.deepEqual(
    costs.map(([size]) => size),
    [4, 8],
    'of a single run nothing is known',
  );
  t.true(
    costs.every(([, ms]) => ms >= 0 && ms < 99_999),
    'what was measured last goes before what load said',
  );
  await shell.stop(false, 0);
});
