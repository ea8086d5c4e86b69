import { linkSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { type ActorDefinition, type Columns, type ErrorCode, isTroupeError, type LoadContext } from 'troupe';
import onnx from '../../actors/onnx.js';
import { ScanError, scanModel } from '../../actors/onnx/scan.js';
import { beginRow } from '../e2e/row-report.js';
import { fuzzOf, sizes } from '../e2e/sizes.js';
import { type ExternalTensor, externalModel, mlpModel, type TensorPlace } from '../fixtures/onnx-writer.js';
import { makeTree } from '../models/model-tree.js';

/** 64 times 5, as the tensor w of the model wants it. */
const SIZE = 64;
const weights = Buffer.from(new Float32Array(SIZE).fill(5).buffer);
const tensor = (entries: ExternalTensor['entries'], more: Partial<ExternalTensor> = {}): ExternalTensor => ({
  name: 'w',
  dims: [SIZE],
  entries,
  ...more,
});
const at = (location: string, ...more: ExternalTensor['entries']): ExternalTensor =>
  tensor([['location', location], ...more]);

function contextOf(modelDir: string, more: Partial<LoadContext> = {}): LoadContext {
  const { signal } = new AbortController();
  const plain = { version: '1', options: {}, device: 'auto', replica: 0, replicas: 2, maxBatchSize: 2 };
  return { pool: 'net', modelDir, warmedUp: () => undefined, usesBytes: () => undefined, signal, ...plain, ...more };
}

async function answer(context: LoadContext): Promise<number> {
  const definition: ActorDefinition<unknown, unknown, unknown> = onnx as ActorDefinition<unknown, unknown, unknown>;
  const state = await definition.load?.(context);
  const columns = { x: { dtype: 'float32' as const, shape: [SIZE], data: new Float32Array(SIZE).fill(2) } };
  const { signal } = context;
  const result = (await definition.predict({ count: 1, columns }, { state, signal, version: '1' })) as Columns;
  await definition.unload?.(state);
  return result.columns['y']?.data[0] as number;
}

test('a model whose tensors lie in files beside it runs, also in a directory below and with offsets', async (t) => {
  const two = Buffer.concat([Buffer.alloc(4096), weights]);
  const dir = makeTree(t, { 'net/1/model.onnx': externalModel(at('w.bin')), 'net/1/w.bin': weights });
  t.is(await answer(contextOf(path.join(dir, 'net/1'))), 7);
  const below = externalModel(at('data/w', ['offset', '4096'], ['length', '256']));
  const other = makeTree(t, { 'net/1/model.onnx': below, 'net/1/data/w': two });
  t.is(await answer(contextOf(path.join(other, 'net/1'))), 7);
});

test('default_model_filename of config.pbtxt says which file is the model', async (t) => {
  const dir = makeTree(t, { 'net/1/best.onnx': externalModel(at('w.bin')), 'net/1/w.bin': weights });
  const modelConfig = { default_model_filename: 'best.onnx' };
  t.is(await answer(contextOf(path.join(dir, 'net/1'), { modelConfig })), 7);
  const error = await t.throwsAsync(
    answer(contextOf(path.join(dir, 'net/1'), { modelConfig: { default_model_filename: '../x' } })),
  );
  t.true(isTroupeError(error) && error.code === 'MODEL_REFUSED', String(error));
});

interface Case {
  readonly what: string;
  readonly tensor: ExternalTensor;
  readonly message: RegExp;
  readonly code?: ErrorCode;
}

const cases: readonly Case[] = [
  { what: 'the parent directory', tensor: at('../secret'), message: /leads out of the directory/ },
  { what: 'a way out from below', tensor: at('data/../../secret'), message: /leads out of the directory/ },
  { what: 'an absolute path', tensor: at('/etc/hostname'), message: /absolute path/ },
  { what: 'its own memory by /proc', tensor: at('/proc/self/mem'), message: /absolute path/ },
  { what: 'a way to /proc', tensor: at('../../../../../../proc/self/environ'), message: /leads out/ },
  { what: 'a Windows path', tensor: at('..\\secret'), message: /characters that are not for file names/ },
  { what: 'a drive', tensor: at('C:secret'), message: /characters that are not/ },
  { what: 'a NUL in the name', tensor: at('w.bin\0.txt'), message: /characters that are not/ },
  {
    what: "the engine's mark for memory",
    tensor: at('*/_ORT_MEM_ADDR_/*', ['offset', '140737488355328']),
    message: /characters that are not/,
  },
  { what: 'a path of 2,000 characters', tensor: at('a/'.repeat(1000)), message: /2000 characters/ },
  { what: 'the directory itself', tensor: at('.'), message: /empty parts/ },
  { what: 'no location', tensor: tensor([['offset', '0']]), message: /has no location/ },
  { what: 'nothing at all', tensor: tensor([]), message: /has no location/ },
  {
    what: 'two locations',
    tensor: tensor([
      ['location', 'w.bin'],
      ['location', '../secret'],
    ]),
    message: /says "location" twice/,
  },
  { what: 'a base path', tensor: at('w.bin', ['basepath', '/etc']), message: /has the key "basepath"/ },
  { what: 'a symbolic link', tensor: at('link'), message: /link is refused: it is a symbolic link/ },
  { what: 'a link in its own directory', tensor: at('inner'), message: /symbolic link/ },
  {
    what: 'a directory that is a link',
    tensor: at('outside/secret'),
    message: /outside\/secret is refused: it was replaced, or lies behind a symbolic link/,
  },
  { what: 'a file with a second name', tensor: at('hard'), message: /2 names/ },
  { what: 'a directory', tensor: at('data'), message: /it is a directory/ },
  {
    what: 'a file that is not there',
    tensor: at('none.bin'),
    message: /There is no file .*none\.bin/,
    code: 'MODEL_NOT_FOUND',
  },
  {
    what: 'an offset beyond the file',
    tensor: at('w.bin', ['offset', '4096']),
    message: /wants 256 bytes from 4096 of "w.bin", which has 256/,
  },
  { what: 'an offset that leaves too little', tensor: at('w.bin', ['offset', '1']), message: /wants 256 bytes from 1/ },
  { what: 'a negative offset', tensor: at('w.bin', ['offset', '-1']), message: /has the offset "-1"/ },
  { what: 'an offset in hexadecimal', tensor: at('w.bin', ['offset', '0x0']), message: /has the offset/ },
  {
    what: 'an offset that overflows',
    tensor: at('w.bin', ['offset', '18446744073709551616']),
    message: /has the offset/,
  },
  {
    what: 'a length that is too long',
    tensor: at('w.bin', ['length', '1000000']),
    message: /told to have 1000000 bytes; .* make 256/,
  },
  { what: 'a length that is too short', tensor: at('w.bin', ['length', '8']), message: /told to have 8 bytes/ },
  {
    what: 'dimensions that overflow',
    tensor: tensor([['location', 'w.bin']], { dims: [2 ** 40, 2 ** 40] }),
    message: /cannot be/,
  },
  { what: 'strings', tensor: tensor([['location', 'w.bin']], { type: 'string' }), message: /cannot be: it has type 8/ },
  {
    what: 'a file, but says it is not external',
    tensor: { ...at('../secret'), says: 'default' },
    message: /leads out/,
  },
  { what: 'a file, and says nothing', tensor: { ...at('../secret'), says: 'nothing' }, message: /leads out/ },
];

for (const { what, tensor: given, message, code = 'MODEL_REFUSED' } of cases) {
  test(`a tensor that takes its values from ${what} is refused before the engine sees it`, async (t) => {
    const dir = makeTree(t, {
      'net/1/model.onnx': externalModel(given),
      'net/1/w.bin': weights,
      'net/secret': weights,
      'aside/secret': weights,
    });
    const version = path.join(dir, 'net/1');
    mkdirSync(path.join(version, 'data'));
    symlinkSync('../secret', path.join(version, 'link'));
    symlinkSync('w.bin', path.join(version, 'inner'));
    symlinkSync('../../aside', path.join(version, 'outside'));
    linkSync(path.join(dir, 'net/secret'), path.join(version, 'hard'));
    const error = await t.throwsAsync(answer(contextOf(version)), { message });
    t.true(isTroupeError(error) && error.code === code, String(error));
    t.true(error?.message.startsWith('Pool "net": '), error?.message);
  });
}

const places: readonly TensorPlace[] = [
  'initializer',
  'constant',
  'subgraph',
  'sparse values',
  'sparse indices',
  'function',
  'training',
  'tensor list',
];
for (const place of places) {
  test(`a reference is found where the tensor is a ${place}`, (t) => {
    const expected = [{ tensor: 'w', location: '../secret', offset: 16, length: 256 }];
    t.deepEqual(scanModel(externalModel(at('../secret', ['offset', '16']), place)), expected);
  });
}

const whole = mlpModel([{ weights: Float32Array.of(1, 2, 3, 4), bias: Float32Array.of(0, 0) }]);

test('a model without references has none, and no prefix of it is taken for whole by reading beyond its end', (t) => {
  t.deepEqual(scanModel(whole), []);
  for (let length = 0; length < whole.length; length++) {
    // Beyond the prefix lies what would be wanted: a reader that goes on would be none the wiser.
    const prefix = whole.subarray(0, length);
    try {
      t.deepEqual(scanModel(prefix), []);
    } catch (error) {
      t.true(error instanceof ScanError && error.kind === 'malformed', `${length}: ${String(error)}`);
    }
  }
});

test("a file of the engine's own format, however it is named, is no ONNX", (t) => {
  const bytes = Buffer.from('\u0012\u0006ORTMxx\u0000\u0000', 'latin1');
  bytes.write('ORTM', 4, 'latin1');
  t.throws(() => scanModel(bytes), { instanceOf: ScanError, message: /format ORT/ });
});

const field = (number: number, bytes: Buffer): Buffer => {
  const length: number[] = [];
  for (let rest = bytes.length; ; rest >>>= 7) {
    length.push(rest >= 128 ? (rest & 127) | 128 : rest);
    if (rest < 128) break;
  }
  return Buffer.concat([Buffer.from([number * 8 + 2, ...length]), bytes]);
};

test('graphs within graphs end at a depth, long before the stack does', (t) => {
  let graph: Buffer = Buffer.alloc(0);
  for (let depth = 0; depth < 5000; depth++) {
    graph = field(1, field(5, Buffer.concat([Buffer.from([6 * 8 + 2]), field(6, graph).subarray(1)])));
  }
  t.throws(() => scanModel(field(7, graph)), { instanceOf: ScanError, message: /deeper than 100/ });
});

const odd: readonly (readonly [string, number[], RegExp])[] = [
  ['a group', [0x0b, 0x0c], /wire type 3/],
  ['field 0', [0x02, 0x00], /no field at byte 0/],
  ['a tag of six bytes', [0x80, 0x80, 0x80, 0x80, 0x80, 0x01], /no field/],
  ['a number without end', [0x08, ...new Array<number>(11).fill(0xff)], /number without end/],
  ['a length beyond the end', [0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f], /cut off/],
  ['a length that wraps', [0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], /cut off/],
  ['two graphs', [0x3a, 0x00, 0x3a, 0x00], /stands there twice/],
  ['no graph', [0x08, 0x08], /no graph/],
];
for (const [what, bytes, message] of odd) {
  test(`protobuf with ${what} is malformed`, (t) => {
    t.throws(() => scanModel(Buffer.from(bytes)), { instanceOf: ScanError, message });
  });
}

test('H3 any change of any bytes of a model is read or refused, and never reads outside of the model', (t) => {
  const row = beginRow(t, 'H3');
  const runs = fuzzOf(sizes.h3Runs);
  const models = places.map((place) => externalModel(at('w.bin', ['offset', '0']), place));
  const change = fc.tuple(
    fc.nat(models.length - 1),
    fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 }),
    fc.nat(),
  );
  let refusals = 0;
  fc.assert(
    fc.property(change, ([index, edits, cut]) => {
      const model = models[index] as Buffer;
      // In the middle of memory that is not the model's, full of references that must not be found.
      const around = Buffer.from('../secret'.repeat(100));
      const memory = Buffer.concat([around, model, around]);
      const length = cut % 4 === 0 ? cut % model.length : model.length;
      const bytes = memory.subarray(around.length, around.length + length);
      for (const [place, value] of edits) if (length > 0) bytes[place % length] = value;
      try {
        for (const { location, offset, length: wanted } of scanModel(bytes)) {
          t.true(bytes.includes(location) && offset >= 0 && wanted >= 0);
        }
      } catch (error) {
        refusals++;
        t.true(error instanceof ScanError, String(error));
      }
    }),
    runs,
  );
  t.true(refusals > 100);
  row({ faults: runs.numRuns, runs: runs.numRuns, lost: 0, dup: 0, reorder: 0, more: { refusals } });
});

test('a data file that is too short is refused, and taken when it is whole', async (t) => {
  const dir = makeTree(t, { 'net/1/model.onnx': externalModel(at('w.bin')), 'net/1/w.bin': weights });
  truncateSync(path.join(dir, 'net/1/w.bin'), 100);
  const error = await t.throwsAsync(answer(contextOf(path.join(dir, 'net/1'))), {
    message: /wants 256 bytes from 0 of "w.bin", which has 100/,
  });
  t.true(isTroupeError(error) && error.code === 'MODEL_REFUSED');
  writeFileSync(path.join(dir, 'net/1/w.bin'), weights);
  t.is(await answer(contextOf(path.join(dir, 'net/1'))), 7);
});

test('a model and a data file larger than can be read are refused by their size, before they are read', async (t) => {
  const dir = makeTree(t, {
    'net/1/model.onnx': '',
    'net/2/model.onnx': externalModel(at('w.bin')),
    'net/2/w.bin': '',
  });
  // Without blocks on the disk.
  truncateSync(path.join(dir, 'net/1/model.onnx'), 2 ** 31);
  truncateSync(path.join(dir, 'net/2/w.bin'), 2 ** 32 + 1);
  const before = process.memoryUsage.rss();
  for (const [version, advice] of [
    ['1', /it has 2147483648 bytes, more than 2147483647: .*export it with external data/],
    ['2', /it has 4294967297 bytes, more than 4294967296: export it with several files/],
  ] as const) {
    const error = await t.throwsAsync(answer(contextOf(path.join(dir, 'net', version))), { message: advice });
    t.true(isTroupeError(error) && error.code === 'MODEL_INVALID', String(error));
  }
  t.true(process.memoryUsage.rss() - before < 2 ** 29);
});
