/**
 * What can go wrong in a simulated pool. A rate is the chance per opportunity named here; 0 switches the kind off.
 */
export const FAULT_KINDS = [
  // records (per record)
  'poison-throw', // predict throws for every batch that holds it
  'poison-row', // predict answers it alone with an Error
  'poison-crash', // the replica dies under it
  'cancel', // its caller gives it up
  // batches (per batch begun)
  'throw', // predict throws once, for no reason in the records
  'crash',
  'exit-0', // process.exit(0) without a reply
  'oom',
  'hang',
  'slow', // ten times as long as it should
  'wrong-count', // one output too few
  // replies (per reply)
  'reply-twice',
  'reply-late', // arrives long after, maybe after the replica was replaced
  'reply-invented', // a batch id nobody asked for
  // replicas (per disturbance or start)
  'kill', // SIGKILL from outside
  'idle-exit', // process.exit(0) while idle
  'pause', // SIGSTOP, later SIGCONT; a zombie if it was replaced meanwhile
  'load-fail',
  'load-hang',
  'load-slow',
  'stop-ignored', // obeys no rung of the stop ladder but the last
  // edges
  'slow-consumer',
  'wall-jump',
  'loop-stall', // the host's own loop stands still
  'bad-version', // a version that never loads
  // found, not planned
  'dead-send', // a message to a process that is gone: vanishes without a word
  // later than the others: a seed draws for those what it drew before there was this one
  'poor-version', // a version that comes up, and fails half of its records while it is on trial
] as const;

export type FaultKind = (typeof FAULT_KINDS)[number];
export type FaultRates = Record<FaultKind, number>;

export const FAULT: Readonly<Record<FaultKind, number>> = Object.fromEntries(
  FAULT_KINDS.map((kind, index) => [kind, index]),
) as Record<FaultKind, number>;

const NONE = Object.fromEntries(FAULT_KINDS.map((kind) => [kind, 0])) as FaultRates;

export function noFaults(): FaultRates {
  return { ...NONE };
}

/** [low, high] of the rate a seed draws, when it uses the kind at all. */
export const USUAL_RATES: Readonly<Record<FaultKind, readonly [number, number]>> = {
  'poison-throw': [0.005, 0.05],
  'poison-row': [0.005, 0.1],
  'poison-crash': [0.002, 0.02],
  cancel: [0.01, 0.2],
  throw: [0.01, 0.1],
  crash: [0.005, 0.05],
  'exit-0': [0.005, 0.05],
  oom: [0.005, 0.05],
  hang: [0.005, 0.05],
  slow: [0.01, 0.1],
  'wrong-count': [0.005, 0.05],
  'reply-twice': [0.01, 0.2],
  'reply-late': [0.01, 0.1],
  'reply-invented': [0.01, 0.1],
  kill: [0.05, 0.5],
  'idle-exit': [0.02, 0.3],
  pause: [0.02, 0.3],
  'load-fail': [0.01, 0.15],
  'load-hang': [0.005, 0.1],
  'load-slow': [0.05, 0.5],
  'stop-ignored': [0.05, 0.5],
  'slow-consumer': [1, 1],
  'wall-jump': [0.2, 1],
  'loop-stall': [0.05, 0.3],
  'bad-version': [0.2, 0.8],
  'dead-send': [0, 0],
  'poor-version': [0.2, 0.8],
};
