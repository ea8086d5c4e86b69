import { readFileSync } from 'node:fs';

export interface MachineMemory {
  readonly totalBytes: number;
  readonly usedBytes: number;
}

interface CpuTicks {
  readonly busy: number;
  readonly all: number;
}

/**
 * What the whole machine does, by its /proc; undefined where there is none. In a container that is still the machine, its
 * limits apart. What counts as busy and as used is Triton's way (metrics.cc of triton-inference-server/core).
 */
export class MachineWatch {
  readonly #read: (name: string) => string;
  #before: CpuTicks = { busy: 0, all: 0 };
  #share: number | undefined;

  /** `read`: the text of a file of /proc, '' for none. */
  constructor(read: (name: string) => string = readProc) {
    this.#read = read;
  }

  /** Which part of the time of all CPUs was not idle, from 0 to 1, since the call before, or since the machine began. */
  cpuShare(): number | undefined {
    const now = ticksIn(this.#read('stat'));
    if (now === undefined) return undefined;
    const before = this.#before;
    this.#before = now;
    const all = now.all - before.all;
    // A tick is 10 ms: calls may come faster.
    if (all > 0) this.#share = Math.min(1, Math.max(0, (now.busy - before.busy) / all));
    return this.#share;
  }

  memory(): MachineMemory | undefined {
    const text = this.#read('meminfo');
    const bytesOf = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) * 1024;
    const [totalBytes, available] = [bytesOf('MemTotal'), bytesOf('MemAvailable')];
    return totalBytes >= available ? { totalBytes, usedBytes: totalBytes - available } : undefined;
  }
}

/** Of all CPUs: user, nice, system, idle, iowait, irq, softirq, steal. Guests are among user and nice. */
function ticksIn(stat: string): CpuTicks | undefined {
  const ticks = /^cpu +(\d+(?: \d+){7})/m.exec(stat)?.[1]?.split(' ').map(Number);
  if (ticks === undefined) return undefined;
  const all = ticks.reduce((sum, one) => sum + one, 0);
  const [, , , idle = 0, waiting = 0] = ticks;
  return { busy: all - idle - waiting, all };
}

function readProc(name: string): string {
  try {
    return readFileSync(`/proc/${name}`, 'utf8');
  } catch {
    return '';
  }
}
