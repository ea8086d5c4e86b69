/**
 * Triton's generate extension over HTTP: one answer as JSON, or each as an event of a stream.
 *
 * E1 nothing of a stream is sent before its first answer is there: until then an error has its status; later it is an event.
 */
import { systemClock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import { busy, readBody, Refusal } from '../stream/http-body.js';
import type { IncomingMessage, ServerResponse } from '../stream/http-listener.js';
import { EventWriter } from './event-writer.js';
import { generateBody } from './generate-answer.js';
import { readGenerate, tensorRequest } from './generate-request.js';
import { Departure } from './gone.js';
import { answerHeld } from './held-answer.js';
import { answerMany, askOfTensors, askOfText, type Tell } from './many-answers.js';
import { answerRequest, refuseLarge } from './oip-answer.js';
import type { InferParts } from './oip-infer.js';
import { wantedOutputs } from './oip-records.js';
import { failureOf } from './oip-status.js';
import { type ServedModel, signatureOf, tensorsOfModel } from './served-models.js';
import { TEXT_SIGNATURE } from './text-model.js';

/** Resolves to the number of records when all is on its way; rejects with what failed, also where that has been told. */
export async function generate(
  served: ServedModel,
  request: IncomingMessage,
  response: ServerResponse,
  { options, budget }: Pick<InferParts, 'options' | 'budget'>,
  isStream: boolean,
): Promise<number> {
  const encoding = request.headers['content-encoding'] ?? 'identity';
  if (encoding.toLowerCase() !== 'identity')
    throw new Refusal(415, `bodies of generate are not packed, got ${JSON.stringify(encoding.slice(0, 60))}`);
  const signal = new Departure();
  const onClose = (): void => signal.abort();
  response.once('close', onClose);
  let held = 0;
  const release = (): void => {
    budget.give(held);
    held = 0;
  };
  const { nonFinite, maxBodyBytes } = options;
  const events = new Events(response, budget);
  const tell: Tell = async (answered) => {
    const text = generateBody(answered, nonFinite);
    refuseLarge(Buffer.byteLength(text), options);
    release();
    if (isStream) await events.send(text);
    else answerHeld(budget, request, response, text);
  };
  try {
    const body = await readBody(request, maxBodyBytes, budget);
    if (body === undefined) throw new TroupeError('CANCELLED', 'The client has gone');
    if (body instanceof Refusal) throw body;
    ({ held } = body);
    const asked = readGenerate(body.bytes);
    const { traceparent: parents } = request.headers;
    const traceparent = Array.isArray(parents) ? parents.join(', ') : parents;
    const terms = { receivedAt: systemClock.now(), deadlineAt: Infinity, traceparent, signal };
    let count = 1;
    const signature = await signatureOf(served);
    if (signature?.decoupled === true) {
      const ask =
        signature === TEXT_SIGNATURE
          ? askOfText(served, asked.fields, isStream)
          : askOfTensors(served, signature, tensorRequest(asked, signature.inputs, nonFinite), isStream);
      const wanted = wantedOutputs({ outputs: undefined, binaryOutputs: false }, signature);
      await answerMany(served, { id: asked.id, ask, wanted }, options, terms, tell);
    } else {
      const tensors = await tensorsOfModel(served);
      const inferred = tensorRequest(asked, tensors.inputs, nonFinite);
      const { response: answered, records } = await answerRequest(served, tensors, inferred, options, terms);
      await tell(answered, true);
      count = records;
    }
    if (isStream) events.end();
    return count;
  } catch (error) {
    if (events.hasBegun) await events.fail(failureOf(error).message); // E1
    throw error;
  } finally {
    response.off('close', onClose);
    release();
  }
}

/** The events of one answer, each of which stands in the budget until there is room for the next. */
class Events {
  readonly #writer: EventWriter;
  readonly #budget: InferParts['budget'];
  hasBegun = false;

  constructor(response: ServerResponse, budget: InferParts['budget']) {
    this.#writer = new EventWriter(response);
    this.#budget = budget;
  }

  async send(text: string): Promise<void> {
    const size = Buffer.byteLength(text);
    if (!this.#budget.take(size)) throw busy();
    try {
      this.#begin();
      await this.#writer.send(text);
    } finally {
      this.#budget.give(size);
    }
  }

  end(): void {
    this.#begin(); // There may have been none.
    this.#writer.end();
  }

  async fail(message: string): Promise<void> {
    await this.#writer.send(JSON.stringify({ error: message }));
    this.#writer.end();
  }

  #begin(): void {
    if (this.hasBegun) return;
    this.hasBegun = true;
    this.#writer.begin();
  }
}
