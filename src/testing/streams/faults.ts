/** What can go wrong in a simulated stream. A rate is the chance per opportunity named here; 0 switches the kind off. */
export const STREAM_FAULT_KINDS = [
  // the run as a whole
  'kill', // SIGKILL (per planned end); what was not synced is lost, what was under way may have been done or not
  'stop', // a graceful stop in mid-run (per planned end)
  // source (per open, per read, per record)
  'open-fail',
  'read-fail', // ends the run
  'read-slow',
  'bad-record', // cannot be read, alone
  // steps (per record)
  'map-throw',
  'expand-throw', // a flatMap that throws after some of its children
  // records and batches at the actor
  'poison', // predict throws for it, every time (per record)
  'row-error', // an error in the place of its result (per record and batch)
  'throw', // (per batch from here on)
  'wrong-count',
  'crash',
  'oom',
  'hang', // no answer; declared hung after the batch timeout
  'late-answer', // declared hung, and answers after all
  'slow',
  'outage', // for a while every batch fails
  // the way into the pool (per offer)
  'shed', // accepted, then dropped by the overflow rule
  'refuse', // refused, with or without a hint when to come again
  // sinks (per write, prepare, commit, close)
  'write-slow',
  'write-fail',
  'prepare-fail',
  'commit-fail',
  'close-fail',
  // acknowledgements and checkpoints (per round)
  'acknowledge-fail',
  'save-slow',
  'save-fail',
  'restore-fail', // the store cannot be opened; the next try can
  'corrupt', // the newest checkpoint is damaged when it is read (per restore)
  // time
  'wall-jump', // per planned disturbance
  'stall', // the loop stands still
] as const;

export type StreamFaultKind = (typeof STREAM_FAULT_KINDS)[number];
export type StreamFaultRates = Record<StreamFaultKind, number>;

export const STREAM_FAULT: Readonly<Record<StreamFaultKind, number>> = Object.fromEntries(
  STREAM_FAULT_KINDS.map((kind, index) => [kind, index]),
) as Record<StreamFaultKind, number>;

const NONE = Object.fromEntries(STREAM_FAULT_KINDS.map((kind) => [kind, 0])) as StreamFaultRates;

export function noStreamFaults(): StreamFaultRates {
  return { ...NONE };
}

/** [low, high] of the rate a seed draws, when it uses the kind at all. */
export const USUAL_STREAM_RATES: Readonly<Record<StreamFaultKind, readonly [number, number]>> = {
  kill: [0.3, 1],
  stop: [0.1, 0.4],
  'open-fail': [0.05, 0.3],
  'read-fail': [0.005, 0.05],
  'read-slow': [0.05, 0.3],
  'bad-record': [0.01, 0.1],
  'map-throw': [0.01, 0.1],
  'expand-throw': [0.01, 0.1],
  poison: [0.01, 0.1],
  'row-error': [0.01, 0.1],
  throw: [0.01, 0.1],
  'wrong-count': [0.01, 0.05],
  crash: [0.02, 0.15],
  oom: [0.01, 0.08],
  hang: [0.01, 0.06],
  'late-answer': [0.01, 0.06],
  slow: [0.02, 0.2],
  outage: [0.01, 0.05],
  shed: [0.01, 0.1],
  refuse: [0.01, 0.1],
  'write-slow': [0.05, 0.3],
  'write-fail': [0.005, 0.05],
  'prepare-fail': [0.01, 0.1],
  'commit-fail': [0.01, 0.1],
  'close-fail': [0.05, 0.3],
  'acknowledge-fail': [0.02, 0.15],
  'save-slow': [0.05, 0.4],
  'save-fail': [0.02, 0.15],
  'restore-fail': [0.05, 0.3],
  corrupt: [0.05, 0.3],
  'wall-jump': [0.2, 1],
  stall: [0.05, 0.4],
};
