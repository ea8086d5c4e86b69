import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { realDisk } from '../../../src/stream/checkpoint/disk.js';

const dir = mkdtempSync(path.join(tmpdir(), 'troupe-disk-'));
test.after.always(() => rmSync(dir, { recursive: true }));

test('a directory is made with those above it, for its owner alone, and one that is there is left', async (t) => {
  const deep = path.join(dir, 'a/b/c');
  await realDisk.makeDirectory(deep);
  t.is(statSync(deep).mode & 0o777, 0o700);
  await realDisk.makeDirectory(deep);
});

test('a file in the place of the directory, or of one above it, is refused', async (t) => {
  writeFileSync(path.join(dir, 'file'), '');
  await t.throwsAsync(realDisk.makeDirectory(path.join(dir, 'file')), { code: 'EEXIST' });
  await t.throwsAsync(realDisk.makeDirectory(path.join(dir, 'file/below')), { code: 'ENOTDIR' });
});

test('a file system that knows no new names is refused, and nothing spins', async (t) => {
  await t.throwsAsync(realDisk.makeDirectory('/proc/troupe/checkpoints'), { code: 'ENOENT' });
});
