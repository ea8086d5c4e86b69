/**
 * Every failure a user can meet has one stable code. The table below is the only place where a code is made; the page
 * docs/errors.md is generated from it.
 */

/** Could the record have run? `not-started`: no, safe to retry. `interrupted`: perhaps. `failed`: predict itself said no. */
export type Ran = 'not-started' | 'interrupted' | 'failed';

interface CodeRow {
  readonly ran: Ran;
  readonly retryable: boolean;
  /** What happened. */
  readonly meaning: string;
  /** What the user can do about it. */
  readonly remedy: string;
}

const row = (ran: Ran, retryable: boolean, meaning: string, remedy: string): CodeRow => ({
  ran,
  retryable,
  meaning,
  remedy,
});

export const ERROR_CODES = {
  // mailbox and time
  MAILBOX_FULL: row(
    'not-started',
    true,
    'The mailbox held as many records or bytes as its capacity and its overflow rule is reject, or too many callers wait already.',
    'Ask later, raise mailbox.capacity or capacityBytes, add replicas, or use overflow: wait.',
  ),
  OVERLOADED: row(
    'not-started',
    true,
    'What waits and runs already would take longer than the deadline of the record allows, so it was refused at once.',
    'Ask again after retryAfterMs, raise timeoutMs, add replicas, or lower the load.',
  ),
  MAILBOX_DROPPED: row(
    'not-started',
    true,
    'The record was dropped by the overflow rule drop-oldest or drop-newest.',
    'Expected under overload with these rules; use wait or reject to keep every record.',
  ),
  RECORD_TOO_LARGE: row(
    'not-started',
    false,
    'One record is larger than mailbox.capacityBytes, so it could never be accepted.',
    'Raise mailbox.capacityBytes or split the record.',
  ),
  DEADLINE_PASSED: row(
    'interrupted',
    true,
    'The deadline of the record passed before its result arrived; the field ran says whether it had been sent.',
    'Raise timeoutMs, add replicas, or lower the load.',
  ),
  CANCELLED: row(
    'interrupted',
    false,
    'The caller gave the record up through its signal.',
    'Nothing: the caller asked for it.',
  ),
  // actors
  NO_REPLICA: row(
    'not-started',
    true,
    'The pool has failed: no replica is left that could run the record, and restarts are used up.',
    'See the cause: it is the death that ended the pool. Repair it, then restart the pool.',
  ),
  BREAKER_OPEN: row(
    'not-started',
    true,
    'The circuit breaker is open: too many calls failed lately, so the record was refused without being tried.',
    'Wait for retryAfterMs; see why calls fail, or give a fallback.',
  ),
  POOL_STOPPED: row(
    'not-started',
    false,
    'The pool is stopping or stopped and takes no records.',
    'Do not ask a pool after stop(); spawn it again.',
  ),
  POOL_ELSEWHERE: row(
    'not-started',
    false,
    'The pool belongs to another process, and only there can it be swapped, scaled, drained or started anew.',
    'Do it in that process, or over its control socket: npx troupe swap, scale or rollback, or npx troupe repl --write.',
  ),
  DRAIN_OVERDUE: row(
    'interrupted',
    true,
    'A pool had not finished what it holds when the time for it was over; nothing was given up, and it goes on.',
    'The message says what is still under way. Wait and ask again, give it more time, or stop the pool.',
  ),
  ACTOR_CRASHED: row(
    'interrupted',
    true,
    'The replica ended while it held the record.',
    'See the cause for the exit code or signal; the record was retried as far as its attempts allowed.',
  ),
  ACTOR_OOM: row(
    'interrupted',
    true,
    'The replica ran out of memory while it held the record.',
    'Lower batching.maxSize, raise the memory limit, or use a smaller model.',
  ),
  ACTOR_HUNG: row(
    'interrupted',
    true,
    'The replica did not answer a batch within batchTimeoutMs, or its heartbeat stopped, and was replaced.',
    'Raise batchTimeoutMs if the model is slow; otherwise look for an endless loop in predict.',
  ),
  ACTOR_LOAD_FAILED: row(
    'not-started',
    false,
    'load() threw, rejected or took longer than loadTimeoutMs.',
    'See the cause; repair the definition, the model or the options.',
  ),
  ACTOR_INVALID: row(
    'not-started',
    false,
    'The actor module cannot be found or its default export is not a definition.',
    'Pass a file URL of a module whose default export comes from defineActor, or the name of a ready-made actor.',
  ),
  PREDICT_FAILED: row(
    'failed',
    false,
    'predict() threw, rejected, or put an Error in the place of this record.',
    'See the cause: it is the error of the model code.',
  ),
  PROTOCOL_VIOLATION: row(
    'failed',
    false,
    'The definition broke the contract: a wrong number of outputs, a wrong output type, or a reply to something never asked; or a remote server answered what is not its protocol.',
    'Return exactly one output per record, in order; of a remote server the message says what came.',
  ),
  REMOTE_UNAVAILABLE: row(
    'not-started',
    true,
    'A remote server could not be reached, said that it cannot answer now, or its answer was cut off or late; the field ran says whether it may have run the record.',
    'It was tried again for retryForMs. See why the server is away, or raise retryForMs and the retry of the step.',
  ),
  REMOTE_FAILED: row(
    'interrupted',
    true,
    'A remote server said of this record alone that it failed (status 500).',
    'See the message, and the log of that server.',
  ),
  REMOTE_REFUSED: row(
    'not-started',
    false,
    'A remote server may not be asked (its address is not allowed, it sends elsewhere), or does not know or not admit who asks for what.',
    'The message says which: correct the endpoint, allow, token or the name of the model.',
  ),
  METHOD_NOT_FOUND: row(
    'not-started',
    false,
    'The definition has no method of that name.',
    'Use a name listed under methods of the definition.',
  ),
  METHOD_FAILED: row('failed', false, 'A method called with call() threw or rejected.', 'See the cause.'),
  INPUT_INVALID: row(
    'not-started',
    false,
    'The record does not fit the tensor signature of the actor, or cannot be copied to another thread or process, or into a checkpoint.',
    'The message names the input, what was expected and what came.',
  ),
  // models and versions
  MODEL_NOT_FOUND: row(
    'not-started',
    false,
    'The model directory or the model file does not exist.',
    'Check the path in the message.',
  ),
  MODEL_INVALID: row(
    'not-started',
    false,
    'The model file is empty, truncated, or not a model the engine can read.',
    'Export the model again; the message names the file.',
  ),
  MODEL_REFUSED: row(
    'not-started',
    false,
    'Something in a model directory is not a plain file of its own (a link, a named pipe, a device), lies outside of it, or two roots hold a model of the same name; or a model file wants data from where it may not take it.',
    'The message names the path; put a copy of the file itself there.',
  ),
  MODEL_CONFIG_INVALID: row(
    'not-started',
    false,
    'The config.pbtxt of a model is not protobuf text, has a field that does not exist, contradicts itself, or names a label file that cannot be read.',
    'The message gives file, line, column, what was expected and what stood there.',
  ),
  MODEL_LOAD_FAILED: row(
    'not-started',
    true,
    'A model of a pool that holds many could not be loaded, and is not tried again before retryAfterMs; other models are not affected.',
    'See the cause: it is what load() threw, or what is wrong with the files of the model.',
  ),
  MODEL_TOO_LARGE: row(
    'not-started',
    false,
    'A model holds more bytes than models.maxBytes leaves a replica for all its models together.',
    'Raise models.maxBytes, or use a smaller model; usesBytes() in load() corrects what the files say.',
  ),
  HASH_MISMATCH: row(
    'not-started',
    false,
    'The files of a model version are not those whose hash is pinned by models.hashes, so it was not loaded.',
    'Put the files back; or, where the change was meant, pin the hash in the message.',
  ),
  SIGNATURE_MISMATCH: row(
    'not-started',
    false,
    'The signature of the model does not fit what is asked of it (batch dimension, dtype, its config.pbtxt, or the version it replaces).',
    'Export the model with a symbolic first dimension and supported dtypes, as its config.pbtxt declares them, equal between versions.',
  ),
  VERSION_NOT_FOUND: row(
    'not-started',
    false,
    'The model has no such version or alias, or its version_policy does not offer it.',
    'The message lists the versions there are.',
  ),
  NAME_INVALID: row(
    'not-started',
    false,
    'The name of a model, a version or an alias does not fit the grammar of names, so it was not looked for.',
    'Names are 1 to 128 of A-Z a-z 0-9 . _ - and do not start with a dot.',
  ),
  SWAP_ROLLED_BACK: row(
    'not-started',
    false,
    'The new version was given up, at the step and for the reason the error names; the old version goes on serving.',
    'See step, reason and cause.',
  ),
  NO_ROLLOUT: row(
    'not-started',
    false,
    'There is no version on trial to promote, or neither one to give up nor one before to go back to.',
    'Look at versions(): it tells what serves and what is under way.',
  ),
  ENGINE_NOT_INSTALLED: row(
    'not-started',
    false,
    'The engine package of a ready-made actor is not installed.',
    'Run the install command in the message.',
  ),
  // streams, files, config
  SOURCE_FAILED: row(
    'not-started',
    true,
    'A source could not be read.',
    'The message names the file or source and what the system said.',
  ),
  FILE_UNREADABLE: row(
    'not-started',
    false,
    'One file of a directory source cannot be read: it vanished, is not permitted, or is part of a symlink loop.',
    'Only this record is affected; see the cause.',
  ),
  PARSE_FAILED: row(
    'not-started',
    false,
    'A line of a file is not valid NDJSON or CSV.',
    'The message names file and line.',
  ),
  OPERATOR_FAILED: row(
    'failed',
    false,
    'A function given to map, filter, flatMap, mapParallel, infer, onFailed or onProgress threw.',
    'See the cause; only this record is affected, but where onFailed or onProgress throws the run ends.',
  ),
  SINK_FAILED: row(
    'interrupted',
    false,
    'A sink could not write.',
    'The message names the sink and what the system said.',
  ),
  CHECKPOINT_FAILED: row(
    'interrupted',
    true,
    'A checkpoint could not be written, or a sink or source could not take part in it; the last good one is kept.',
    'The message names the file or the part and what the system said; checkpoint.onFailure decides whether the run goes on.',
  ),
  CHECKPOINT_INVALID: row(
    'not-started',
    false,
    'No run can go on from what the checkpoint directory holds: another pipeline, a newer format, or nothing whole.',
    'The message names the file and what is wrong; use the version that wrote it, mend the pipeline, or begin anew without resume.',
  ),
  DELIVERY_LIMIT: row(
    'interrupted',
    false,
    'A queue gave the record as often as the limit of its source allows, and it never had an outcome: it may be what ends the process.',
    'Look at the record in the dead letter; raise maxDeliveries or maxAttempts if it was not at fault.',
  ),
  PACKAGE_NOT_INSTALLED: row(
    'not-started',
    false,
    'The client package of a source or sink is not installed, or too old.',
    'Run the install command in the message.',
  ),
  LISTEN_FAILED: row(
    'not-started',
    true,
    'A listener, for metrics or for inference, could not be opened: its port or socket is taken or may not be used, or its certificate cannot be read.',
    'The message says which and why. Choose another port (0 takes a free one) or socket, or stop what listens there.',
  ),
  CONFIG_INVALID: row(
    'not-started',
    false,
    'The config file is missing, not YAML, or does not fit the schema.',
    'The message gives file, line, column, key, what was expected and what stood there.',
  ),
  // operations
  POOL_NOT_FOUND: row(
    'not-started',
    false,
    'The system has no pool of that name.',
    'The message lists the pools there are.',
  ),
  CONTROL_PATH_REFUSED: row(
    'not-started',
    false,
    'The control socket cannot lie there: its directory is not private, something else is at its place, or the path is too long.',
    'The message says what is wrong with the path and what to do; without control.socket a private place is chosen.',
  ),
  CONTROL_IN_USE: row(
    'not-started',
    false,
    'Another running system listens at the control socket.',
    'Give this system another name or another control.socket, or stop the other one.',
  ),
  CONTROL_UNREACHABLE: row(
    'interrupted',
    true,
    'Nobody answers at the control socket, or the connection to it was lost; a call that was under way may have been carried out.',
    'Look whether the system runs and has control in its config; ps says what became of a call.',
  ),
  CONTROL_REFUSED: row(
    'not-started',
    false,
    'The control socket refused the connection or the call: wrong token, another protocol version, too many of them, or a call that changes something on a read-only connection.',
    'The message says which; a REPL that may change things is started with --write.',
  ),
  SERVER_UNREACHABLE: row(
    'not-started',
    true,
    'The pool is that of another process or machine, and there is no connection to it.',
    'The message names the address and why; the connection is tried again by itself until it is closed.',
  ),
  SERVER_REFUSED: row(
    'not-started',
    false,
    'The server of a remote pool does not let this client in: a wrong token, another protocol version, too many connections.',
    'The message says which; see its address and the options of connect.',
  ),
  INTERRUPTED: row(
    'interrupted',
    true,
    'The connection to a remote pool was lost while its server had the record or call, and the server that is there now knows nothing of it.',
    'Send it again where it may run twice; a record of a repeatable actor is sent again by itself, as often as its attempts allow.',
  ),
  APPLY_FAILED: row(
    'failed',
    false,
    'A step from the running system to its config file failed; the steps before it stay done, those after it were not begun.',
    'The message names all three; plan shows what is left, and apply goes on from there.',
  ),
  INTERNAL: row(
    'interrupted',
    false,
    'A check inside Troupe failed. This is a defect of Troupe.',
    'Report it with the message.',
  ),
} as const satisfies Record<string, CodeRow>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** Where and to whom it happened; only what is known is set. */
export interface ErrorDetails {
  /** Overrides the table where the same code can mean either (a deadline before or after sending). */
  ran?: Ran;
  cause?: unknown;
  actor?: string;
  replica?: number;
  incarnation?: number;
  modelVersion?: string;
  /** How often the record had been sent to a replica. */
  attempt?: number;
  /** Ids of the records of the batch concerned. */
  recordIds?: readonly number[];
  /** Trying again earlier than this is of no use; from a `Retry-After` or an open breaker. */
  retryAfterMs?: number;
  /** Of a swap that did not come about: the step it had reached, and why it was given up, in a word. */
  step?: string;
  reason?: string;
}

/** The one error type of Troupe. `code` is stable; `ran` says whether the record may have run. */
export class TroupeError extends Error {
  readonly code: ErrorCode;
  readonly ran: Ran;
  readonly retryable: boolean;
  declare readonly actor?: string;
  declare readonly replica?: number;
  declare readonly incarnation?: number;
  declare readonly modelVersion?: string;
  declare readonly attempt?: number;
  declare readonly recordIds?: readonly number[];
  declare readonly retryAfterMs?: number;
  declare readonly step?: string;
  declare readonly reason?: string;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'TroupeError';
    const facts = ERROR_CODES[code];
    this.code = code;
    this.ran = details.ran ?? facts.ran;
    this.retryable = facts.retryable;
    if (details.actor !== undefined) this.actor = details.actor;
    if (details.replica !== undefined) this.replica = details.replica;
    if (details.incarnation !== undefined) this.incarnation = details.incarnation;
    if (details.modelVersion !== undefined) this.modelVersion = details.modelVersion;
    if (details.attempt !== undefined) this.attempt = details.attempt;
    if (details.recordIds !== undefined) this.recordIds = details.recordIds;
    if (details.retryAfterMs !== undefined) this.retryAfterMs = details.retryAfterMs;
    if (details.step !== undefined) this.step = details.step;
    if (details.reason !== undefined) this.reason = details.reason;
  }
}

/** Narrows by code across realms and copies of the package, where instanceof may fail. Never throws. */
export function isTroupeError(value: unknown): value is TroupeError {
  try {
    return (
      value instanceof Error &&
      'ran' in value &&
      'code' in value &&
      typeof value.code === 'string' &&
      Object.hasOwn(ERROR_CODES, value.code)
    );
  } catch {
    return false; // A proxy whose traps throw; foreign code may throw anything.
  }
}

/** A check that must hold; a failure is a defect of Troupe, never of the user. */
export function invariant(condition: boolean, what: string): asserts condition {
  if (!condition) throw new TroupeError('INTERNAL', `Invariant broken: ${what}`);
}
