import type { Task } from './task.js';

/** How the calls of one cell of the crash matrix ended. */
export interface Cells {
  readonly a: string;
  readonly b: string;
  readonly c: string;
  readonly next: string;
}

export type Ask = (task: Task) => PromiseLike<unknown>;

/** Unsettled after this long counts as a hang, for us and for the peers alike. */
export const HANG_MS = 6000;

/** One worker: A runs and ends it, B and C wait behind; when they have settled or hung, one more call. */
export async function measureCells(ask: Ask, death: 'exit' | 'throw', hangMs = HANG_MS): Promise<Cells> {
  await outcomeOf(ask, { do: 'answer', value: 0 }, hangMs); // The worker is up.
  const [a, b, c] = await Promise.all([
    outcomeOf(ask, { do: death, value: 1 }, hangMs),
    outcomeOf(ask, { do: 'answer', value: 2 }, hangMs),
    outcomeOf(ask, { do: 'answer', value: 3 }, hangMs),
  ]);
  return { a, b, c, next: await outcomeOf(ask, { do: 'answer', value: 4 }, hangMs) };
}

async function outcomeOf(ask: Ask, task: Task, hangMs: number): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const hang = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve('hang'), hangMs);
  });
  const settled = Promise.resolve()
    .then(() => ask(task))
    .then(
      (value) => (value === task.value ? 'ok' : `wrong value ${String(value)}`),
      (error: unknown) => {
        const code = (error as { code?: unknown } | undefined)?.code;
        return typeof code === 'string' ? `rejected ${code}` : 'rejected';
      },
    );
  const outcome = await Promise.race([settled, hang]);
  clearTimeout(timer);
  return outcome;
}
