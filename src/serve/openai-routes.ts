/**
 * The routes of OpenAI for pools whose actor declares kinds: embeddings, completions, chat, and the list of models.
 *
 * Owns what these routes answer, in OpenAI's own form and for errors too. What a request passes before it gets here, and the
 * sum of the bodies that are held, are the server's (oip-listener.ts).
 *
 * P1 an answer is whole, or says that it is not: a stream that ends early ends with an event that holds the error, and without
 * `[DONE]`. P2 who closes the connection gives up what was asked, a running stream too. P3 nothing of a stream is sent before
 * its first piece is there: until then an error has its status.
 */
import { randomUUID } from 'node:crypto';
import type { System } from '../actor/system.js';
import { systemClock } from '../kernel/clock.js';
import { TroupeError } from '../kernel/errors.js';
import { isName } from '../models/names.js';
import { type ByteBudget, readBody, Refusal } from '../stream/http-body.js';
import { answer, type IncomingMessage, type Route, type ServerResponse } from '../stream/http-listener.js';
import type { ServedKind } from '../wire/served-kinds.js';
import { EventWriter } from './event-writer.js';
import { Departure, type Gone } from './gone.js';
import { answerHeld } from './held-answer.js';
import { inferAll } from './infer-call.js';
import { type AnswerHead, embeddingsBody, textBody, TextEvents, type TextKind } from './openai-answer.js';
import { openAiFailure, FieldRefusal } from './openai-error.js';
import { chatRequest, completionRequest, embeddingRequest, fieldsOf, type TextRequest } from './openai-request.js';
import { allModels, findModel, type ServedModel } from './served-models.js';
import type { ServedMeter } from './served-meter.js';
import type { ResolvedServe } from './serve-options.js';
import { TextStream } from './text-stream.js';

export interface OpenAiParts {
  readonly system: System;
  readonly options: ResolvedServe;
  readonly budget: ByteBudget;
  readonly meter: ServedMeter;
  /** Who may infer. */
  readonly admits: NonNullable<Route['admits']>;
}

export interface OpenAiRoute extends Route {
  /** Answers, whatever happens; rejects never. */
  readonly take: (request: IncomingMessage, response: ServerResponse) => Promise<void>;
}

/** Below it, every path is OpenAI's. */
export const OPENAI_PREFIX = '/v1/';

const MODELS = `${OPENAI_PREFIX}models`;

const KIND_OF: ReadonlyMap<string, ServedKind> = new Map([
  [`${OPENAI_PREFIX}embeddings`, 'embeddings'],
  [`${OPENAI_PREFIX}completions`, 'completions'],
  [`${OPENAI_PREFIX}chat/completions`, 'chat'],
]);

const ID_PREFIX: Readonly<Record<ServedKind, string>> = { embeddings: 'embd', completions: 'cmpl', chat: 'chatcmpl' };

export class OpenAiRoutes {
  readonly #parts: OpenAiParts;
  readonly #openedAt = seconds();

  constructor(parts: OpenAiParts) {
    this.#parts = parts;
  }

  routeOf(path: string): OpenAiRoute | undefined {
    const { admits } = this.#parts;
    const kind = KIND_OF.get(path);
    if (kind !== undefined)
      return { path, method: 'POST', admits, take: (...of) => this.#take(of, () => this.#infer(kind, ...of)) };
    if (path !== MODELS && !path.startsWith(`${MODELS}/`)) return undefined;
    const tell = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
      const what = path === MODELS ? this.#list() : this.#describe(path.slice(MODELS.length + 1));
      answerHeld(this.#parts.budget, request, response, JSON.stringify(what));
    };
    return { path, method: 'GET', admits, take: (...of) => this.#take(of, () => tell(...of)) };
  }

  async #take([request, response]: [IncomingMessage, ServerResponse], run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      const { status, body, retryAfterS } = openAiFailure(error);
      if (retryAfterS !== undefined && !response.headersSent) response.setHeader('retry-after', retryAfterS);
      answer(request, response, status, body);
    }
  }

  #list(): unknown {
    const served = allModels(this.#parts.system).filter(({ pool }) => pool.kinds.length > 0);
    return { object: 'list', data: served.map(({ name }) => this.#modelBody(name)) };
  }

  #describe(encoded: string): unknown {
    const { name } = this.#find(encoded);
    return this.#modelBody(name);
  }

  #modelBody(id: string): unknown {
    return { id, object: 'model', created: this.#openedAt, owned_by: 'troupe' };
  }

  /** Throws MODEL_NOT_FOUND, also for what no model can be called and for pools that answer no kind. */
  #find(name: string, kind?: ServedKind): ServedModel {
    const { system } = this.#parts;
    const missing = new TroupeError(
      'MODEL_NOT_FOUND',
      `The model ${JSON.stringify(name.slice(0, 128))} does not exist`,
    );
    if (!isName(name)) throw missing;
    const served = findModel(system, name, undefined);
    const { kinds } = served.pool;
    if (kinds.length === 0 && served.pool.stats().state === 'starting')
      throw new TroupeError('NO_REPLICA', `Model "${name}" is loading`);
    if (kinds.length === 0) throw missing;
    if (kind === undefined || kinds.includes(kind)) return served;
    throw new FieldRefusal('model', `Model "${name}" answers ${kinds.join(' and ')}, not ${kind}`);
  }

  async #infer(kind: ServedKind, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { budget, options, meter } = this.#parts;
    const startedAt = systemClock.now();
    const gone = new Departure();
    const onClose = (): void => gone.abort(); // P2
    response.once('close', onClose);
    let held = 0;
    const release = (): void => {
      budget.give(held);
      held = 0;
    };
    const call: Call = { kind, request, response, served: undefined, records: 0, signal: gone, release };
    let failure: unknown;
    try {
      const body = await readBody(request, options.maxBodyBytes, budget);
      if (body === undefined) throw new TroupeError('CANCELLED', 'The client has gone');
      if (body instanceof Refusal) throw body;
      ({ held } = body);
      await this.#answer(call, fieldsOf(body.bytes));
    } catch (error) {
      failure = error;
    }
    response.off('close', onClose);
    release();
    if (call.served !== undefined) {
      const outcome = failure === undefined ? 'ok' : gone.aborted ? 'gone' : openAiFailure(failure).outcome;
      meter.count(call.served, outcome, systemClock.now() - startedAt, failure === undefined ? call.records : 0);
    }
    // One that has begun has told it.
    if (failure !== undefined && !response.headersSent) throw failure;
  }

  async #answer(call: Call, fields: ReturnType<typeof fieldsOf>): Promise<void> {
    const { maxRecords } = this.#parts.options;
    switch (call.kind) {
      case 'embeddings': {
        const { model, records, isBase64 } = embeddingRequest(fields, maxRecords);
        const { head, values } = await this.#ask(call, model, records);
        this.#send(call, embeddingsBody(head, values, isBase64));
        return;
      }
      case 'completions':
        return this.#answerText(call, call.kind, completionRequest(fields, maxRecords));
      case 'chat':
        return this.#answerText(call, call.kind, chatRequest(fields));
    }
  }

  async #answerText(call: Call, kind: TextKind, asked: TextRequest<unknown>): Promise<void> {
    const { head, values, deadlineAt } = await this.#ask(call, asked.model, asked.records);
    const streams = values.map((value) => new TextStream(value));
    const giveUpAll = (): void => {
      for (const stream of streams) stream.giveUp();
    };
    call.signal.addEventListener('abort', giveUpAll); // P2
    try {
      if (call.signal.aborted) throw new TroupeError('CANCELLED', 'The client has gone');
      if (asked.stream) {
        await this.#stream(call, streams[0] as TextStream, new TextEvents(kind, head, asked.includeUsage), deadlineAt);
        return;
      }
      const charsMax = this.#parts.options.maxBodyBytes;
      const parts = await Promise.all(streams.map((stream) => stream.whole(deadlineAt, charsMax)));
      this.#send(call, textBody(kind, head, parts));
    } catch (error) {
      giveUpAll();
      throw error;
    } finally {
      call.signal.removeEventListener('abort', giveUpAll);
    }
  }

  async #ask(call: Call, model: string, records: readonly unknown[]): Promise<Asked> {
    const { timeoutMs } = this.#parts.options;
    const served = this.#find(model, call.kind);
    call.served = served;
    call.records = records.length;
    const deadlineAt = systemClock.now() + timeoutMs;
    const { traceparent } = call.request.headers;
    const { values, versions } = await inferAll(served.pool, records, {
      deadlineAt,
      priority: 0,
      model: served.model,
      traceparent: Array.isArray(traceparent) ? traceparent[0] : traceparent,
      signal: call.signal,
    });
    const id = `${ID_PREFIX[call.kind]}-${randomUUID().replaceAll('-', '')}`;
    const version = versions.filter((one) => one !== undefined).join(',');
    return {
      head: { id, created: seconds(), model, version: version === '' ? undefined : version },
      values,
      deadlineAt,
    };
  }

  /** The request is not needed any more, and gives its room to the answer. */
  #send({ request, response, release }: Call, body: unknown): void {
    const { options, budget } = this.#parts;
    const { maxBodyBytes } = options;
    const text = JSON.stringify(body);
    if (text.length > maxBodyBytes)
      throw new Refusal(400, `the answer has ${text.length} characters, more than ${maxBodyBytes}; ask for less`);
    release();
    answerHeld(budget, request, response, text);
  }

  async #stream(call: Call, stream: TextStream, events: TextEvents, deadlineAt: number): Promise<void> {
    let piece = await stream.next(deadlineAt); // P3
    call.release();
    const writer = new EventWriter(call.response);
    const send = async (all: readonly unknown[]): Promise<void> => {
      for (const event of all) {
        if (await writer.send(JSON.stringify(event))) continue;
        throw new TroupeError('CANCELLED', 'The client has gone');
      }
    };
    writer.begin();
    try {
      await send(events.begin());
      while (piece !== undefined) {
        await send(events.piece(piece));
        piece = await stream.next();
      }
      await send(events.end());
      await writer.send('[DONE]');
    } catch (error) {
      await writer.send(openAiFailure(error).body); // P1
      throw error;
    } finally {
      writer.end();
    }
  }
}

/** One request on its way. */
interface Call {
  readonly kind: ServedKind;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly signal: Gone;
  /** Once it is known. */
  served: ServedModel | undefined;
  records: number;
  /** The body is not needed any more. */
  readonly release: () => void;
}

interface Asked {
  readonly head: AnswerHead;
  readonly values: readonly unknown[];
  readonly deadlineAt: number;
}

function seconds(): number {
  return Math.floor(systemClock.wallNow() / 1000);
}
