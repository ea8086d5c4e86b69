import { linkSync, mkdirSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ErrorCode, isTroupeError } from 'troupe';
import { ModelRepository } from '../../src/models/repository.js';
import { makeTree, type Tree } from './model-tree.js';

const output = (file: string, name = 'y'): string =>
  `output { name: "${name}" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "${file}" }\n`;

function rootOf(t: ExecutionContext, config: string, tree: Tree = {}): string {
  return makeTree(t, { 'root/net/1/m': '', 'root/net/config.pbtxt': config, ...tree });
}

function locate(dir: string): Promise<{ readonly labels: ReadonlyMap<string, readonly string[]> }> {
  return new ModelRepository({ roots: [path.join(dir, 'root')] }).locate('net', 'latest');
}

async function refusal(t: ExecutionContext, dir: string, code: ErrorCode): Promise<string> {
  const error = await t.throwsAsync(locate(dir));
  if (!isTroupeError(error)) throw error ?? new Error('nothing was thrown');
  t.is(error.code, code, error.message);
  return error.message;
}

test('labels are the lines of the file that config.pbtxt names, for each output its own', async (t) => {
  const config = output('y.txt') + output('more/z.txt', 'z') + 'output { name: "w" data_type: TYPE_FP32 dims: [ 1 ] }';
  const files = { 'root/net/y.txt': 'cat\ndog\r\n\nfüchs: red', 'root/net/more/z.txt': '\ufeffone\n' };
  const { labels } = await locate(rootOf(t, config, files));
  t.deepEqual(
    [...labels],
    [
      ['y', ['cat', 'dog', '', 'füchs: red']],
      ['z', ['one', '']],
    ],
  );
  t.is((await locate(rootOf(t, ''))).labels.size, 0);
  t.is((await locate(rootOf(t, output('')))).labels.size, 0, 'no name is no file');
});

test('a label file that is not there or is no text is told with its place in config.pbtxt', async (t) => {
  const missing = rootOf(t, `# one line before\n${output('y.txt')}`);
  const message = await refusal(t, missing, 'MODEL_CONFIG_INVALID');
  const config = path.join(missing, 'root/net/config.pbtxt');
  t.true(message.startsWith(`${config}:2:53: output.label_filename: there is no file y.txt in `), message);
  const binary = rootOf(t, output('y.txt'), { 'root/net/y.txt': Buffer.of(0x63, 0xff) });
  t.regex(await refusal(t, binary, 'MODEL_CONFIG_INVALID'), /expected UTF-8 text in y.txt, found other bytes/);
});

test('labels are taken from plain files of the model and from nowhere else', async (t) => {
  const secret = { secret: 'word' };
  for (const file of ['../../secret', '/etc/passwd', 'a/../../../secret', './y.txt', 'a//b', 'a\\\\b', 'c:b'])
    t.regex(await refusal(t, rootOf(t, output(file), secret), 'MODEL_REFUSED'), /The label file .* is refused/, file);
  const linked = rootOf(t, output('y.txt'), secret);
  symlinkSync(path.join(linked, 'secret'), path.join(linked, 'root/net/y.txt'));
  t.regex(await refusal(t, linked, 'MODEL_REFUSED'), /it is a symbolic link/);
  const twice = rootOf(t, output('y.txt'), secret);
  linkSync(path.join(twice, 'secret'), path.join(twice, 'root/net/y.txt'));
  t.regex(await refusal(t, twice, 'MODEL_REFUSED'), /2 names in the file system/);
  const behind = rootOf(t, output('more/y.txt'), { 'other/y.txt': 'word' });
  symlinkSync(path.join(behind, 'other'), path.join(behind, 'root/net/more'));
  t.regex(await refusal(t, behind, 'MODEL_REFUSED'), /lies behind a symbolic link/);
  const directory = rootOf(t, output('y.txt'));
  mkdirSync(path.join(directory, 'root/net/y.txt'));
  t.regex(await refusal(t, directory, 'MODEL_REFUSED'), /it is a directory/);
});

test('of labels a model has 4 MiB at most, all files together', async (t) => {
  const [half, rest] = ['a'.repeat(2 ** 21), 'b'.repeat(2 ** 21 - 1)];
  const config = output('y.txt') + output('z.txt', 'z');
  const { labels } = await locate(rootOf(t, config, { 'root/net/y.txt': half, 'root/net/z.txt': rest }));
  t.deepEqual(labels.get('z'), [rest]);
  const large = rootOf(t, config, { 'root/net/y.txt': half, 'root/net/z.txt': `${rest}bb` });
  t.regex(await refusal(t, large, 'MODEL_REFUSED'), /z.txt is refused: it has 2097153 bytes; at most 2097152 are read/);
});
