import { systemClock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import type { TextPart } from '../wire/served-kinds.js';
import { giveUp, isTokenStream } from '../wire/token-stream.js';
import { partOf } from './openai-answer.js';

/** What an actor answered as the pieces of one text, whether it gave a stream or the whole. */
export class TextStream {
  readonly #answer: unknown;
  readonly #pieces: AsyncIterator<unknown> | undefined;
  #wholeTaken = false;

  constructor(answer: unknown) {
    this.#answer = answer;
    this.#pieces = isTokenStream(answer) ? answer[Symbol.asyncIterator]() : undefined;
  }

  /** Undefined at the end. Rejects with what ended it early, or DEADLINE_PASSED. */
  async next(deadlineAt = Infinity): Promise<TextPart | undefined> {
    if (this.#pieces === undefined) {
      if (this.#wholeTaken) return undefined;
      this.#wholeTaken = true;
      return partOf(this.#answer);
    }
    const result = await within(this.#pieces.next(), deadlineAt, () => this.giveUp());
    return result.done === true ? undefined : partOf(result.value);
  }

  /** All of it as one. `charsMax`: more is not held. */
  async whole(deadlineAt: number, charsMax: number): Promise<TextPart> {
    const texts: string[] = [];
    const toolCalls: unknown[] = [];
    let chars = 0;
    let last: TextPart = {};
    try {
      for (;;) {
        const part = await this.next(deadlineAt);
        if (part === undefined) break;
        const { text = '', finishReason = last.finishReason, usage = last.usage } = part;
        texts.push(text);
        toolCalls.push(...(part.toolCalls ?? []));
        chars += text.length;
        if (chars > charsMax)
          throw new TroupeError('RECORD_TOO_LARGE', `The answer has more than ${charsMax} characters`);
        last = { ...(finishReason === undefined ? {} : { finishReason }), ...(usage === undefined ? {} : { usage }) };
      }
    } catch (error) {
      this.giveUp();
      throw error;
    }
    return { text: texts.join(''), ...last, ...(toolCalls.length === 0 ? {} : { toolCalls }) };
  }

  /** Nobody wants the rest. May be called at any time. */
  readonly giveUp = (): void => giveUp(this.#answer);
}

function within<T>(what: Promise<T>, deadlineAt: number, late: () => void): Promise<T> {
  if (deadlineAt === Infinity) return what;
  return new Promise((resolve, reject) => {
    const timer = systemClock.at(deadlineAt, () => {
      late();
      reject(
        new TroupeError('DEADLINE_PASSED', 'The deadline passed before the text was whole', { ran: 'interrupted' }),
      );
    });
    what.then(resolve, reject).finally(() => timer.cancel());
  });
}
