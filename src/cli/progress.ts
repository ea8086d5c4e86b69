import { type Clock, systemClock } from '../kernel/clock.js';
import { countText, durationText, numberText, plainText } from '../control/text.js';

/** The part of a writable stream that is used; process.stderr is one. */
export interface ProgressOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export interface ProgressOptions {
  /** What is counted, for the beginning of the line. Default: records. */
  readonly label?: string;
  /** How many there will be, where that is known: then there is a bar and a time left. */
  readonly total?: number;
  /** Default: process.stderr. On a terminal one line is drawn again and again, elsewhere plain lines follow each other. */
  readonly output?: ProgressOutput;
  /** Writes nothing at all. Default: false. */
  readonly isQuiet?: boolean;
  readonly clock?: Clock;
}

export interface Progress {
  /** How many there will be, where that becomes known while the work goes on. */
  expect(total: number): void;
  /** How many are done. Cheap: draws at most every 100 ms on a terminal, writes at most every 2 s elsewhere. */
  update(done: number): void;
  /** Takes the line away, so that others may write; the next update draws it again. */
  clear(): void;
  /** Draws the last state and ends the line. */
  finish(): void;
}

const DRAW_EVERY_MS = 100;
const LINE_EVERY_MS = 2000;
/** The rate follows changes within about this long, and does not jump with every batch. */
const RATE_WINDOW_MS = 3000;
const BAR_CELLS = 24;

/** A progress bar with rate and time left. Draws only inside calls to it: it owns no timer, so nothing keeps a process alive. */
export function createProgress(options: ProgressOptions = {}): Progress {
  const { label = 'records', output = process.stderr, isQuiet = false, clock = systemClock } = options;
  const isTerminal = output.isTTY === true;
  const startedAt = clock.now();
  let { total } = options;
  let done = 0;
  let rate: number | undefined;
  let measuredAt = startedAt;
  let measuredDone = 0;
  let shownAt = isTerminal ? -Infinity : startedAt;
  let shownDone: number | undefined;
  let isDrawn = false;

  const measure = (now: number): void => {
    const passedMs = now - measuredAt;
    if (passedMs < DRAW_EVERY_MS) return;
    const fresh = ((done - measuredDone) / passedMs) * 1000;
    const weight = rate === undefined ? 1 : 1 - Math.exp(-passedMs / RATE_WINDOW_MS);
    rate = (rate ?? 0) + weight * (fresh - (rate ?? 0));
    measuredAt = now;
    measuredDone = done;
  };

  const show = (now: number): void => {
    shownAt = now;
    shownDone = done;
    const text = plainText(lineOf({ label, total, done, rate, elapsedMs: now - startedAt, withBar: isTerminal }));
    if (!isTerminal) {
      output.write(`${text}\n`);
      return;
    }
    // A line that wraps could not be drawn over.
    output.write(`\r${text.slice(0, Math.max(10, (output.columns || 80) - 1))}\u001b[K`);
    isDrawn = true;
  };

  return {
    expect(count) {
      total = count;
    },
    update(next) {
      done = next;
      if (isQuiet) return;
      const now = clock.now();
      measure(now);
      if (now - shownAt >= (isTerminal ? DRAW_EVERY_MS : LINE_EVERY_MS)) show(now);
    },
    clear() {
      if (isDrawn) output.write('\r\u001b[K');
      isDrawn = false;
      shownAt = isTerminal ? -Infinity : shownAt;
    },
    finish() {
      if (isQuiet) return;
      const now = clock.now();
      const elapsedMs = now - startedAt;
      // The last word is about the whole, not about the last seconds.
      if (elapsedMs > 0) rate = (done / elapsedMs) * 1000;
      if (isTerminal) {
        show(now);
        output.write('\n');
        isDrawn = false;
      } else if (shownDone !== undefined && shownDone !== done) show(now);
    },
  };
}

interface LineFacts {
  readonly label: string;
  readonly total: number | undefined;
  readonly done: number;
  readonly rate: number | undefined;
  readonly elapsedMs: number;
  readonly withBar: boolean;
}

function lineOf({ label, total, done, rate, elapsedMs, withBar }: LineFacts): string {
  const speed = rate === undefined ? '' : `  ${numberText(rate)}/s`;
  if (total === undefined || total <= 0) return `${countText(done)} ${label}${speed}  ${durationText(elapsedMs)}`;
  const share = Math.min(1, done / total);
  const filled = Math.floor(share * BAR_CELLS);
  const bar = withBar ? `[${'#'.repeat(filled)}${'-'.repeat(BAR_CELLS - filled)}] ` : '';
  const percent = `${String(Math.floor(share * 100)).padStart(3)}%`;
  const left =
    done < total && rate !== undefined && rate > 0 ? `  ${durationText(((total - done) / rate) * 1000)} left` : '';
  return `${bar}${percent}  ${countText(done)} of ${countText(total)} ${label}${speed}${left}`;
}
