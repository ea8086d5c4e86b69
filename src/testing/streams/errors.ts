import { TroupeError } from '../../kernel/errors.js';

// Made once: an Error costs more than the rest of a record's way.
export const SIM_ERRORS = {
  throw: new TroupeError('PREDICT_FAILED', 'predict threw'),
  row: new TroupeError('PREDICT_FAILED', 'this record failed'),
  wrongCount: new TroupeError('PROTOCOL_VIOLATION', 'predict returned a wrong number of outputs'),
  crash: new TroupeError('ACTOR_CRASHED', 'the replica ended'),
  oom: new TroupeError('ACTOR_OOM', 'the replica ran out of memory'),
  hung: new TroupeError('ACTOR_HUNG', 'the replica did not answer'),
  dropped: new TroupeError('MAILBOX_DROPPED', 'dropped by the overflow rule'),
  refused: new TroupeError('NO_REPLICA', 'no replica is left'),
  refusedForNow: new TroupeError('BREAKER_OPEN', 'the breaker of the pool is open', { retryAfterMs: 7 }),
  expiredInQueue: new TroupeError('DEADLINE_PASSED', 'expired in the queue', { ran: 'not-started' }),
  expired: new TroupeError('DEADLINE_PASSED', 'expired while it ran'),
  operator: new TroupeError('OPERATOR_FAILED', 'a function threw'),
  unreadable: new TroupeError('PARSE_FAILED', 'the record cannot be read'),
} as const;

export const BY_CODE: ReadonlyMap<string, TroupeError> = new Map(
  Object.values(SIM_ERRORS).map((error) => [error.code, error]),
);
