import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';

/**
 * How many CPUs this process may use at once: those it may run on, or fewer where its control group has a quota, as the
 * CPU limit of a container is one. At least 1. `root` is where the file system begins.
 */
export function cpuCount(root = '/'): number {
  return Math.max(1, Math.floor(Math.min(availableParallelism(), cpuQuota(root))));
}

/** Of the control group and all those above it, the least; Infinity where there is none. */
function cpuQuota(root: string): number {
  let least = Infinity;
  for (const line of textOf(path.join(root, 'proc/self/cgroup')).split('\n')) {
    const [, controllers = '', group = ''] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    const isOne = controllers === '';
    if (!isOne && !controllers.split(',').includes('cpu')) continue;
    const top = path.join(root, 'sys/fs/cgroup', isOne ? '' : 'cpu');
    for (let at = group; ; at = path.dirname(at)) {
      const dir = path.join(top, at);
      least = Math.min(least, isOne ? quotaOfOne(dir) : quotaOfMany(dir));
      if (at === '/' || at === '.' || at === '') break;
    }
  }
  return least;
}

/** Version 2: `max 100000`, or `150000 100000`. */
function quotaOfOne(dir: string): number {
  const [quota, period] = textOf(path.join(dir, 'cpu.max')).trim().split(' ');
  return ratio(quota, period);
}

/** Version 1: -1 for none. */
function quotaOfMany(dir: string): number {
  return ratio(textOf(path.join(dir, 'cpu.cfs_quota_us')), textOf(path.join(dir, 'cpu.cfs_period_us')));
}

function ratio(quota: string | undefined, period: string | undefined): number {
  const share = Number(quota) / Number(period);
  return share > 0 && Number.isFinite(share) ? share : Infinity;
}

/** Systems without control groups have no such files. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
