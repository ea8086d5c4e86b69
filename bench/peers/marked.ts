import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/**
 * A command with all processes that it starts, however they detach themselves: each carries the environment of the first,
 * where its mark stands. Linux only, by /proc.
 */
const VARIABLE = 'TROUPE_BENCH_MARK';
/** Of /proc/PID/stat. */
const TICKS_PER_SECOND = 100;
let lastMark = 0;

export interface Marked {
  /** Last lines of what it wrote, for the error when it does not come up. */
  readonly said: () => string;
  readonly isRunning: () => boolean;
  /** CPU time of all its processes that live, in microseconds. */
  readonly cpuMicros: () => number;
  /** None of its processes runs until `go`. */
  readonly stop: () => void;
  readonly go: () => void;
  readonly kill: () => void;
}

export function startMarked(
  command: string,
  args: readonly string[],
  { cwd, env }: { readonly cwd: string; readonly env?: Readonly<Record<string, string>> },
): Marked {
  const mark = `${VARIABLE}=${process.pid}-${++lastMark}`;
  const [, value = ''] = mark.split('=');
  // Stdin stays open as long as this process lives: a server may end with it.
  const child = spawn(command, args, {
    cwd,
    env: { ...process.env, ...env, [VARIABLE]: value },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let text = '';
  const keep = (part: Buffer): void => void (text = `${text}${part.toString()}`.slice(-4000));
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  child.stdin.on('error', () => undefined);
  child.on('error', (error) => keep(Buffer.from(error.message)));
  const signal = (name: NodeJS.Signals): void => {
    // A process that was made while the others were told is found by the next look.
    for (let looks = 0, told = -1; looks < 5; looks++) {
      const pids = pidsOf(mark);
      if (pids.length === told) return;
      told = pids.length;
      for (const pid of pids) tell(pid, name);
    }
  };
  return {
    said: () => text.trim().split('\n').slice(-12).join('\n'),
    isRunning: () => child.exitCode === null && child.signalCode === null && child.pid !== undefined,
    cpuMicros: () => pidsOf(mark).reduce((sum, pid) => sum + cpuOf(pid), 0),
    stop: () => signal('SIGSTOP'),
    go: () => signal('SIGCONT'),
    kill: () => signal('SIGKILL'),
  };
}

function pidsOf(mark: string): readonly number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => read(`/proc/${pid}/environ`).split('\0').includes(mark)).map(Number);
}

function tell(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}

function cpuOf(pid: number): number {
  // Behind the name, which stands in brackets and may hold anything: state is field 3, user time 14, system time 15.
  const fields = read(`/proc/${pid}/stat`).split(') ').at(-1)?.split(' ') ?? [];
  return ((Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / TICKS_PER_SECOND) * 1_000_000;
}

/** Empty for a process that has ended, or is not ours to look at. */
function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
