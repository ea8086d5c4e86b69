import { threadId } from 'node:worker_threads';

/** Work for the threads of mapParallel. */
export default function square(n: number): number {
  return n * n;
}

export async function picky(n: number): Promise<unknown> {
  if (n === 3) throw Object.assign(new RangeError('no threes'), { code: 'E_THREE' });
  if (n === 5) process.exit(7);
  if (n === 7) return () => n;
  return n;
}

export function whereAmI(): number {
  return threadId;
}

export const notAFunction = 1;
