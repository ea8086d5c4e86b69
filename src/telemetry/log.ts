/** One line of the log: what happened, where, with plain data. No payloads of records, ever. */
export interface LogEntry {
  /** `audit`: somebody asked the control plane to change something, and what came of it. */
  readonly level: 'info' | 'warn' | 'error' | 'audit';
  readonly message: string;
  readonly pool?: string;
  readonly replica?: number;
  readonly incarnation?: number;
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
  // Messages of model code reach this line: control characters would act on a terminal.
  process.stderr.write(
    `troupe ${entry.level}${where}: ${entry.message.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').slice(0, 2000)}\n`,
  );
};

export const silentLog: Log = () => undefined;
