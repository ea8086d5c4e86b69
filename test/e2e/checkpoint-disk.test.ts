import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CheckpointTrigger } from '../../src/stream/checkpoint/options.js';
import { Stamped } from '../../src/stream/envelope.js';
import { stream } from '../../src/stream/pipeline.js';
import { toArray } from '../../src/stream/sinks/array.js';
import { toFile } from '../../src/stream/sinks/file.js';
import type { Source } from '../../src/stream/source.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';

async function scratch(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'troupe-disk-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A source that goes on until it is stopped. */
function endless(): Source<number> {
  return {
    name: 'endless',
    open: () => {
      let n = 0;
      return {
        read: () => new Promise((resolve) => setImmediate(() => resolve([new Stamped(n++)]))),
        position: () => n,
        close: () => undefined,
      };
    },
  };
}

test('E3: on a full disk of 1 MiB checkpoints fail typed, the last good one stays, and with room they go on', async (t) => {
  t.timeout(60_000);
  const disk = join(await scratch(t), 'disk');
  await mkdir(disk);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk], { stdio: 'pipe' });
  } catch (cause) {
    t.log(`not run: this system does not let a disk be mounted: ${String(cause).split('\n')[0]}`);
    t.pass();
    return;
  }
  t.teardown(() => execFileSync('umount', [disk]));
  const dir = join(disk, 'checkpoints');
  const ballast = join(disk, 'ballast');
  const trigger = new CheckpointTrigger();
  const stop = new AbortController();
  const sink = toArray<number>();
  const running = stream(endless()).to(sink, {
    checkpoint: { dir, trigger, intervalMs: 60_000, onFailure: 'continue' },
    stop: stop.signal,
  });
  // The run has begun when its first checkpoint is there; then the trigger is its own.
  let good: number | undefined;
  while (good === undefined) {
    await new Promise((resolve) => setImmediate(resolve));
    good = await trigger.now().catch(() => undefined);
  }
  await fillUp(ballast);
  await t.throwsAsync(trigger.now(), { code: 'CHECKPOINT_FAILED', message: /Cannot write checkpoint .*ENOSPC/ });
  const names = await readdir(dir);
  t.true(names.includes(`${String(good).padStart(12, '0')}.manifest`), 'the last good one is kept');
  t.false(
    names.some((name) => name.endsWith('.new')),
    'what could not be finished is gone',
  );
  await rm(ballast);
  const next = await trigger.now();
  t.true(next > good);
  stop.abort();
  const report = await running;
  t.like(report.checkpoints, { failed: 1, lastError: { code: 'CHECKPOINT_FAILED' } });
  t.is(report.results, sink.values.length);
});

async function fillUp(file: string): Promise<void> {
  for (let size = 1 << 20; size > 0; size = Math.floor(size / 2)) {
    await writeFile(file, Buffer.alloc(size), { flag: 'a' }).catch(() => undefined);
  }
}

test('the directory of checkpoints is for nobody else, and neither are the files in it', async (t) => {
  const folder = await scratch(t);
  const dir = join(folder, 'deep', 'checkpoints');
  await stream(fromIterable([1, 2])).to(toFile(join(folder, 'out')), { checkpoint: { dir } });
  t.is((await stat(dir)).mode & 0o777, 0o700);
  const names = await readdir(dir);
  t.true(names.length >= 4);
  for (const name of names) t.is((await stat(join(dir, name))).mode & 0o777, 0o600, name);
  t.false(
    names.some((name) => name.startsWith('lock')),
    'the lock is gone with the run',
  );
});

test('output that is no regular file takes part in no checkpoint, and the report says what that means', async (t) => {
  const folder = await scratch(t);
  const source = fromIterable([1, 2]);
  const report = await stream(source).to(toFile('/dev/null'), { checkpoint: { dir: join(folder, 'c') } });
  t.is(report.delivery, 'at-least-once');
  const server = createServer().listen(join(folder, 'socket'));
  await once(server, 'listening');
  t.teardown(() => server.close());
  await t.throwsAsync(stream(source).to(toArray(), { checkpoint: { dir: join(folder, 'socket') } }), {
    code: 'CHECKPOINT_FAILED',
    message: /Cannot use the checkpoint directory/,
  });
});
