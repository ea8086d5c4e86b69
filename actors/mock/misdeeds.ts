import { existsSync, writeFileSync } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';
import type { MockFault } from './options.js';

/** What is asked of the faults: the number of the batch, and its records as texts, made only when a fault looks at them. */
export interface Occasion {
  readonly batch: number;
  readonly replica: number;
  readonly version: string | undefined;
  textOf(index: number): string;
  readonly count: number;
}

/** The first fault whose conditions all hold. A fault with onceFile leaves its mark here, before the deed. */
export function dueFault(faults: readonly MockFault[], occasion: Occasion): MockFault | undefined {
  for (const fault of faults) {
    if (!isDue(fault, occasion)) continue;
    if (fault.onceFile !== undefined) {
      if (existsSync(fault.onceFile)) continue;
      writeFileSync(fault.onceFile, '');
    }
    return fault;
  }
  return undefined;
}

/** Places of the records that the fault means: those that hold its text, or all. */
export function meantBy(fault: MockFault, occasion: Occasion): number[] {
  const indices = Array.from({ length: occasion.count }, (_, index) => index);
  const { record } = fault;
  return record === undefined ? indices : indices.filter((index) => occasion.textOf(index).includes(record));
}

function isDue(fault: MockFault, occasion: Occasion): boolean {
  if (fault.batch !== undefined && fault.batch !== occasion.batch) return false;
  if (fault.every !== undefined && occasion.batch % fault.every !== 0) return false;
  if (fault.replica !== undefined && fault.replica !== occasion.replica) return false;
  if (fault.version !== undefined && fault.version !== occasion.version) return false;
  return fault.record === undefined || meantBy(fault, occasion).length > 0;
}

/** Faults that answer are the definition's own matter; here are those that end, hang or fill the replica, or throw. */
export function commit(fault: MockFault): void | Promise<void> {
  const error = (): Error => new Error(fault.message ?? `mock: scripted fault "${fault.do}"`);
  switch (fault.do) {
    case 'throw':
      throw error();
    case 'reject':
      return Promise.reject(error());
    case 'reject-late':
      return wait(fault.afterMs ?? 20).then(() => Promise.reject(error()));
    case 'unhandled-rejection':
      void wait(fault.afterMs ?? 20).then(() => Promise.reject(error()));
      return;
    case 'exit':
      process.exit(fault.exitCode ?? 1);
    // process.exit never returns, but in a thread it ends the thread only after this turn.
    case 'hang-loop':
      for (;;);
    case 'abort':
      process.abort();
    case 'segfault':
    case 'sigkill':
      process.kill(process.pid, fault.do === 'segfault' ? 'SIGSEGV' : 'SIGKILL');
      for (;;); // The signal arrives within this loop; nothing may be answered before.
    case 'hang-await':
      return new Promise<void>(() => {});
    case 'oom-heap':
      return fillHeap();
    case 'oom-buffers':
      return fillBuffers(fault.limitBytes ?? 2 ** 31);
    case 'error-in-place':
    case 'too-few':
    case 'too-many':
    case 'no-outputs':
      return;
    default:
      fault.do satisfies never;
  }
}

function fillHeap(): never {
  const held: object[] = [];
  for (let index = 0; ; index++) held.push({ index, text: `record ${index}` });
}

async function fillBuffers(limitBytes: number): Promise<never> {
  const held: Buffer[] = [];
  const stepBytes = 16 * 1024 * 1024;
  for (let bytes = 0; bytes < limitBytes; bytes += stepBytes) {
    held.push(Buffer.alloc(stepBytes, 1)); // Filled, so that the pages are really taken.
    await wait(1);
  }
  throw new Error(`mock: no memory limit ended this replica before ${held.length} buffers of ${stepBytes} bytes`);
}
