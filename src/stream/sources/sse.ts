/**
 * Server-Sent Events, read as a browser reads them: for ever, over as many connections as it takes. This is also the
 * door to eventsource-parser.
 *
 * V1 nothing more is read from the connection while events wait here: one block of it at most is held.
 * V2 a position says what came before the next record that `read` gives; what is only parsed does not count.
 * V3 after a break the server is asked for what came after the last id, and events without an id of their own that it
 *    gives again are left out.
 */
import { createParser } from 'eventsource-parser';
import { systemClock } from '../../kernel/clock.js';
import { TroupeError } from '../../kernel/errors.js';
import { Backoff, pause, retryPlan, type BackoffOptions, type RetryPlan } from '../backoff.js';
import { RecordFailure, Stamped } from '../envelope.js';
import { wordsOf } from '../foreign.js';
import { HttpFailure, checkHeaders, checkUrl, nameOf, send, type HttpAnswer } from '../http-client.js';
import { checkCount, checkFlag, checkKeys, checkOneOf, checkText, refuse } from '../options.js';
import { parseJson } from '../parse-json.js';
import type { ResumeFrom, Source, SourceReader } from '../source.js';
import { GAP_EVENT } from '../sse-events.js';

export interface FromSseOptions {
  /** Sent with every request; a token goes here. */
  headers?: Readonly<Record<string, string>>;
  /** Begins after this event, where the server still has it. */
  lastEventId?: string;
  /** json: the data of an event as JSON. text: as a string. Default json. */
  format?: 'json' | 'text';
  /** Only events of these types; `message` is the one of events without. Default all. */
  events?: readonly string[];
  /** False where the server gives no ids: a checkpoint then holds no position. Default true. */
  replayable?: boolean;
  /** False: the end of a connection ends the source. Default true. */
  reconnect?: boolean;
  /** Of connections that fail; the wait after one that ended is the server's `retry:`. Default 10 tries in a row. */
  retry?: BackoffOptions;
  /** How long the head of an answer may take. Default 30,000. */
  timeoutMs?: number;
  /** A connection without a byte for this long is dropped and made anew. Default 90,000. */
  idleTimeoutMs?: number;
  /** A longer event ends the source. Default 1,048,576. */
  maxEventBytes?: number;
}

/** What an event carries along. */
export interface SseMetadata {
  /** From its id, where it has one. */
  readonly key?: string;
  /** Its type. */
  readonly event: string;
  readonly lastEventId: string | undefined;
}

/** Events to leave out after the one with that id. */
interface Position {
  readonly lastEventId: string | undefined;
  readonly skip: number;
}

const DEFAULT_RETRY_MS = 1000;
/** A server that is broken may say 0, and end every connection at once. */
const MIN_RETRY_MS = 100;
const MAX_RETRY_MS = 60_000;

/**
 * Reads events from `url`. After a break it comes back with Last-Event-ID, so a server that honours ids loses and
 * doubles nothing; one that does not may lose what was sent meanwhile. Replayable by these ids. An event that is no
 * JSON fails alone with PARSE_FAILED. Answers of 4xx, another content type, a redirect, a gap that the server reports,
 * or the last failed try end it with SOURCE_FAILED; 204 ends it well.
 */
export function fromSse<T = unknown>(url: string | URL, options: FromSseOptions = {}): Source<T> {
  const target = checkUrl('url', url);
  checkKeys('fromSse', options, [
    'headers',
    'lastEventId',
    'format',
    'events',
    'replayable',
    'reconnect',
    'retry',
    'timeoutMs',
    'idleTimeoutMs',
    'maxEventBytes',
  ]);
  const { headers = {}, lastEventId, format = 'json', events, replayable = true, reconnect = true, retry } = options;
  const { timeoutMs = 30_000, idleTimeoutMs = 90_000, maxEventBytes = 1_048_576 } = options;
  if (lastEventId !== undefined) checkText('lastEventId', lastEventId);
  checkOneOf('format', format, ['json', 'text']);
  if (events !== undefined && (!Array.isArray(events) || events.some((name) => typeof name !== 'string'))) {
    refuse('events', 'an array of event types', events);
  }
  checkFlag('replayable', replayable);
  checkFlag('reconnect', reconnect);
  checkCount('timeoutMs', timeoutMs);
  checkCount('idleTimeoutMs', idleTimeoutMs);
  checkCount('maxEventBytes', maxEventBytes);
  const plan: Plan = {
    url: target,
    name: nameOf(target),
    headers: checkHeaders('headers', headers, ['accept', 'last-event-id']),
    format,
    events: events === undefined ? undefined : new Set(events),
    replayable,
    reconnect,
    retry: retryPlan('retry', retry, 10),
    timeoutMs,
    idleTimeoutMs,
    maxEventBytes,
  };
  return {
    name: plan.name,
    open: async (from, giveUp) => {
      const reader = new SseReader(plan, from === undefined ? { lastEventId, skip: 0 } : positionOf(plan.name, from));
      giveUp?.addEventListener('abort', () => reader.close(), { once: true });
      await reader.connect();
      return reader as SourceReader<T>;
    },
  };
}

interface Plan {
  readonly url: URL;
  readonly name: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly format: 'json' | 'text';
  readonly events: ReadonlySet<string> | undefined;
  readonly replayable: boolean;
  readonly reconnect: boolean;
  readonly retry: RetryPlan;
  readonly timeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxEventBytes: number;
}

interface Waiting {
  readonly item: Stamped<unknown>;
  readonly after: Position;
}

interface Connection {
  readonly answer: HttpAnswer;
  readonly body: ReadableStreamDefaultReader<Uint8Array>;
  feed(chunk: Uint8Array): void;
}

class SseReader implements SourceReader<unknown> {
  declare readonly position?: () => unknown;
  #waiting: Waiting[] = [];
  /** Of what was given, V2, and of what was parsed. */
  #given: Position;
  #parsed: Position;
  /** Events of this connection that came before it already, V3. */
  #skip = 0;
  #retryMs = DEFAULT_RETRY_MS;
  #hasGiven = false;
  #hasEnded = false;
  #connection: Connection | undefined;
  /** Found in the middle of a block; thrown once what stands before it was read. */
  #failure: TroupeError | undefined;
  readonly #backoff: Backoff;
  readonly #ending = new AbortController();

  constructor(
    private readonly plan: Plan,
    from: Position,
  ) {
    this.#given = from;
    this.#parsed = from;
    this.#backoff = new Backoff(plan.retry);
    if (plan.replayable) this.position = () => this.#position();
  }

  /** Rejects when the server says no, or stays away for as long as tries are left. */
  async connect(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      try {
        this.#connection = await this.#open();
        this.#backoff.reset();
        return;
      } catch (cause) {
        if (cause instanceof TroupeError || signal.aborted) throw cause;
        const failure = cause instanceof HttpFailure ? cause : undefined;
        const waitMs = failure?.isTransient === true ? this.#backoff.next(failure.retryAfterMs) : undefined;
        if (waitMs === undefined) throw this.#failed(wordsOf(cause), cause);
        await pause(waitMs, signal);
      }
    }
  }

  async read(max: number): Promise<readonly Stamped<unknown>[] | undefined> {
    try {
      while (this.#waiting.length === 0) {
        if (this.#ending.signal.aborted) return undefined;
        if (this.#failure !== undefined) throw this.#failure;
        if (this.#hasEnded) return undefined;
        await this.#fill();
      }
    } catch (cause) {
      if (this.#ending.signal.aborted) return undefined;
      throw cause;
    }
    const some = this.#waiting.splice(0, max);
    this.#given = (some.at(-1) as Waiting).after;
    this.#hasGiven = true;
    return some.map(({ item }) => item);
  }

  close(): void {
    this.#ending.abort();
    this.#drop();
  }

  #position(): Position {
    if (this.#hasGiven && this.#given.lastEventId === undefined) {
      throw this.#failed('its events have no ids, so no run can go on from one; replayable: false says so');
    }
    return this.#given;
  }

  async #open(): Promise<Connection | undefined> {
    const { url, headers, timeoutMs } = this.plan;
    const { lastEventId, skip } = this.#parsed;
    const answer = await send({
      method: 'GET',
      url,
      headers: {
        ...headers,
        accept: 'text/event-stream',
        // As bytes of UTF-8, which fetch takes as Latin-1 only.
        ...(lastEventId === undefined ? {} : { 'last-event-id': Buffer.from(lastEventId).toString('latin1') }),
      },
      timeoutMs,
      signal: this.#ending.signal,
    });
    const { status, headers: got, body } = answer.response;
    if (status === 204 || body === null) {
      answer.end();
      this.#hasEnded = true;
      return undefined;
    }
    const type = got.get('content-type') ?? 'none';
    if (!/^text\/event-stream\s*(;|$)/i.test(type)) {
      answer.end();
      throw this.#failed(`its content type is ${type}, not text/event-stream`);
    }
    this.#skip = lastEventId === undefined ? 0 : skip;
    const decoder = new TextDecoder();
    const parser = createParser({
      maxBufferSize: this.plan.maxEventBytes,
      onEvent: (event) => this.#take(event),
      onRetry: (ms) => {
        this.#retryMs = Math.min(Math.max(ms, MIN_RETRY_MS), MAX_RETRY_MS);
      },
      onError: (error) => {
        // Fields nobody knows are left out, as the standard has it.
        if (error.type !== 'max-buffer-size-exceeded') return;
        const limit = `maxEventBytes (${this.plan.maxEventBytes})`;
        this.#failure ??= this.#failed(`an event ${this.#place} is longer than ${limit}`);
      },
    });
    return {
      answer,
      body: body.getReader() as ReadableStreamDefaultReader<Uint8Array>,
      feed: (chunk) => parser.feed(decoder.decode(chunk, { stream: true })),
    };
  }

  /** V1. Reads one block, or makes a connection. */
  async #fill(): Promise<void> {
    if (this.#connection === undefined) {
      await pause(this.#retryMs, this.#ending.signal);
      await this.connect();
      return;
    }
    const { answer, body, feed } = this.#connection;
    const timer = systemClock.at(systemClock.now() + this.plan.idleTimeoutMs, () => answer.end());
    let chunk: Uint8Array | undefined;
    try {
      ({ value: chunk } = await body.read());
    } catch {
      // Broken, or too long without a byte: like an end, it is followed by another connection.
    } finally {
      timer.cancel();
    }
    if (chunk !== undefined) {
      feed(chunk);
      return;
    }
    this.#drop();
    if (!this.plan.reconnect) this.#hasEnded = true;
  }

  #drop(): void {
    this.#connection?.answer.end();
    this.#connection = undefined;
  }

  #take({ id, event = 'message', data }: { id?: string | undefined; event?: string | undefined; data: string }): void {
    const { name, events, replayable } = this.plan;
    // Nothing after a gap may move the position beyond it.
    if (this.#failure !== undefined) return;
    if (event === GAP_EVENT) {
      if (!replayable) return;
      const after = `the events ${this.#place} are gone from the server`;
      this.#failure ??= this.#failed(`${after}; replayable: false goes on without them`);
      return;
    }
    if (id === undefined && this.#skip > 0) {
      this.#skip -= 1;
      return;
    }
    this.#skip = 0;
    const { lastEventId, skip } = this.#parsed;
    // An empty id takes the last one back: from here on there is none.
    if (id !== undefined) this.#parsed = { lastEventId: id === '' ? undefined : id, skip: 0 };
    else this.#parsed = { lastEventId, skip: skip + 1 };
    if (events !== undefined && !events.has(event)) return;
    const key = id === undefined || id === '' ? {} : { key: `sse:${name}:${id}` };
    const metadata: SseMetadata = { ...key, event, lastEventId: this.#parsed.lastEventId };
    this.#waiting.push({ item: new Stamped(this.#valueOf(data), { metadata }), after: this.#parsed });
  }

  #valueOf(data: string): unknown {
    if (this.plan.format === 'text') return data;
    try {
      return parseJson(data);
    } catch (cause) {
      const which = this.#parsed.skip === 0 ? `the event ${this.#parsed.lastEventId}` : `an event ${this.#place}`;
      const message = `${this.plan.name}: ${which} is not JSON: ${wordsOf(cause)}`;
      return new RecordFailure(new TroupeError('PARSE_FAILED', message, { cause }), data);
    }
  }

  get #place(): string {
    const { lastEventId } = this.#parsed;
    return lastEventId === undefined ? 'without an id before it' : `after ${lastEventId}`;
  }

  #failed(words: string, cause?: unknown): TroupeError {
    return new TroupeError('SOURCE_FAILED', `Cannot read ${this.plan.name}: ${words}`, { cause });
  }
}

function positionOf(name: string, { position }: ResumeFrom): Position {
  if (typeof position === 'object' && position !== null && 'skip' in position && Number.isSafeInteger(position.skip)) {
    // JSON leaves undefined out.
    const lastEventId = 'lastEventId' in position ? position.lastEventId : undefined;
    if (lastEventId === undefined || typeof lastEventId === 'string') {
      return { lastEventId, skip: position.skip as number };
    }
  }
  throw new TroupeError('SOURCE_FAILED', `Cannot read ${name}: ${JSON.stringify(position)} is no position of it`);
}
