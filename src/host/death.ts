import { type ErrorCode, TroupeError } from '../kernel/errors.js';
import type { RawEnd } from './carrier.js';
import type { Death, ReplicaSpec } from './link.js';

/** What the host itself decided before the replica ended; it outranks what the system says. */
export interface Verdict {
  readonly cause: Death['cause'];
  readonly error?: unknown;
}

/** Signals by which somebody else ends a process; every other deadly signal is the process's own doing. */
const OUTSIDE_SIGNALS = new Set(['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT']);

/** Why a replica ended. `isStopping`: we had asked for it. */
export function judgeDeath(spec: ReplicaSpec, end: RawEnd, verdict: Verdict | undefined, isStopping: boolean): Death {
  const cause = verdict?.cause ?? causeOf(end, isStopping);
  const death: { -readonly [K in keyof Death]: Death[K] } = { cause };
  if (end.exitCode !== undefined) death.exitCode = end.exitCode;
  if (end.signal !== undefined) death.signal = end.signal;
  const error = verdict?.error ?? (cause === 'stopped' ? undefined : deathError(spec, cause, end));
  if (error !== undefined) death.error = error;
  return death;
}

/** Characters of stderr that go into the message. */
const TAIL_MAX = 2048;

/** The typed error of a death, for the records it took along. */
export function deathError(spec: ReplicaSpec, cause: Death['cause'], end: RawEnd): TroupeError {
  const { pool: actor, replica, incarnation, version } = spec;
  const tail =
    end.stderrTail === undefined || end.stderrTail === ''
      ? ''
      : `; stderr ended with: ${end.stderrTail.slice(-TAIL_MAX)}`;
  return new TroupeError(CODE_OF[cause], `Replica ${replica} of "${actor}" ${wordsOf(cause, end)}${tail}`, {
    actor,
    replica,
    incarnation,
    ...(version === undefined ? {} : { modelVersion: version }),
    ...(end.error === undefined ? {} : { cause: end.error }),
  });
}

const CODE_OF: Readonly<Record<Death['cause'], ErrorCode>> = {
  stopped: 'ACTOR_CRASHED',
  exit: 'ACTOR_CRASHED',
  crash: 'ACTOR_CRASHED',
  killed: 'ACTOR_CRASHED',
  hung: 'ACTOR_HUNG',
  oom: 'ACTOR_OOM',
  'load-failed': 'ACTOR_LOAD_FAILED',
  protocol: 'PROTOCOL_VIOLATION',
};

function causeOf(end: RawEnd, isStopping: boolean): Death['cause'] {
  if (end.isOutOfMemory === true) return 'oom';
  if (isStopping && end.error === undefined && (end.exitCode === 0 || isOutside(end.signal))) return 'stopped';
  if (end.error !== undefined) return 'crash';
  if (end.signal !== undefined) return isOutside(end.signal) ? 'killed' : 'crash';
  return 'exit';
}

function isOutside(signal: string | undefined): boolean {
  return signal !== undefined && OUTSIDE_SIGNALS.has(signal);
}

function wordsOf(cause: Death['cause'], end: RawEnd): string {
  const how = end.signal === undefined ? `exit code ${end.exitCode ?? 'unknown'}` : `signal ${end.signal}`;
  const why = end.error instanceof Error ? `: ${end.error.name}: ${end.error.message}` : '';
  switch (cause) {
    case 'stopped':
      return 'was stopped';
    case 'exit':
      return `ended by itself without a reply (${how})`;
    case 'crash':
      return `crashed (${how})${why}`;
    case 'killed':
      return `was ended from outside (${how})`;
    case 'hung':
      return `gave no answer and was given up${why}`;
    case 'oom':
      return `ran out of memory (${how})`;
    case 'load-failed':
      return `could not be loaded${why}`;
    case 'protocol':
      return `broke the protocol${why}`;
    default:
      return cause satisfies never;
  }
}
