import { execFileSync } from 'node:child_process';
import { cpSync, linkSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { type ErrorCode, isTroupeError, type TroupeError } from 'troupe';
import { openFile, readSmallFile } from '../../src/models/files.js';
import { ModelRepository } from '../../src/models/repository.js';
import { beginRow } from '../e2e/row-report.js';
import { sizes } from '../e2e/sizes.js';
import { addTree, makeTree } from './model-tree.js';

async function refusal(t: ExecutionContext, run: () => unknown, code: ErrorCode): Promise<string> {
  const error = await t.throwsAsync(async () => run());
  if (!isTroupeError(error)) throw error ?? new Error('nothing was thrown');
  t.is(error.code, code, error.message);
  return error.message;
}

test('a version is found by its number, as latest, and by an alias', async (t) => {
  const root = makeTree(t, { 'net/2/m': '', 'net/10/m': '', 'net/1/m': '', 'net/config.pbtxt': 'max_batch_size: 4' });
  const models = new ModelRepository({ roots: [root], aliases: { net: { stable: 2, gone: 7 } } });
  const found = async (version: string): Promise<unknown> => {
    const { modelDir, version: number, model } = await models.locate('net', version);
    t.is(modelDir, path.join(root, 'net', number));
    t.is(model, 'net');
    return number;
  };
  t.is(await found('latest'), '10', 'numbers are compared as numbers');
  t.is(await found('1'), '1');
  t.is(await found('stable'), '2');
  const message = await refusal(t, () => models.locate('net', 'gone'), 'VERSION_NOT_FOUND');
  t.regex(message, /no version 7, for which "gone" stands; it offers 1, 2, 10; aliases stable = 2, gone = 7/);
  t.is((await models.locate('net', '1')).config?.config.max_batch_size, 4);
});

test('a model is found by its path as well, with its parent for a root', async (t) => {
  const root = makeTree(t, { 'net/3/m': '' });
  const models = new ModelRepository({ aliases: { net: { best: 3 } } });
  t.is((await models.locate(path.join(root, 'net'), 'best')).version, '3');
  const both = new ModelRepository({ roots: [root] });
  t.is((await both.locate(`${root}/net/`, 'latest')).modelDir, path.join(root, 'net/3'));
});

test('what does not exist is answered with what does', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/2/m': '', 'other/1/m': '', 'readme.md': '', 'empty/': '' });
  const models = new ModelRepository({ roots: [root] });
  t.regex(
    await refusal(t, () => models.locate('nett', '1'), 'MODEL_NOT_FOUND'),
    /no model nett; .* holds empty, net, other$/,
  );
  t.regex(await refusal(t, () => models.locate('net', '9'), 'VERSION_NOT_FOUND'), /no version 9; it offers 1, 2$/);
  t.regex(
    await refusal(t, () => models.locate('net', 'best'), 'VERSION_NOT_FOUND'),
    /no version or alias "best"; it offers 1, 2$/,
  );
  t.regex(
    await refusal(t, () => models.locate('empty', 'latest'), 'MODEL_NOT_FOUND'),
    /empty has no version directory; expected .*empty\/1$/,
  );
  const nowhere = new ModelRepository({ roots: [path.join(root, 'none')] });
  t.regex(await refusal(t, () => nowhere.locate('net', '1'), 'MODEL_NOT_FOUND'), /none cannot be read: ENOENT/);
});

test('names of directories that are no versions are passed over; those that look like one are told', (t) => {
  const dirs = { 'net/1/m': '', 'net/01/m': '', 'net/0/m': '', 'net/configs/m': '', 'net/9007199254740993/m': '' };
  const root = makeTree(t, { ...dirs, 'net/4': 'a file' });
  const { versions, ignored } = new ModelRepository({ roots: [root] }).model('net');
  t.deepEqual(versions, ['1']);
  t.deepEqual(ignored.map(({ name }) => name).sort(), ['0', '01', '4', '9007199254740993']);
});

test('version_policy says which versions are on offer', async (t) => {
  const root = makeTree(t, { 'net/1/m': '', 'net/2/m': '', 'net/3/m': '' });
  const models = new ModelRepository({ roots: [root] });
  const offered = (policy: string): readonly string[] => {
    writeFileSync(path.join(root, 'net/config.pbtxt'), policy);
    return models.model('net').versions;
  };
  t.deepEqual(offered(''), ['1', '2', '3'], 'without one, all');
  t.deepEqual(offered('version_policy { all {} }'), ['1', '2', '3']);
  t.deepEqual(offered('version_policy { latest { num_versions: 2 } }'), ['2', '3']);
  t.deepEqual(offered('version_policy { latest { } }'), ['3']);
  t.deepEqual(offered('version_policy { specific { versions: [1, 2, 8] } }'), ['1', '2']);
  t.is((await models.locate('net', 'latest')).version, '2');
  const message = await refusal(t, () => models.locate('net', '3'), 'VERSION_NOT_FOUND');
  t.regex(message, /has a version 3, but version_policy in its config.pbtxt does not offer it; it offers 1, 2$/);
});

test('a model that stands in two roots cannot be used, and the others can', async (t) => {
  const one = makeTree(t, { 'net/1/m': '', 'a/1/m': '' });
  const two = makeTree(t, { 'net/2/m': '', 'b/1/m': '' });
  const models = new ModelRepository({ roots: [one, two] });
  const message = await refusal(t, () => models.locate('net', '1'), 'MODEL_REFUSED');
  t.true(message.includes(one) && message.includes(two), message);
  t.is((await models.locate('b', '1')).version, '1');
  const shown = models
    .list()
    .map((model) => ('problem' in model ? `${model.name}: ${model.problem.code}` : model.name));
  t.deepEqual(shown, ['a', 'b', 'net: MODEL_REFUSED']);
});

test('a broken config.pbtxt is told with its place, and the list goes on', async (t) => {
  const root = makeTree(t, { 'bad/1/m': '', 'bad/config.pbtxt': 'nam: "bad"', 'good/1/m': '' });
  const models = new ModelRepository({ roots: [root] });
  const message = await refusal(t, () => models.model('bad'), 'MODEL_CONFIG_INVALID');
  t.true(message.startsWith(`${root}/bad/config.pbtxt:1:1: there is no field nam`), message);
  t.deepEqual(
    models.list().map((model) => ('problem' in model ? (model.problem as TroupeError).code : model.versions)),
    ['MODEL_CONFIG_INVALID', ['1']],
  );
});

// ------------------------------------------------------------------ what is not a plain file

const isRoot = process.getuid?.() === 0;
interface Trap {
  readonly what: string;
  /** Puts the trap into a tree with `root/net/1/m` and `secret`; `root/net/2` is its version directory. */
  readonly set: (dir: string, t: ExecutionContext) => void | Promise<void>;
  readonly message: RegExp;
}

const at = (dir: string, name: string): string => path.join(dir, 'root/net', name);
const traps: readonly Trap[] = [
  {
    what: 'a file that is a symbolic link',
    set: (dir) => symlinkSync(path.join(dir, 'secret'), at(dir, '2/m')),
    message: /2\/m is refused: it is a symbolic link/,
  },
  {
    what: 'a file that is a link to its neighbour',
    set: (dir) => symlinkSync('../1/m', at(dir, '2/m')),
    message: /2\/m is refused: it is a symbolic link/,
  },
  { what: 'a link to nowhere', set: (dir) => symlinkSync('nowhere', at(dir, '2/m')), message: /symbolic link/ },
  {
    what: 'a directory that is a link',
    set: (dir) => symlinkSync(path.join(dir, 'elsewhere'), at(dir, '2/sub')),
    message: /2\/sub is refused: it is a symbolic link/,
  },
  {
    what: 'a file with a second name',
    set: (dir) => linkSync(path.join(dir, 'secret'), at(dir, '2/m')),
    message: /2\/m is refused: it has 2 names/,
  },
  { what: 'a named pipe', set: (dir) => void execFileSync('mkfifo', [at(dir, '2/m')]), message: /it is a named pipe/ },
  {
    what: 'a socket',
    set: async (dir, t) => {
      const server = createServer();
      t.teardown(() => server.close());
      await new Promise<void>((resolve) => server.listen(at(dir, '2/m'), resolve));
    },
    message: /it is a socket/,
  },
  {
    what: 'a version directory that is a link',
    set: (dir) => {
      rmSync(at(dir, '2'), { recursive: true });
      symlinkSync('1', at(dir, '2'));
    },
    message: /net\/2 is refused: it is a symbolic link/,
  },
  {
    what: 'a model directory that is a link',
    set: (dir) => {
      renameSync(path.join(dir, 'root/net'), path.join(dir, 'moved'));
      symlinkSync('../moved', path.join(dir, 'root/net'));
    },
    message: /root\/net is refused: it is a symbolic link/,
  },
  {
    what: 'a config.pbtxt that is a link',
    set: (dir) => symlinkSync(path.join(dir, 'secret'), at(dir, 'config.pbtxt')),
    message: /config.pbtxt is refused: it is a symbolic link/,
  },
  {
    what: 'a config.pbtxt with a second name',
    set: (dir) => linkSync(path.join(dir, 'secret'), at(dir, 'config.pbtxt')),
    message: /config.pbtxt is refused: it has 2 names/,
  },
  {
    what: 'a config.pbtxt that is a pipe',
    set: (dir) => void execFileSync('mkfifo', [at(dir, 'config.pbtxt')]),
    message: /named pipe/,
  },
  {
    what: 'a config.pbtxt that is a directory',
    set: (dir) => mkdirSync(at(dir, 'config.pbtxt')),
    message: /it is a directory/,
  },
  {
    what: 'a config.pbtxt of two megabytes',
    set: (dir) => writeFileSync(at(dir, 'config.pbtxt'), '#'.repeat(2_000_000)),
    message: /at most 1048576 are read/,
  },
  {
    what: 'directories without end',
    set: (dir) => mkdirSync(at(dir, `2/${'d/'.repeat(40)}`), { recursive: true }),
    message: /deeper than 32/,
  },
  ...(isRoot && process.platform === 'linux'
    ? [
        {
          what: 'a device',
          set: (dir: string) => void execFileSync('mknod', [at(dir, '2/m'), 'c', '1', '5']),
          message: /it is a device/,
        },
      ]
    : []),
];

for (const { what, set, message } of traps) {
  test(`${what} is refused, and what is beside it is not`, async (t) => {
    const dir = makeTree(t, { 'root/net/1/m': 'one', 'root/net/2/': '', secret: 'secret', 'elsewhere/m': '' });
    await set(dir, t);
    const models = new ModelRepository({ roots: [path.join(dir, 'root')] });
    t.regex(await refusal(t, () => models.locate('net', '2'), 'MODEL_REFUSED'), message);
    const message2 = await refusal(t, () => models.hash('net', '2'), 'MODEL_REFUSED');
    t.regex(message2, message);
    addTree(dir, { 'root/other/1/m': '' });
    t.is((await models.locate('other', 'latest')).version, '1');
  });
}

test('a root may be a link: whoever names it is trusted with it', async (t) => {
  const dir = makeTree(t, { 'real/net/1/m': '' });
  symlinkSync('real', path.join(dir, 'current'));
  const models = new ModelRepository({ roots: [path.join(dir, 'current')] });
  t.is((await models.locate('net', 'latest')).modelDir, path.join(dir, 'real/net/1'));
  t.is((await new ModelRepository().locate(path.join(dir, 'current/net'), '1')).modelDir, path.join(dir, 'real/net/1'));
});

test('files below node_modules may have second names, as package managers give them', async (t) => {
  const dir = makeTree(t, { 'store/m': 'weights', 'node_modules/pack/models/net/1/': '', 'plain/node_modules/1/': '' });
  linkSync(path.join(dir, 'store/m'), path.join(dir, 'node_modules/pack/models/net/1/m'));
  const models = new ModelRepository({ roots: [path.join(dir, 'node_modules/pack/models')] });
  t.is((await models.locate('net', '1')).files[0]?.path, 'm');
  // A model that calls itself so is no package.
  linkSync(path.join(dir, 'store/m'), path.join(dir, 'plain/node_modules/1/m'));
  const sly = new ModelRepository({ roots: [path.join(dir, 'plain')] });
  await refusal(t, () => sly.locate('node_modules', '1'), 'MODEL_REFUSED');
});

test('H2 a file that is swapped for a link while it is opened is never read through the link', async (t) => {
  t.timeout(10 * 60_000);
  const row = beginRow(t, 'H2');
  const races = sizes.h2Races;
  const dir = makeTree(t, { 'root/net/1/m': 'plain', 'secret/m': 'secret' });
  const stop = new SharedArrayBuffer(12);
  const flag = new Int32Array(stop);
  const swapper = new Worker(new URL('swapper.js', import.meta.url), { workerData: { dir, stop } });
  const ended = new Promise<void>((resolve, reject) => swapper.once('exit', () => resolve()).once('error', reject));
  await new Promise((resolve) => swapper.once('message', resolve));
  const within = { dir: path.join(dir, 'root/net/1'), mayShare: false };
  const seen: Record<string, number> = {};
  const note = (what: string): void => void (seen[what] = (seen[what] ?? 0) + 1);
  const failed = (error: unknown): void => {
    if (!isTroupeError(error)) throw error;
    note(error.code);
  };
  for (let race = 0; race < races; race++) {
    try {
      note(readSmallFile(within, 'm', 100)?.toString() ?? 'nothing');
    } catch (error) {
      failed(error);
    }
  }
  for (let race = 0; race < races / 10; race++) {
    try {
      const file = await openFile(within, 'm');
      const bytes = Buffer.alloc(file.bytes);
      try {
        await file.read(bytes, 0);
      } finally {
        await file.close();
      }
      note(bytes.toString());
    } catch (error) {
      failed(error);
    }
  }
  Atomics.store(flag, 0, 1);
  await ended;
  note(readSmallFile(within, 'm', 100)?.toString() ?? 'nothing');
  const escapes = seen['secret'] ?? 0;
  const rounds = Atomics.load(flag, 1);
  row({ faults: rounds, runs: races + races / 10, lost: escapes, dup: 0, reorder: 0, more: seen });
  t.is(seen['secret'], undefined);
  t.true((seen['plain'] ?? 0) > 0 && (seen['MODEL_REFUSED'] ?? 0) > 0, JSON.stringify(seen));
});

// ------------------------------------------------------------------ hashes

test('the hash of a version is that of its names and bytes, wherever it lies', async (t) => {
  const tree = { 'net/1/model.onnx': 'abc', 'net/1/data/b.bin': Buffer.alloc(3_000_000, 7), 'net/1/data/a.bin': '' };
  const root = makeTree(t, tree);
  const models = new ModelRepository({ roots: [root] });
  const hash = await models.hash('net', '1');
  t.is(hash, 'sha256:e5085e04ff2d85e0b43bfc0cb985a828b3b5e9679a5bbc90fc9f7e5574827b3c');
  const copy = makeTree(t, {});
  cpSync(root, copy, { recursive: true });
  writeFileSync(path.join(copy, 'net/config.pbtxt'), 'max_batch_size: 1');
  const other = new ModelRepository({ roots: [copy] });
  t.is(await other.hash('net', 'latest'), hash, 'config.pbtxt is of the model, not of the version');
  const changes: readonly (() => void)[] = [
    () => writeFileSync(path.join(copy, 'net/1/model.onnx'), 'abd'),
    () => renameSync(path.join(copy, 'net/1/data/a.bin'), path.join(copy, 'net/1/data/c.bin')),
    () => rmSync(path.join(copy, 'net/1/data/c.bin')),
    () => writeFileSync(path.join(copy, 'net/1/extra'), ''),
  ];
  const seen = new Set([hash]);
  for (const change of changes) {
    change();
    seen.add(await other.hash('net', '1'));
  }
  t.is(seen.size, 5);
});

test('no two trees whose paths and contents run together alike have the same hash', async (t) => {
  const root = makeTree(t, { 'a/1/x': 'y1:z0:', 'b/1/xy': '1:z0:', 'c/1/x': 'y', 'c/1/z': '' });
  const models = new ModelRepository({ roots: [root] });
  const hashes = await Promise.all(['a', 'b', 'c'].map((model) => models.hash(model, '1')));
  t.is(new Set(hashes).size, 3);
});
