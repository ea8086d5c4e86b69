import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { cpuCount } from '../../src/host/cpus.js';

/** A file system that has these files. */
function rootWith(t: ExecutionContext, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(path.join(tmpdir(), 'troupe-cpus-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.join(root, path.dirname(name)), { recursive: true });
    writeFileSync(path.join(root, name), text);
  }
  return root;
}

test('without a quota there are as many CPUs as the process may run on', (t) => {
  const all = availableParallelism();
  t.is(cpuCount(rootWith(t, {})), all);
  t.is(cpuCount(rootWith(t, { 'proc/self/cgroup': '0::/app\n', 'sys/fs/cgroup/app/cpu.max': 'max 100000\n' })), all);
  t.is(
    cpuCount(
      rootWith(t, {
        'proc/self/cgroup': '4:cpu,cpuacct:/app\n',
        'sys/fs/cgroup/cpu/app/cpu.cfs_quota_us': '-1\n',
        'sys/fs/cgroup/cpu/app/cpu.cfs_period_us': '100000\n',
      }),
    ),
    all,
  );
});

test('the least quota of the control group and those above it counts, rounded down, and is at least one CPU', (t) => {
  const above = { 'proc/self/cgroup': '0::/pod/app\n', 'sys/fs/cgroup/pod/app/cpu.max': 'max 100000\n' };
  t.is(cpuCount(rootWith(t, { ...above, 'sys/fs/cgroup/pod/cpu.max': '150000 100000\n' })), 1);
  t.is(cpuCount(rootWith(t, { ...above, 'sys/fs/cgroup/cpu.max': '20000 100000\n' })), 1);
  const old = {
    'proc/self/cgroup': '7:memory:/x\n4:cpu,cpuacct:/\n',
    'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '100000\n',
    'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
  };
  t.is(cpuCount(rootWith(t, old)), 1);
});
