import { systemClock } from '../kernel/clock.js';

/**
 * The replicas that are alive in this process, so that it can end cleanly: leaving while a native engine runs in a thread
 * aborts the process (exit 134), and a child that is not told to stop keeps its device memory a moment longer.
 */
export interface LiveReplica {
  stop(options?: { readonly now?: boolean }): void;
  /** Resolves when nothing of it runs any more; later than `exited` for one that was fenced. */
  readonly closed: Promise<void>;
}

export interface DrainReport {
  /** Replicas that ended. */
  readonly endedCount: number;
  /** Replicas that still run when the budget was used up: code that cannot be interrupted. */
  readonly leftCount: number;
}

const live = new Set<LiveReplica>();

/** How long the second, forced round of drainAll may take. */
const FORCE_MS = 1000;

/** Remembers a replica until it is closed. Called by every link at its start. */
export function trackLive(replica: LiveReplica): void {
  live.add(replica);
  void replica.closed.then(() => live.delete(replica));
}

/** How many replicas are alive, fenced ones included. */
export function liveCount(): number {
  return live.size;
}

/**
 * Stops every replica of this process: gracefully within `budgetMs`, then by force. Call it before process.exit. Never
 * rejects. With `leftCount` above zero, end the process by a signal (SIGKILL), not by process.exit.
 */
export async function drainAll(budgetMs: number): Promise<DrainReport> {
  const all = [...live];
  const everyClosed = Promise.all(all.map((replica) => replica.closed));
  for (const replica of all) replica.stop();
  if (!(await settlesWithin(everyClosed, budgetMs))) {
    for (const replica of live) replica.stop({ now: true });
    await settlesWithin(everyClosed, FORCE_MS);
  }
  const leftCount = all.filter((replica) => live.has(replica)).length;
  return { endedCount: all.length - leftCount, leftCount };
}

async function settlesWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
  const { promise, cancel } = after(ms);
  const isDone = await Promise.race([work.then(() => true), promise]);
  cancel();
  return isDone;
}

function after(ms: number): { promise: Promise<false>; cancel: () => void } {
  let cancel = (): void => undefined;
  const promise = new Promise<false>((resolve) => {
    const timer = systemClock.at(systemClock.now() + ms, () => resolve(false));
    cancel = () => timer.cancel();
  });
  return { promise, cancel };
}
