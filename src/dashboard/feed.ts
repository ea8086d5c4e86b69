/**
 * What happens, as Server-Sent Events for those who have the page open: the state once a second, events soon after they
 * happen.
 *
 * F1 it costs nothing while nobody looks. F2 the number of clients is bounded, and so is what each leaves unread: a slow one
 * is dropped, nothing is queued for it. F3 what everybody is told is put into words once.
 */
import { type Clock, systemClock, type Timer } from '../kernel/clock.js';
import type { HttpListener, IncomingMessage, ServerResponse } from '../stream/http-listener.js';
import type { PageEvent, PageState } from './state.js';

export interface FeedParts {
  state(): PageState;
  /** The newest, oldest first. */
  past(count: number): readonly PageEvent[];
  /** Hears every event from now on, until the function that comes back is called. */
  listen(hear: (event: PageEvent) => void): () => void;
  readonly clock?: Clock;
}

export const FEED_LIMITS = {
  clients: 16,
  /** What one client may leave unread, besides one message. */
  unreadBytes: 256 * 1024,
  stateMs: 1000,
  /** Events are gathered for so long, and at most so many of them; of more the oldest go, and their numbers show it. */
  eventsMs: 200,
  eventsAtOnce: 100,
  pastEvents: 100,
} as const;

export class Feed {
  readonly #parts: FeedParts;
  readonly #clock: Clock;
  readonly #clients = new Map<ServerResponse, () => void>();
  #gathered: PageEvent[] = [];
  #stateTimer: Timer | undefined;
  #eventsTimer: Timer | undefined;
  #silence: (() => void) | undefined;
  #isClosed = false;

  constructor(parts: FeedParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? systemClock;
  }

  get clientCount(): number {
    return this.#clients.size;
  }

  /** Tells this client from now on. */
  join(request: IncomingMessage, response: ServerResponse, listener: Pick<HttpListener, 'refuse'>): void {
    if (this.#clients.size >= FEED_LIMITS.clients) {
      listener.refuse(request, response, 'busy', `${FEED_LIMITS.clients} pages are open already`);
      return;
    }
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
    });
    this.#clients.set(response, () => listener.refuse(request, response, 'unread', 'too much was left unread'));
    response.on('close', () => this.#left(response));
    if (this.#silence === undefined) this.#begin();
    response.write(message('state', this.#parts.state()));
    response.write(message('events', this.#parts.past(FEED_LIMITS.pastEvents)));
  }

  /** Ends what every client is told. */
  close(): void {
    this.#isClosed = true;
    for (const response of this.#clients.keys()) response.end();
    this.#end();
  }

  #left(response: ServerResponse): void {
    this.#clients.delete(response);
    if (this.#clients.size === 0) this.#end();
  }

  #begin(): void {
    this.#silence = this.#parts.listen((event) => this.#gather(event));
    this.#beat();
  }

  /** F1. */
  #end(): void {
    this.#silence?.();
    this.#silence = undefined;
    this.#stateTimer?.cancel();
    this.#eventsTimer?.cancel();
    this.#eventsTimer = undefined;
    this.#gathered = [];
  }

  #beat(): void {
    this.#stateTimer = this.#after(FEED_LIMITS.stateMs, () => {
      this.#tell(message('state', this.#parts.state()));
      if (!this.#isClosed && this.#silence !== undefined) this.#beat();
    });
  }

  #gather(event: PageEvent): void {
    this.#gathered.push(event);
    if (this.#gathered.length > FEED_LIMITS.eventsAtOnce) this.#gathered.shift();
    this.#eventsTimer ??= this.#after(FEED_LIMITS.eventsMs, () => {
      this.#eventsTimer = undefined;
      const events = this.#gathered;
      this.#gathered = [];
      this.#tell(message('events', events));
    });
  }

  /** F2. */
  #tell(text: string): void {
    for (const [response, drop] of this.#clients) {
      if (response.writableLength <= FEED_LIMITS.unreadBytes) {
        response.write(text);
        continue;
      }
      drop();
      response.destroy();
      // One that waits behind another answer on its connection is not closed before that is.
      this.#left(response);
    }
  }

  #after(ms: number, run: () => void): Timer {
    const timer = this.#clock.at(this.#clock.now() + ms, run);
    timer.hold?.(false);
    return timer;
  }
}

/** JSON has no line breaks of its own. */
function message(type: 'state' | 'events', data: unknown): string {
  return `event: ${type}\ndata: ${JSON.stringify(data)}\n\n`;
}
