import { type Clock, systemClock } from '../kernel/clock.js';
import { isTroupeError } from '../kernel/errors.js';
import type { PsAnswer } from './answers.js';
import type { Calls } from './calls.js';
import { psText } from './shown.js';
import { numberText, plainText, tableText } from './text.js';

/** The part of a writable stream that is used; process.stdout is one. */
export interface TopOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
}

export interface TopOptions {
  readonly output: TopOutput;
  /** Ends it. */
  readonly stop: AbortSignal;
  readonly everyMs: number;
  readonly count: number;
  readonly clock?: Clock;
}

/** The other screen of the terminal, without a cursor; and back. */
const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';
const HOME = '\u001b[H';
const REST_OF_LINE = '\u001b[K';
const REST_OF_SCREEN = '\u001b[J';

/**
 * Shows `ps` with rates again and again: on a terminal in one place, elsewhere one table after another. With a connection
 * that comes back, a system that is away is shown as it was last, and as away. Rejects where `count` tables were asked for
 * and there is no connection any more.
 */
export async function runTop(calls: Calls, options: TopOptions): Promise<void> {
  const { output, stop, everyMs, count, clock = systemClock } = options;
  const isTerminal = output.isTTY === true;
  let before: Sample | undefined;
  if (isTerminal) output.write(ENTER);
  try {
    for (let drawn = 0; drawn < count && !stop.aborted; drawn += 1) {
      if (drawn > 0) await pause(everyMs, stop, clock);
      if (stop.aborted) return;
      let text: string;
      try {
        const sample = { answer: await calls.ps(), at: clock.now() };
        // What a system has counted that was started anew is no rate with what the old one had.
        const isSame = before !== undefined && before.answer.upMs <= sample.answer.upMs;
        text = topText(sample, isSame ? before : undefined);
        before = sample;
      } catch (error) {
        const isAway = isTroupeError(error) && error.code === 'CONTROL_UNREACHABLE';
        if (!isAway || before === undefined || count < Infinity) throw error;
        text = `AWAY: ${plainText(error.message)}\n\n${psText(before.answer)}`;
      }
      output.write(isTerminal ? onScreen(text, output) : `${drawn === 0 ? '' : '\n'}${text}\n`);
    }
  } finally {
    if (isTerminal) output.write(LEAVE);
  }
}

interface Sample {
  readonly answer: PsAnswer;
  readonly at: number;
}

function topText({ answer, at }: Sample, before: Sample | undefined): string {
  const rates = answer.pools.map(({ name, results, errors }) => {
    const past = before?.answer.pools.find((pool) => pool.name === name);
    const seconds = before === undefined ? 0 : (at - before.at) / 1000;
    const rate = (now: number, then: number): string => (seconds > 0 ? numberText((now - then) / seconds) : '-');
    const shown = plainText(name);
    return past === undefined ? [shown, '-', '-'] : [shown, rate(results, past.results), rate(errors, past.errors)];
  });
  if (rates.length === 0) return psText(answer);
  return `${psText(answer)}\n\n${tableText([['pool', 'results/s', 'errors/s'], ...rates], 'figures')}`;
}

/** Lines that wrap, or more of them than there is room for, would break the picture. */
function onScreen(text: string, { columns = 80, rows = 24 }: TopOptions['output']): string {
  const lines = text.split('\n').slice(0, rows - 1);
  return HOME + lines.map((line) => `${line.slice(0, columns - 1)}${REST_OF_LINE}\n`).join('') + REST_OF_SCREEN;
}

function pause(ms: number, stop: AbortSignal, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const timer = clock.at(clock.now() + ms, end);
    function end(): void {
      timer.cancel();
      stop.removeEventListener('abort', end);
      resolve();
    }
    stop.addEventListener('abort', end);
  });
}
