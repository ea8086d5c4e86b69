/** What SIGINT and SIGTERM ask of a job. */
export interface Signals {
  /** Aborts with the first signal: read nothing more, finish what is under way. */
  readonly stop: AbortSignal;
  /** Aborts with the second: end at once. A third one ends the process by itself. */
  readonly kill: AbortSignal;
  /** 128 + number of the first signal; 0 without one. */
  exitCode(): number;
  /** Takes the listeners away. */
  [Symbol.dispose](): void;
}

/** The same signal again within this time is the same wish: npm sends on to its child what the terminal has sent it too. */
const SAME_WISH_MS = 200;
/** What is sent on may be late on a busy machine, and must not cut off the end that the second signal asked for. */
const LATE_MS = 1000;

const NUMBERS = { SIGINT: 2, SIGTERM: 15 } as const;

export function watchSignals(): Signals {
  const stop = new AbortController();
  const kill = new AbortController();
  let code = 0;
  let stoppedAt = 0;
  let killedAt = 0;
  const onSignal = (name: NodeJS.Signals): void => {
    const asCode = 128 + NUMBERS[name as keyof typeof NUMBERS];
    if (asCode === code && performance.now() - stoppedAt < SAME_WISH_MS) return;
    if (code === 0) {
      code = asCode;
      stoppedAt = performance.now();
      process.stderr.write(`\n${name}: finishing what is under way; once more ends at once\n`);
      stop.abort();
    } else if (killedAt === 0) {
      killedAt = performance.now();
      kill.abort();
    } else if (performance.now() - killedAt > LATE_MS) {
      // Nobody listens any more: it ends the process.
      unlisten();
      process.kill(process.pid, name);
    }
  };
  const unlisten = (): void => {
    for (const name of Object.keys(NUMBERS)) process.off(name, onSignal);
  };
  for (const name of Object.keys(NUMBERS)) process.on(name, onSignal);
  return { stop: stop.signal, kill: kill.signal, exitCode: () => code, [Symbol.dispose]: unlisten };
}
