import type { LifecycleTable } from '../kernel/lifecycle.js';

export type ReplicaState =
  | 'idle'
  | 'starting'
  | 'ready'
  | 'draining'
  | 'recycling'
  | 'replacing'
  | 'dying'
  | 'stopping'
  | 'backoff'
  | 'stopped'
  | 'failed';
export type ReplicaEvent =
  | 'start'
  | 'ready'
  | 'drain'
  | 'recycle'
  | 'replace'
  | 'condemn'
  | 'stop'
  | 'died'
  | 'ended'
  | 'gave-up';

/**
 * One replica slot. `died` leads to another start, `ended` does not, `gave-up` says the restart budget is used up.
 * `recycling`: stopped on purpose to start again with its siblings. `replacing`: ended because nobody waits for what it
 * runs, to start again by itself. `dying`: declared hung, its end is awaited.
 */
export const REPLICA_LIFECYCLE: LifecycleTable<ReplicaState, ReplicaEvent> = {
  idle: { start: 'starting', stop: 'stopped' },
  starting: {
    ready: 'ready',
    stop: 'stopping',
    recycle: 'recycling',
    died: 'backoff',
    ended: 'stopped',
    'gave-up': 'failed',
  },
  ready: {
    drain: 'draining',
    recycle: 'recycling',
    replace: 'replacing',
    condemn: 'dying',
    stop: 'stopping',
    died: 'backoff',
    ended: 'stopped',
    'gave-up': 'failed',
  },
  draining: { condemn: 'stopping', stop: 'stopping', died: 'stopped', ended: 'stopped', 'gave-up': 'stopped' },
  recycling: { condemn: 'recycling', stop: 'stopping', died: 'backoff', ended: 'stopped', 'gave-up': 'failed' },
  replacing: {
    condemn: 'replacing',
    stop: 'stopping',
    died: 'backoff',
    ended: 'stopped',
    'gave-up': 'failed',
  },
  dying: {
    stop: 'stopping',
    drain: 'stopping',
    recycle: 'recycling',
    died: 'backoff',
    ended: 'stopped',
    'gave-up': 'failed',
  },
  stopping: { stop: 'stopping', condemn: 'stopping', died: 'stopped', ended: 'stopped', 'gave-up': 'stopped' },
  backoff: { start: 'starting', stop: 'stopped', drain: 'stopped' },
  stopped: { stop: 'stopped' },
  failed: { stop: 'stopped', drain: 'stopped', start: 'starting' },
};

export type PoolState = 'starting' | 'running' | 'draining' | 'stopping' | 'stopped' | 'failed';
export type PoolEventName = 'up' | 'fail' | 'drain' | 'stop' | 'gone' | 'restart';

/** One pool. `draining` takes no more but finishes what it holds; `failed` has no replica left and no budget. */
export const POOL_LIFECYCLE: LifecycleTable<PoolState, PoolEventName> = {
  starting: { up: 'running', fail: 'failed', drain: 'draining', stop: 'stopping' },
  running: { up: 'running', fail: 'failed', drain: 'draining', stop: 'stopping' },
  draining: { up: 'draining', fail: 'failed', drain: 'draining', stop: 'stopping' },
  stopping: { stop: 'stopping', gone: 'stopped', fail: 'stopping' },
  stopped: { stop: 'stopped', gone: 'stopped' },
  failed: { fail: 'failed', drain: 'failed', stop: 'stopping', restart: 'starting' },
};
