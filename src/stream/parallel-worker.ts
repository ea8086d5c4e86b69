import { toFault, type Fault } from '../wire/fault.js';

/** What a thread of mapParallel is asked: no values asks only whether the function is there. */
export interface ParallelTask {
  readonly module: string;
  readonly exportName: string;
  readonly values: readonly unknown[];
}

export type ParallelAnswer =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly fault: Fault };

/** The function that piscina calls in its threads. Rejects only where the module has no such function. */
export default async function runTask({ module, exportName, values }: ParallelTask): Promise<ParallelAnswer[]> {
  const exports = (await import(module)) as Record<string, unknown>;
  const fn = exports[exportName];
  if (typeof fn !== 'function') {
    throw new TypeError(
      `its export "${exportName}" is ${fn === undefined ? 'not there' : `no function but ${typeof fn}`}`,
    );
  }
  const answers: ParallelAnswer[] = [];
  for (const value of values) {
    try {
      answers.push({ ok: true, value: (await fn(value)) as unknown });
    } catch (error) {
      answers.push({ ok: false, fault: toFault(error) });
    }
  }
  return answers;
}
