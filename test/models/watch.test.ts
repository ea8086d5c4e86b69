import { appendFileSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { ModelRepository } from '../../src/models/repository.js';
import { type ModelChange, ModelWatch, type WatchOptions } from '../../src/models/watch.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { makeTree, type Tree } from './model-tree.js';

/** A watch over real files whose time is moved by hand. */
async function watched(t: ExecutionContext, tree: Tree, options: WatchOptions = { intervalMs: 100, settleMs: 250 }) {
  const root = makeTree(t, tree);
  const clock = new VirtualClock();
  const watch = new ModelWatch(new ModelRepository({ roots: [root] }), options, clock);
  t.teardown(() => watch.close());
  const heard: string[] = [];
  watch.on('change', (change) => heard.push(textOf(change)));
  watch.on('problem', (error) => heard.push(`problem ${error.code}`));
  await watch.look();
  /** Lets one interval pass and the look that it brings. */
  const step = async (count = 1): Promise<string[]> => {
    for (; count > 0; count--) {
      clock.advance(options.intervalMs ?? 2000);
      await watch.look();
    }
    return heard.splice(0);
  };
  return { root, watch, step, clock, put: (name: string, text: string) => writeFileSync(path.join(root, name), text) };
}

function textOf(change: ModelChange): string {
  const words = [change.kind, change.model];
  if ('version' in change) words.push(change.version ?? '');
  if ('error' in change) words.push(change.error.code);
  return words.join(' ');
}

test('a version that is copied piece by piece is told once, after its last piece', async (t) => {
  const { root, step } = await watched(t, { 'net/1/model.onnx': 'one' });
  t.deepEqual(await step(5), [], 'what was there is known');
  mkdirSync(path.join(root, 'net/2'));
  t.deepEqual(await step(5), [], 'an empty directory is no version yet');
  for (let piece = 0; piece < 8; piece++) {
    appendFileSync(path.join(root, 'net/2/model.onnx'), 'piece');
    t.deepEqual(await step(2), [], `piece ${piece}`);
  }
  t.deepEqual(await step(2), ['added net 2']);
  t.deepEqual(await step(5), []);
});

test('a version beside which a copying tool keeps its unfinished file is not told', async (t) => {
  const { root, step, put } = await watched(t, { 'net/1/model.onnx': 'one', 'net/2/': '' });
  for (const name of ['.model.onnx.aB3xYz', 'model.onnx.part', 'model.onnx.tmp']) {
    put(`net/2/${name}`, 'half');
    t.deepEqual(await step(10), [], name);
    renameSync(path.join(root, 'net/2', name), path.join(root, 'net/2/model.onnx'));
    const [first, ...more] = await step(5);
    t.regex(first ?? '', /^(added|changed) net 2$/);
    t.deepEqual(more, []);
  }
});

test('a version that is replaced, one that goes, and a model that comes are told', async (t) => {
  const { root, step, put } = await watched(t, { 'net/1/model.onnx': 'one', 'net/2/model.onnx': 'two' });
  // The same size, another file in its place.
  put('fresh', 'ONE');
  renameSync(path.join(root, 'fresh'), path.join(root, 'net/1/model.onnx'));
  rmSync(path.join(root, 'net/2'), { recursive: true });
  mkdirSync(path.join(root, 'new/1'), { recursive: true });
  put('new/1/model.onnx', 'x');
  t.deepEqual((await step(5)).sort(), ['added new 1', 'changed net 1', 'removed net 2']);
});

test('a config.pbtxt is told when it says something else, and a broken one with what is wrong', async (t) => {
  const { step, put } = await watched(t, { 'net/1/model.onnx': 'one', 'net/config.pbtxt': 'max_batch_size: 1' });
  put('net/config.pbtxt', 'max_batch_size: 1 # the same');
  t.deepEqual(await step(5), []);
  put('net/config.pbtxt', 'max_batch_size: 2');
  t.deepEqual(await step(5), ['config net']);
  put('net/config.pbtxt', 'max_batch_size');
  t.deepEqual(await step(5), ['refused net MODEL_CONFIG_INVALID'], 'its versions are not told as gone');
  put('net/config.pbtxt', 'version_policy { specific { versions: 9 } }');
  t.deepEqual(await step(5), ['config net', 'removed net 1'], 'it is not on offer any more');
});

test('a version with a link in it is told as refused, and as changed when it is mended', async (t) => {
  const { root, step, put } = await watched(t, { 'net/1/model.onnx': 'one', 'net/2/': '' });
  const file = path.join(root, 'net/2/model.onnx');
  symlinkSync('/etc/hostname', file);
  t.deepEqual(await step(5), ['refused net 2 MODEL_REFUSED']);
  rmSync(file);
  put('net/2/model.onnx', 'two');
  t.deepEqual(await step(5), ['changed net 2']);
});

test('a root that cannot be looked at is a problem told once, and nothing counts as removed', async (t) => {
  const { root, step } = await watched(t, { 'net/1/model.onnx': 'one' });
  renameSync(root, `${root}-away`);
  t.deepEqual(await step(20), ['problem MODEL_NOT_FOUND']);
  renameSync(`${root}-away`, root);
  t.deepEqual(await step(20), []);
  rmSync(path.join(root, 'net'), { recursive: true });
  t.deepEqual(await step(5), ['removed net 1']);
});

test('a closed watch looks no more, and holds no timer', async (t) => {
  const { step, watch, clock, put, root } = await watched(t, { 'net/1/model.onnx': 'one' });
  mkdirSync(path.join(root, 'net/2'));
  put('net/2/model.onnx', 'two');
  t.is(clock.timerCount, 1);
  await watch.close();
  t.is(clock.timerCount, 0);
  t.deepEqual(await step(10), []);
  await watch.close();
});

test('wrong options and a repository without roots are refused at once', (t) => {
  const models = new ModelRepository({ roots: ['/nowhere'] });
  t.throws(() => models.watch({ settleMs: -1 }), { instanceOf: TypeError, message: /settleMs/ });
  t.throws(() => models.watch({ interval: 5 } as WatchOptions), { instanceOf: TypeError, message: /interval/ });
  t.throws(() => new ModelRepository().watch(), { instanceOf: TypeError, message: /no roots/ });
});
