/**
 * What the page asks for that may change the system: the body of a request becomes a verb of the control plane, with its
 * checks and its audit. Who may ask was decided before (page.ts).
 */
import { FrameError, parseFrame } from '../control/frames.js';
import type { Operations } from '../control/operations.js';
import { faultOf } from '../control/peer.js';
import { plainText } from '../control/text.js';
import { z } from '../kernel/schema.js';
import { ByteBudget, formatOf, readBody, Refusal } from '../stream/http-body.js';
import { answer, type HttpListener, type IncomingMessage, type ServerResponse } from '../stream/http-listener.js';
import { PAGE_VERBS } from './state.js';

export const CALL_LIMITS = {
  bodyBytes: 4096,
  /** A swap is answered when it has ended, which takes as long as it takes. */
  callsAtOnce: 16,
  messageChars: 2000,
} as const;

const callSchema = z.strictObject({ verb: z.enum(PAGE_VERBS), params: z.record(z.string(), z.unknown()) });

export class PageCalls {
  readonly #operations: Operations;
  readonly #budget = new ByteBudget(CALL_LIMITS.bodyBytes * CALL_LIMITS.callsAtOnce);
  #callCount = 0;
  #lastNumber = 0;

  constructor(operations: Operations) {
    this.#operations = operations;
  }

  /** Carries out what the request asks for, and answers when it is done. */
  async take(request: IncomingMessage, response: ServerResponse, listener: HttpListener): Promise<void> {
    if (this.#callCount >= CALL_LIMITS.callsAtOnce) {
      listener.refuse(request, response, 'busy', `${CALL_LIMITS.callsAtOnce} calls are under way already`);
      return;
    }
    this.#callCount += 1;
    try {
      const call = await bodyOf(request, this.#budget);
      if (call instanceof Refusal) listener.refuse(request, response, 'body', call.message, call.status);
      else if (call !== undefined) await this.#carryOut(call, request, response);
    } finally {
      this.#callCount -= 1;
    }
  }

  async #carryOut(
    { verb, params }: z.output<typeof callSchema>,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const who = `request ${++this.#lastNumber} of the page`;
    const { signal } = new AbortController();
    try {
      const value = await this.#operations.run(verb, params, { who, access: 'write', signal });
      answer(request, response, 200, JSON.stringify({ value }));
    } catch (error) {
      answerFault(request, response, error);
    }
  }
}

/** An error of the system, in the words that a caller in code would get, for people. */
export function answerFault(request: IncomingMessage, response: ServerResponse, error: unknown): void {
  const { code, message } = faultOf(error);
  const text = plainText(message).slice(0, CALL_LIMITS.messageChars);
  const status = error instanceof TypeError ? 400 : 409;
  answer(request, response, status, JSON.stringify({ error: { code, message: text } }));
}

/** Undefined when the client went away. */
async function bodyOf(
  request: IncomingMessage,
  budget: ByteBudget,
): Promise<z.output<typeof callSchema> | Refusal | undefined> {
  if (formatOf(request) !== 'json') return new Refusal(415, 'content-type must be application/json');
  const body = await readBody(request, CALL_LIMITS.bodyBytes, budget);
  if (body === undefined || body instanceof Refusal) return body;
  budget.give(body.held);
  try {
    const checked = callSchema.safeParse(parseFrame(body.bytes));
    if (checked.success) return checked.data;
    return new Refusal(400, `the body must be { verb, params }, verb one of ${PAGE_VERBS.join(', ')}`);
  } catch (error) {
    if (error instanceof FrameError) return new Refusal(400, error.message);
    throw error;
  }
}
