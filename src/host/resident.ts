import { readFileSync } from 'node:fs';

/** Resident memory of a process, where the system has /proc; undefined elsewhere, and for one that is gone. */
export function residentBytesOf(pid: number): number | undefined {
  try {
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}
