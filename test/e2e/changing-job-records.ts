/** What changing-job.ts is given and what it was asked to do, for the job, its actor and its verifier. */
export interface Numbered {
  readonly n: number;
}

export interface Settings {
  readonly order: 'ordered' | 'unordered' | 'keyed';
  readonly isolation: 'inline' | 'thread' | 'process';
  readonly replicas: number;
  readonly maxSize: number;
  readonly capacity: number;
  readonly chunkSize: number;
  /** Ends itself with SIGKILL when a checkpoint holds at least this many results of this life. */
  readonly killAfter: number | undefined;
}

export const keyOf = ({ n }: Numbered): string => String(n % 5);
export const isPoison = ({ n }: Numbered): boolean => n % 37 === 5;
