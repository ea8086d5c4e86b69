/**
 * Records that are posted. A request waits for the outcome of its records; its answer is the acknowledgement.
 *
 * P1 records not yet read are at most `capacity`, bodies held are at most `capacityBytes`, whatever clients do.
 * P2 every request is answered once: by its outcome, by a refusal, by time, or by the end of the run.
 * P3 a record that was read finishes, whether its client waits or not.
 */
import { randomUUID } from 'node:crypto';
import { systemClock, type Timer } from '../../kernel/clock.js';
import { ERROR_CODES, TroupeError, type ErrorCode } from '../../kernel/errors.js';
import { parseTraceparent } from '../../telemetry/tracing.js';
import { Stamped } from '../envelope.js';
import { ByteBudget, Refusal, formatOf, readBody, recordsOf } from '../http-body.js';
import {
  HttpListener,
  LISTEN_KEYS,
  answer,
  answerError,
  checkListen,
  type IncomingMessage,
  type ListenOptions,
  type ServerResponse,
} from '../http-listener.js';
import { checkCount, checkKeys, checkOneOf } from '../options.js';
import type { Acknowledgement, Source, SourceReader } from '../source.js';
import { plainJson } from '../sinks/json-lines.js';

export interface FromHttpOptions extends ListenOptions {
  /**
   * result: a request is answered with what became of its records. checkpoint: with their number alone. Either answer
   * is given when the outcome is safe: written by the sink, and part of a checkpoint where the run has them. Default result.
   */
  acknowledge?: 'result' | 'checkpoint';
  /** Most bytes of a body, also after inflation. Default 8,388,608. */
  maxBodyBytes?: number;
  /** Most records that wait to be read. A request that would go beyond is answered 503. Default 1024. */
  capacity?: number;
  /** Most bytes of all bodies whose requests are not answered. Default 67,108,864. */
  capacityBytes?: number;
  /** How long a request waits for room before it is answered 503. Default 0. */
  waitMs?: number;
  /** How long a request waits for its outcome before it is answered 504; its records still finish. Default 60,000. */
  answerTimeoutMs?: number;
}

/** What a posted record carries along. */
export interface HttpMetadata {
  /** From the request's Idempotency-Key and the record's place in the body, so that a second POST has the same. */
  readonly key?: string;
  readonly remoteAddress: string | undefined;
  /** The request's header of that name, where it is one of W3C Trace Context: batches that hold the record link to it. */
  readonly traceparent?: string;
}

/** How long answers have to reach their clients when a run ends. */
const CLOSE_GRACE_MS = 1000;

/**
 * Takes records by POST: one JSON value, an array of them (`application/json`), or NDJSON (`application/x-ndjson`).
 * Answers 200 when all is well, 422 when a record failed for good, 503 with Retry-After when trying again may help or
 * there is no room, and 400, 401, 403, 404, 405, 413, 415 for requests that are wrong. Ends when the run does. Neither
 * replayable nor stored: what was not answered with 200 is the client's to send again. Rejects with SOURCE_FAILED when
 * it cannot listen.
 */
export function fromHttp<T = unknown>(options: FromHttpOptions): Source<T> {
  checkKeys('fromHttp', options, [
    ...LISTEN_KEYS,
    'acknowledge',
    'maxBodyBytes',
    'capacity',
    'capacityBytes',
    'waitMs',
    'answerTimeoutMs',
  ]);
  checkListen('fromHttp', options);
  const { acknowledge = 'result', maxBodyBytes = 8_388_608, capacity = 1024 } = options;
  const { capacityBytes = 67_108_864, waitMs = 0, answerTimeoutMs = 60_000 } = options;
  checkOneOf('acknowledge', acknowledge, ['result', 'checkpoint']);
  checkCount('maxBodyBytes', maxBodyBytes);
  checkCount('capacity', capacity);
  checkCount('capacityBytes', capacityBytes, maxBodyBytes);
  checkCount('waitMs', waitMs, 0);
  checkCount('answerTimeoutMs', answerTimeoutMs);
  const { host = '127.0.0.1', port, path = '/' } = options;
  const plan: Plan = { acknowledge, maxBodyBytes, capacity, capacityBytes, waitMs, answerTimeoutMs };
  const name = `http://${host}:${port}${path}`;
  return {
    name,
    open: async () => {
      const reader = new HttpReader(name, options, plan);
      await reader.listen();
      return reader as SourceReader<T>;
    },
  };
}

interface Plan {
  readonly acknowledge: 'result' | 'checkpoint';
  readonly maxBodyBytes: number;
  readonly capacity: number;
  readonly capacityBytes: number;
  readonly waitMs: number;
  readonly answerTimeoutMs: number;
}

/** One request from its body to its answer. */
interface Job {
  readonly id: number;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly items: readonly Stamped<unknown>[];
  readonly bytes: number;
  readonly outcomes: (Acknowledgement | undefined)[];
  unsettled: number;
  /** Ends the wait for room, then the wait for the outcome. */
  timer: Timer | undefined;
}

class HttpReader implements SourceReader<unknown> {
  readonly wantsValues: boolean;
  readonly #listener: HttpListener;
  readonly #budget: ByteBudget;
  /** Tokens of an earlier run mean nothing here. */
  readonly #run = randomUUID();
  readonly #jobs = new Map<number, Job>();
  #nextJob = 0;
  #items: Stamped<unknown>[] = [];
  #wake: (() => void) | undefined;
  /** Jobs without room, first come first served. */
  #waiting: Job[] = [];
  #isClosed = false;

  constructor(
    private readonly name: string,
    options: FromHttpOptions,
    private readonly plan: Plan,
  ) {
    this.wantsValues = plan.acknowledge === 'result';
    this.#budget = new ByteBudget(plan.capacityBytes);
    this.#listener = new HttpListener(options, 'POST', (request, response) => {
      void this.#take(request, response).catch((cause: unknown) => {
        const words = cause instanceof TroupeError ? cause.message : 'the request could not be handled';
        answerError(request, response, 500, words, 'INTERNAL');
      });
    });
  }

  async listen(): Promise<void> {
    try {
      await this.#listener.open();
    } catch (cause) {
      const words = cause instanceof Error ? cause.message : String(cause);
      throw new TroupeError('SOURCE_FAILED', `Cannot listen at ${this.name}: ${words}`, { cause });
    }
  }

  async read(max: number): Promise<readonly Stamped<unknown>[] | undefined> {
    while (this.#items.length === 0) {
      if (this.#isClosed) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const items = this.#items.splice(0, max);
    this.#admit();
    return items;
  }

  acknowledge(outcomes: readonly Acknowledgement[]): void {
    for (const outcome of outcomes) {
      const [run, id, index] = String(outcome.token).split('/');
      const job = run === this.#run ? this.#jobs.get(Number(id)) : undefined;
      if (job === undefined || job.outcomes[Number(index)] !== undefined) continue;
      job.outcomes[Number(index)] = outcome;
      job.unsettled -= 1;
      if (job.unsettled === 0) this.#answer(job);
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#items = [];
    this.#waiting = [];
    this.#wake?.();
    for (const job of [...this.#jobs.values()]) this.#refuse(job, 503, 'the run has ended', 'CANCELLED');
    await this.#listener.close(CLOSE_GRACE_MS);
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const format = formatOf(request);
    if (format instanceof Refusal) return refuseRequest(request, response, format);
    const key = request.headers['idempotency-key'];
    if (key !== undefined && (typeof key !== 'string' || !/^[\x21-\x7e]{1,200}$/.test(key))) {
      return answerError(request, response, 400, 'idempotency-key must be at most 200 printable characters');
    }
    const body = await readBody(request, this.plan.maxBodyBytes, this.#budget);
    if (body === undefined) return undefined;
    if (body instanceof Refusal) return refuseRequest(request, response, body);
    const records = recordsOf(body.bytes, format, this.name, this.plan.capacity);
    const refusal = records instanceof Refusal ? records : this.#noPlaceFor(records.length);
    if (refusal !== undefined || records instanceof Refusal) {
      this.#budget.give(body.held);
      return refuseRequest(request, response, refusal as Refusal);
    }
    if (records.length === 0) {
      this.#budget.give(body.held);
      return answer(request, response, 200, this.wantsValues ? '{"results":[]}' : '{"records":0}');
    }
    this.#enter(request, response, records, body.held, key);
    return undefined;
  }

  #noPlaceFor(count: number): Refusal | undefined {
    if (this.#isClosed) return new Refusal(503, 'the run has ended', 'CANCELLED');
    const isFull = this.#waiting.length > 0 || this.#items.length + count > this.plan.capacity;
    return isFull && this.plan.waitMs === 0 ? full(this.plan.capacity) : undefined;
  }

  #enter(
    request: IncomingMessage,
    response: ServerResponse,
    records: readonly unknown[],
    bytes: number,
    key: string | undefined,
  ): void {
    const id = this.#nextJob;
    this.#nextJob += 1;
    const { remoteAddress } = request.socket;
    const { traceparent } = request.headers;
    const isTraced = typeof traceparent === 'string' && parseTraceparent(traceparent) !== undefined;
    const trace = isTraced ? { traceparent } : {};
    const items = records.map((value, index) => {
      const metadata: HttpMetadata = {
        remoteAddress,
        ...trace,
        ...(key === undefined ? {} : { key: `http:${key}:${index}` }),
      };
      return new Stamped(value, { token: `${this.#run}/${id}/${index}`, metadata });
    });
    const outcomes = records.map(() => undefined);
    const job: Job = { id, request, response, items, bytes, outcomes, unsettled: items.length, timer: undefined };
    this.#jobs.set(id, job);
    if (this.plan.waitMs > 0) {
      job.timer = systemClock.at(systemClock.now() + this.plan.waitMs, () => {
        this.#waiting = this.#waiting.filter((other) => other !== job);
        this.#refuse(job, 503, full(this.plan.capacity).message, 'MAILBOX_FULL');
        this.#admit();
      });
    }
    this.#waiting.push(job);
    this.#admit();
  }

  /** P1. Moves jobs that have room to where `read` takes from. */
  #admit(): void {
    for (let job = this.#waiting[0]; job !== undefined; job = this.#waiting[0]) {
      if (this.#items.length + job.items.length > this.plan.capacity) return;
      this.#waiting.shift();
      const admitted = job;
      job.timer?.cancel();
      job.timer = systemClock.at(systemClock.now() + this.plan.answerTimeoutMs, () => {
        this.#refuse(admitted, 504, 'no outcome in time; the records still finish', 'DEADLINE_PASSED');
      });
      for (const item of job.items) this.#items.push(item);
      this.#wake?.();
    }
  }

  #answer(job: Job): void {
    const errors = job.outcomes.flatMap((outcome) => outcome?.error ?? []);
    const isRetryable = errors.some(({ retryable }) => retryable);
    const status = errors.length === 0 ? 200 : isRetryable ? 503 : 422;
    if (isRetryable) {
      const waitMs = Math.max(1000, ...errors.map(({ retryAfterMs = 0 }) => retryAfterMs));
      this.#setHeader(job, 'retry-after', String(Math.ceil(waitMs / 1000)));
    }
    const isLong = this.wantsValues || errors.length > 0;
    this.#end(job, status, isLong ? resultsOf(job.outcomes) : `{"records":${job.outcomes.length}}`);
  }

  #refuse(job: Job, status: number, message: string, code: ErrorCode): void {
    if (status === 503) this.#setHeader(job, 'retry-after', '1');
    const isBegun = job.outcomes.some((outcome) => outcome !== undefined);
    this.#end(job, status, isBegun ? resultsOf(job.outcomes, code) : JSON.stringify({ error: { code, message } }));
  }

  /** P2. */
  #end(job: Job, status: number, text: string): void {
    if (!this.#jobs.delete(job.id)) return;
    job.timer?.cancel();
    this.#budget.give(job.bytes);
    answer(job.request, job.response, status, text);
  }

  #setHeader(job: Job, name: string, value: string): void {
    if (!job.response.headersSent) job.response.setHeader(name, value);
  }
}

/** Records without outcome, because their request is given up, get the code of that. */
function resultsOf(outcomes: Job['outcomes'], givenUp: ErrorCode = 'INTERNAL'): string {
  const missing: Acknowledgement = { token: undefined, error: new TroupeError(givenUp, 'no outcome') };
  return `{"results":[${outcomes.map((outcome) => resultOf(outcome ?? missing)).join()}]}`;
}

/** Clients get the code and its meaning, never the words of the error: those name files, actors and what models said. */
function resultOf({ error, values }: Acknowledgement): string {
  if (error !== undefined) {
    const { code, ran, retryable } = error;
    return JSON.stringify({ error: { code, message: ERROR_CODES[code].meaning, ran, retryable } });
  }
  try {
    return JSON.stringify({ values }, plainJson);
  } catch {
    return '{"unwritable":"The outcome is safe, but it is no JSON."}';
  }
}

function refuseRequest(request: IncomingMessage, response: ServerResponse, refusal: Refusal): void {
  answerError(request, response, refusal.status, refusal.message, refusal.code);
}

function full(capacity: number): Refusal {
  return new Refusal(503, `${capacity} records wait already`, 'MAILBOX_FULL');
}
