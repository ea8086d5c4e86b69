import { readdirSync, readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** This process and its children, as Linux sees them. */

export interface Child {
  readonly pid: number;
  /** What it was started with, after the name of the program. */
  readonly args: readonly string[];
}

/** Its children that run still. */
export function children(): Child[] {
  const found: Child[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(parent) !== process.pid || state === 'Z' || state === 'X') continue;
      const [, ...args] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      found.push({ pid, args });
    } catch {
      // It has ended meanwhile.
    }
  }
  return found;
}

/** What all of them hold, pages that several share counted once; without the garbage of this one. */
export function familyBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return [process.pid, ...children().map(({ pid }) => pid)].reduce((sum, pid) => sum + proportionalBytes(pid), 0);
}

function proportionalBytes(pid: number): number {
  try {
    return 1024 * Number(/^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]);
  } catch {
    return 0; // It has ended meanwhile.
  }
}
