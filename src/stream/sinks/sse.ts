/**
 * Values as Server-Sent Events, for whoever listens. Events stand in one ring; a client is a place in it.
 *
 * W1 the ring is bounded in events and bytes, and a client holds no more than its socket does: no client costs memory.
 * W2 a client gets every event from its place on, in order; one that falls out of the ring is disconnected.
 * W3 no client holds the pipeline back.
 */
import { systemClock, type Timer } from '../../kernel/clock.js';
import { TroupeError } from '../../kernel/errors.js';
import type { RecordInfo } from '../envelope.js';
import {
  HttpListener,
  LISTEN_KEYS,
  answerError,
  checkListen,
  type IncomingMessage,
  type ListenOptions,
  type ServerResponse,
} from '../http-listener.js';
import { checkCount, checkKeys, refuse } from '../options.js';
import { RecordKeys, checkKey, type KeyOption } from '../record-key.js';
import type { Sink } from '../sink.js';
import { GAP_EVENT } from '../sse-events.js';
import { jsonOf } from './json-lines.js';

export interface ToSseOptions<T = unknown> extends ListenOptions {
  /** Type of the events. Default none, which clients call `message`. */
  event?: string;
  /** Most events that are kept for clients that come back or lag. Default 1000. */
  history?: number;
  /** Most bytes of these; the newest event stays whatever its size. Default 16,777,216. */
  historyBytes?: number;
  /** A further client is answered 503. Default 100. */
  maxClients?: number;
  /** How long clients wait before they come back. Default 1000. */
  retryMs?: number;
  /** A comment is sent this often when there is nothing else, so that both sides learn of a dead connection. Default 15,000. */
  heartbeatMs?: number;
  /** What ids are made of; default the record's name in its source, or run and record id. */
  key?: KeyOption<T>;
}

/** How long clients have, when the run ends, to take what was sent. */
const CLOSE_GRACE_MS = 1000;

/**
 * Serves every value as an event, as JSON, with the record's key as its id. A client sees what is written while it is
 * there; with Last-Event-ID it first gets what it missed, as far as the ring reaches, and an event of the type
 * `troupe-gap` where it does not. Never waits for a client: one that is slower than the ring is long is disconnected,
 * and comes back to such a gap. So delivery is at most once. A record that is written again while it is in the ring
 * is not sent again. Rejects with SINK_FAILED when it cannot listen.
 */
export function toSse<T = unknown>(options: ToSseOptions<T>): Sink<T> {
  checkKeys('toSse', options, [
    ...LISTEN_KEYS,
    'event',
    'history',
    'historyBytes',
    'maxClients',
    'retryMs',
    'heartbeatMs',
    'key',
  ]);
  checkListen('toSse', options);
  const { event, history = 1000, historyBytes = 16_777_216, maxClients = 100, retryMs = 1000 } = options;
  const { heartbeatMs = 15_000, key, host = '127.0.0.1', port, path = '/' } = options;
  if (event !== undefined && (typeof event !== 'string' || !/^[\w.-]+$/.test(event) || event === GAP_EVENT)) {
    refuse('event', `a name of letters, digits, dots and dashes other than ${GAP_EVENT}`, event);
  }
  checkCount('history', history);
  checkCount('historyBytes', historyBytes);
  checkCount('maxClients', maxClients);
  checkCount('retryMs', retryMs, 0);
  checkCount('heartbeatMs', heartbeatMs);
  checkKey('key', key);
  const plan = { event, history, historyBytes, maxClients, retryMs, heartbeatMs };
  return new SseSink(`http://${host}:${port}${path}`, options as ListenOptions, plan, new RecordKeys(key));
}

interface Plan {
  readonly event: string | undefined;
  readonly history: number;
  readonly historyBytes: number;
  readonly maxClients: number;
  readonly retryMs: number;
  readonly heartbeatMs: number;
}

interface RingEvent {
  readonly id: string;
  readonly text: Buffer;
}

interface Client {
  readonly response: ServerResponse;
  /** Number of the event it gets next. */
  next: number;
}

class SseSink implements Sink<unknown> {
  #listener: HttpListener | undefined;
  readonly #clients = new Set<Client>();
  #ring: RingEvent[] = [];
  /** Number of the first event in the ring. */
  #first = 0;
  #bytes = 0;
  readonly #numbers = new Map<string, number>();
  #heartbeat: Timer | undefined;

  constructor(
    readonly name: string,
    private readonly options: ListenOptions,
    private readonly plan: Plan,
    private readonly keys: RecordKeys,
  ) {}

  async open(): Promise<void> {
    this.keys.open(undefined);
    this.#ring = [];
    this.#first = 0;
    this.#bytes = 0;
    this.#numbers.clear();
    this.#listener = new HttpListener(this.options, 'GET', (request, response) => this.#join(request, response));
    try {
      await this.#listener.open();
    } catch (cause) {
      this.#listener = undefined;
      const words = cause instanceof Error ? cause.message : String(cause);
      throw new TroupeError('SINK_FAILED', `Cannot listen at ${this.name}: ${words}`, { cause });
    }
    this.#beat();
  }

  /** W3. */
  write(values: readonly unknown[], records: readonly RecordInfo[]): void {
    for (const [index, value] of values.entries()) this.#add(value, records[index] as RecordInfo);
    for (const client of this.#clients) this.#pump(client);
  }

  async close(): Promise<void> {
    const listener = this.#listener;
    if (listener === undefined) return;
    this.#listener = undefined;
    this.#heartbeat?.cancel();
    // A client without room now gets the rest when its socket has room, and then its end: see #pump.
    for (const client of this.#clients) this.#pump(client);
    await listener.close(CLOSE_GRACE_MS);
  }

  async abort(): Promise<void> {
    for (const { response } of this.#clients) response.destroy();
    await this.close();
  }

  #add(value: unknown, record: RecordInfo): void {
    const id = this.keys.of(value, record);
    if (/[\r\n\0]/.test(id))
      throw new TypeError(`record ${record.id}: a line break in its key, which is an event's id`);
    if (this.#numbers.has(id)) return;
    const { event, history, historyBytes } = this.plan;
    const type = event === undefined ? '' : `event: ${event}\n`;
    const text = Buffer.from(`id: ${id}\n${type}data: ${jsonOf(value, record)}\n\n`);
    this.#numbers.set(id, this.#first + this.#ring.length);
    this.#ring.push({ id, text });
    this.#bytes += text.length;
    // W1.
    while (this.#ring.length > history || (this.#bytes > historyBytes && this.#ring.length > 1)) {
      const gone = this.#ring.shift() as RingEvent;
      this.#first += 1;
      this.#bytes -= gone.text.length;
      this.#numbers.delete(gone.id);
    }
  }

  #join(request: IncomingMessage, response: ServerResponse): void {
    if (this.#clients.size >= this.plan.maxClients) {
      answerError(request, response, 503, `${this.plan.maxClients} clients are here already`);
      return;
    }
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
    });
    response.write(`retry: ${this.plan.retryMs}\n\n`);
    const given = request.headers['last-event-id'];
    const client: Client = { response, next: this.#first + this.#ring.length };
    if (typeof given === 'string' && given !== '') {
      const known = this.#numbers.get(Buffer.from(given, 'latin1').toString());
      client.next = known === undefined ? this.#first : known + 1;
      if (known === undefined) response.write(`event: ${GAP_EVENT}\ndata: {}\n\n`);
    }
    this.#clients.add(client);
    response.on('close', () => this.#clients.delete(client));
    response.on('drain', () => this.#pump(client));
    this.#pump(client);
  }

  /** W2. */
  #pump(client: Client): void {
    const { response } = client;
    if (client.next < this.#first) {
      response.destroy();
      return;
    }
    while (!response.writableNeedDrain && !response.writableEnded && !response.destroyed) {
      const event = this.#ring[client.next - this.#first];
      if (event === undefined) {
        if (this.#listener === undefined) response.end();
        return;
      }
      client.next += 1;
      response.write(event.text);
    }
  }

  #beat(): void {
    this.#heartbeat = systemClock.at(systemClock.now() + this.plan.heartbeatMs, () => {
      for (const { response } of this.#clients) if (!response.writableNeedDrain) response.write(':\n\n');
      this.#beat();
    });
  }
}
