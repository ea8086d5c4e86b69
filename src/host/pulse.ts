import { type Clock, systemClock, type Timer } from '../kernel/clock.js';

/** How many beats may be missed. */
const MISSED_MAX = 2;

/**
 * Judges whether a child still lives by the beats of its watchdog thread. A host that was busy itself must not blame the
 * child: beats that arrived meanwhile are read first, and a check that came late only starts a new wait.
 */
export class Pulse {
  private readonly heartbeatMs: number;
  private readonly silent: (silentMs: number) => void;
  private readonly isLoading: () => boolean;
  private readonly clock: Clock;
  private lastBeatAt = 0;
  private timer: Timer | undefined;
  private isStopped = false;

  constructor(
    heartbeatMs: number,
    silent: (silentMs: number) => void,
    isLoading: () => boolean,
    clock: Clock = systemClock,
  ) {
    this.heartbeatMs = heartbeatMs;
    this.silent = silent;
    this.isLoading = isLoading;
    this.clock = clock;
  }

  /** A beat came. The first one starts the timer; while it loads only the load deadline holds. */
  beat(): void {
    this.lastBeatAt = this.clock.now();
    if (this.timer === undefined && !this.isStopped) this.arm();
  }

  stop(): void {
    this.isStopped = true;
    this.timer?.cancel();
  }

  private arm(): void {
    const dueAt = this.lastBeatAt + MISSED_MAX * this.heartbeatMs;
    this.timer = this.clock.at(dueAt, () => this.check(dueAt));
  }

  private check(dueAt: number): void {
    const now = this.clock.now();
    // We were the busy one; or it loads, when the machine is often short of processors and loadTimeoutMs holds.
    if (now - dueAt > this.heartbeatMs / 2 || this.isLoading()) this.lastBeatAt = now;
    // After the poll phase, in which beats that wait in the pipe are read.
    setImmediate(() => {
      if (this.isStopped) return;
      const silentMs = this.clock.now() - this.lastBeatAt;
      if (silentMs >= MISSED_MAX * this.heartbeatMs) this.silent(silentMs);
      else this.arm();
    });
  }
}
