import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, rm, symlink } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, relative } from 'node:path';
import test from 'ava';
import { stream } from '../../../src/stream/pipeline.js';
import { forEach } from '../../../src/stream/sinks/for-each.js';
import { fromFiles, type FileRecord, type FromFilesOptions } from '../../../src/stream/sources/files.js';
import { folder } from '../folder.js';

async function list(
  path: string,
  given = path,
  options: FromFilesOptions = {},
): Promise<[string[], string[], FileRecord[]]> {
  const records: FileRecord[] = [];
  const failures: string[] = [];
  await stream(fromFiles(given, options)).to(
    forEach<FileRecord>((record) => records.push(record)),
    { onFailed: (input, error) => failures.push(`${relative(path, (input as FileRecord).path)} ${error.code}`) },
  );
  return [records.map((record) => relative(path, record.path)), failures, records];
}

test('a directory gives its files in a stable order, whatever their size, with a sample of each', async (t) => {
  const big = new Uint8Array(5000).map((_, n) => n % 251);
  const path = await folder(t, { 'b/2.txt': 'two', 'a.bin': big, 'b/10.txt': '', B: 'x', 'c/d/e': 'deep' });
  const [names, failures, records] = await list(path);
  t.deepEqual(names, ['B', 'a.bin', 'b/10.txt', 'b/2.txt', 'c/d/e']);
  t.deepEqual(failures, []);
  const [, sampled, empty] = records;
  t.is(sampled?.size, 5000);
  t.deepEqual(sampled?.bytes, Uint8Array.from([...big.slice(0, 1536), ...big.slice(-512)]));
  t.is(sampled?.absolutePath, join(path, 'a.bin'));
  t.like(empty, { size: 0 });
  t.is(empty?.bytes.length, 0);
});

test('a glob, an ignore list and sample sizes choose what is read', async (t) => {
  const path = await folder(t, {
    'a/x.ts': '0123456789',
    'a/y.js': '',
    'b/z.ts': '',
    'node_modules/m.ts': '',
    '.h/i.ts': '',
  });
  t.deepEqual((await list(path, `${path}/**/*.ts`, { ignore: ['node_modules'] }))[0], ['a/x.ts', 'b/z.ts']);
  const [names, , [first]] = await list(path, `${path}/a`, { headBytes: 2, tailBytes: 3 });
  t.deepEqual(names, ['a/x.ts', 'a/y.js']);
  t.is(Buffer.from(first?.bytes ?? []).toString(), '01789');
  t.deepEqual((await list(path, join(path, 'a/x.ts')))[0], ['a/x.ts']);
});

test('dangling and looping symlinks, FIFOs and sockets fail alone and are never opened', async (t) => {
  const path = await folder(t, { 'a.txt': 'a', 'z.txt': 'z' });
  await symlink('nowhere', join(path, 'dangling'));
  await symlink('loop', join(path, 'loop'));
  await symlink('a.txt', join(path, 'link.txt'));
  execFileSync('mkfifo', [join(path, 'pipe')]);
  const server = createServer().listen(join(path, 'socket'));
  await once(server, 'listening');
  t.teardown(() => server.close());
  const [names, failures] = await list(path);
  t.deepEqual(names, ['a.txt', 'link.txt', 'z.txt']);
  t.deepEqual(
    failures,
    ['dangling', 'loop', 'pipe', 'socket'].map((name) => `${name} FILE_UNREADABLE`),
  );
});

test('symlinks to directories are entered only if asked, and one that leads back up fails alone', async (t) => {
  const path = await folder(t, { 'a/b/x.txt': 'x', 'other/y.txt': 'y' });
  await symlink('..', join(path, 'a/b/up'));
  await symlink('../other', join(path, 'a/to-other'));
  t.deepEqual(await list(path).then(([names, failures]) => [names, failures]), [['a/b/x.txt', 'other/y.txt'], []]);
  const [names, failures] = await list(path, path, { followSymlinks: true });
  t.deepEqual(names, ['a/b/x.txt', 'a/to-other/y.txt', 'other/y.txt']);
  t.deepEqual(failures, ['a/b/up FILE_UNREADABLE']);
});

test('a file that vanishes between listing and reading fails alone', async (t) => {
  const files = Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`${String(n).padStart(2, '0')}.txt`, 'x']));
  const path = await folder(t, files);
  const failures: string[] = [];
  const report = await stream(fromFiles(path), { chunkSize: 1 })
    .map(async (record) => {
      if (record.path.endsWith('00.txt')) await rm(join(path, '50.txt'));
      return record;
    })
    .to(
      forEach(() => undefined),
      { onFailed: (input, error) => failures.push(`${(input as FileRecord).path} ${error.message}`) },
    );
  t.like(report, { records: 60, results: 59, failed: 1, errors: { FILE_UNREADABLE: 1 } });
  t.regex(failures[0] ?? '', /50\.txt .*has vanished/);
});

test('what may not be read fails alone: the file, or the directory as a whole', async (t) => {
  const path = await folder(t, { 'a.txt': 'a', 'locked/b.txt': 'b', 'secret.txt': 's' });
  await chmod(path, 0o755);
  await chmod(join(path, 'secret.txt'), 0);
  await chmod(join(path, 'locked'), 0);
  const module = new URL('../../../src/index.js', import.meta.url).href;
  const script = `
    const { stream, fromFiles, forEach } = await import(${JSON.stringify(module)});
    const seen = [];
    await stream(fromFiles(${JSON.stringify(path)})).to(forEach((record) => seen.push(record.path)), {
      onFailed: (record, error) => seen.push(record.path + ' ' + error.code) });
    process.stdout.write(JSON.stringify(seen));`;
  // Root may read everything, so the reader is somebody else then.
  const nobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  const seen = JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', cwd: path, ...nobody }),
  ) as string[];
  await chmod(join(path, 'locked'), 0o755);
  t.deepEqual(
    seen.map((text) => relative(path, text)),
    ['a.txt', 'locked FILE_UNREADABLE', 'secret.txt FILE_UNREADABLE'],
  );
});

test('a root that is not there ends the run at once', async (t) => {
  const path = await folder(t);
  t.like(await t.throwsAsync(list(path, join(path, 'none'))), { code: 'SOURCE_FAILED' });
  t.like(await t.throwsAsync(list(path, join(path, 'none/*.ts'))), { code: 'SOURCE_FAILED' });
});

test('a run that is cancelled while it walks lets go of the tree', async (t) => {
  const files = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`${n}`, 'x']));
  const path = await folder(t, files);
  const stop = new AbortController();
  const report = await stream(fromFiles(path), { chunkSize: 4 }).to(
    forEach(() => stop.abort()),
    { signal: stop.signal },
  );
  t.true(report.cancelled);
  t.is(report.results, 4);
});

test('a count says how many records a run will read, failures included, and reads no file', async (t) => {
  const path = await folder(t, { 'a.txt': 'a', 'b/c.txt': 'c', 'b/d.js': 'd' });
  await symlink('nowhere', join(path, 'dangling'));
  const [names, failures] = await list(path);
  t.is(await fromFiles(path).count?.(), names.length + failures.length);
  t.is(await fromFiles(`${path}/b/*.txt`).count?.(), 1);
});
