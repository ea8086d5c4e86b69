import { type Clock, systemClock } from '../kernel/clock.js';

/** One line of the log: what happened, where, with plain data. No payloads of records, ever. */
export interface LogEntry {
  /** `audit`: somebody asked the control plane to change something, and what came of it. */
  readonly level: 'info' | 'warn' | 'error' | 'audit';
  readonly message: string;
  readonly pool?: string;
  readonly replica?: number;
  readonly incarnation?: number;
  readonly version?: string;
  /** Code of the error, where there is one. */
  readonly code?: string;
}

export type Log = (entry: LogEntry) => void;

/** Writes warnings, errors and audit lines to stderr, one line each; info is left out. Results live on stdout. */
export const stderrLog: Log = (entry) => {
  if (entry.level === 'info') return;
  const where =
    entry.pool === undefined
      ? ''
      : ` pool=${entry.pool}${entry.replica === undefined ? '' : ` replica=${entry.replica}`}`;
  process.stderr.write(`troupe ${entry.level}${where}: ${plain(entry.message)}\n`);
};

/** Writes every entry as one line of JSON with its `time` (ISO 8601), for collectors of logs; info too. */
export function jsonLog(write: (line: string) => unknown, clock: Clock = systemClock): Log {
  return ({ level, message, pool, replica, incarnation, version, code }) => {
    const time = new Date(clock.wallNow()).toISOString();
    write(`${JSON.stringify({ time, level, message: plain(message), pool, replica, incarnation, version, code })}\n`);
  };
}

/** Messages of model code reach these lines: control characters would act on a terminal, and nobody bounds their length. */
function plain(message: string): string {
  return message.replace(/\p{Cc}+/gu, ' ').slice(0, 2000);
}

export const silentLog: Log = () => undefined;
