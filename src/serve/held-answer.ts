import { busy, type ByteBudget } from '../stream/http-body.js';
import { answer, type IncomingMessage, type ServerResponse } from '../stream/http-listener.js';

/**
 * Answers 200 with a text of JSON, which stands in the budget until the client has taken it: nobody has to read it soon.
 * Throws a refusal where there is no room.
 */
export function answerHeld(budget: ByteBudget, request: IncomingMessage, response: ServerResponse, text: string): void {
  if (response.headersSent || response.destroyed) return;
  const size = Buffer.byteLength(text);
  if (!budget.take(size)) throw busy();
  response.once('close', () => budget.give(size));
  answer(request, response, 200, text);
}
