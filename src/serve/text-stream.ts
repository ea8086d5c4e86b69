import { TroupeError } from '../kernel/errors.js';
import type { TextPart } from '../wire/served-kinds.js';
import { partOf } from './openai-answer.js';
import { PieceStream } from './piece-stream.js';
import { ToolCalls } from './tool-calls.js';

/** What an actor answered as the pieces of one text. */
export class TextStream extends PieceStream<TextPart> {
  constructor(answer: unknown) {
    super(answer, partOf);
  }

  /** All of it as one. `charsMax`: more is not held. */
  async whole(deadlineAt: number, charsMax: number): Promise<TextPart> {
    const texts: string[] = [];
    const calls = new ToolCalls();
    let chars = 0;
    let last: TextPart = {};
    try {
      for (;;) {
        const part = await this.next(deadlineAt);
        if (part === undefined) break;
        const { text = '', finishReason = last.finishReason, usage = last.usage } = part;
        texts.push(text);
        for (const call of part.toolCalls ?? []) calls.add(call);
        chars += text.length;
        if (chars + calls.chars > charsMax)
          throw new TroupeError('RECORD_TOO_LARGE', `The answer has more than ${charsMax} characters`);
        last = { ...(finishReason === undefined ? {} : { finishReason }), ...(usage === undefined ? {} : { usage }) };
      }
    } catch (error) {
      this.giveUp();
      throw error;
    }
    const toolCalls = calls.whole();
    return { text: texts.join(''), ...last, ...(toolCalls === undefined ? {} : { toolCalls }) };
  }
}
