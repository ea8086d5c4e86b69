/** What checkpoint-job.ts makes of its numbers, for the job and for its verifier. */
export interface Child {
  readonly n: number;
  readonly child: number;
}

export const childrenOf = (n: number): Child[] =>
  Array.from({ length: n % 5 === 0 ? 0 : n % 4 === 0 ? 4 : 1 }, (_, child) => ({ n, child }));
export const isPoison = ({ n }: Child): boolean => n % 11 === 1;
export const isKept = ({ n, child }: Child): boolean => (n + child) % 6 !== 5;
