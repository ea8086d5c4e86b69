import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createParser } from 'eventsource-parser';
import type { ListenAddress } from '../../../src/stream/http-listener.js';
import type { Sink } from '../../../src/stream/sink.js';
import { toSse, type ToSseOptions } from '../../../src/stream/sinks/sse.js';
import type { Source } from '../../../src/stream/source.js';
import { fromSse, type FromSseOptions } from '../../../src/stream/sources/sse.js';
import type { SinkStand, SourceStand } from '../../../src/testing/index.js';

export interface EventServerOptions {
  /** Every n-th event has an id; Infinity for none. */
  readonly idEvery?: number;
  readonly source?: FromSseOptions;
}

/** A server of events that honours Last-Event-ID, written apart from toSse; its ids are numbers from 1. */
export class EventServer implements SourceStand {
  readonly ends = false;
  readonly source: Source<unknown>;
  readonly #events: string[] = [];
  readonly #clients = new Map<ServerResponse, number>();

  private constructor(
    private readonly server: Server,
    private readonly idEvery: number,
    options: FromSseOptions,
  ) {
    const { port } = server.address() as AddressInfo;
    const retry = { attempts: 5, backoffMs: 1, maxBackoffMs: 5 };
    this.source = fromSse(`http://127.0.0.1:${port}/events?secret=1`, { retry, ...options });
    server.on('request', (request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' }).write('retry: 10\n\n');
      this.#clients.set(response, Number(request.headers['last-event-id'] ?? 0));
      response.on('close', () => this.#clients.delete(response));
      this.#send();
    });
  }

  static async start(
    records: readonly unknown[],
    hasBad: boolean,
    { idEvery = 1, source = {} }: EventServerOptions = {},
  ): Promise<EventServer> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const stand = new EventServer(server, idEvery, source);
    await stand.add(records);
    if (hasBad) stand.#events.push('{oops');
    return stand;
  }

  async add(records: readonly unknown[]): Promise<void> {
    this.#events.push(...records.map((record) => JSON.stringify(record)));
    this.#send();
  }

  async disconnect(): Promise<void> {
    for (const response of this.#clients.keys()) response.destroy();
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  #send(): void {
    for (const [response, next] of this.#clients) {
      for (let index = next; index < this.#events.length; index += 1) {
        const id = (index + 1) % this.idEvery === 0 ? `id: ${index + 1}\n` : '';
        response.write(`${id}data: ${this.#events[index]}\n\n`);
      }
      this.#clients.set(response, this.#events.length);
    }
  }
}

/** A client that is there before the first value, sees every event, and comes back after a break. */
export class EventClient implements SinkStand {
  readonly #values: unknown[] = [];
  readonly #ending = new AbortController();
  #lastEventId = 'from the beginning';
  #reading: Promise<void> | undefined;
  #onConnected: () => void = () => undefined;
  #break: AbortController | undefined;

  constructor(private readonly options: Partial<ToSseOptions> = {}) {}

  sink(): Sink<never> {
    let url = '';
    const onListening = (at: ListenAddress): void => {
      ({ url } = at);
    };
    const sink = toSse({ port: 0, retryMs: 5, ...this.options, onListening });
    return {
      name: sink.name,
      open: async () => {
        await sink.open?.();
        await this.#come(url);
      },
      write: (values, records) => sink.write(values, records),
      close: async () => {
        await sink.close();
        await this.#reading;
      },
      abort: async () => {
        await sink.abort?.();
        await this.#reading;
      },
    };
  }

  values(): unknown[] {
    return this.#values;
  }

  /** Resolves when it has come back: a run that ended meanwhile would leave it behind. */
  async disconnect(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#onConnected = resolve;
      this.#break?.abort();
    });
  }

  async close(): Promise<void> {
    this.#ending.abort();
    await this.#reading;
  }

  async #come(url: string): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#onConnected = resolve;
      this.#reading = this.#read(url);
    });
  }

  async #read(url: string): Promise<void> {
    while (!this.#ending.signal.aborted) {
      const broken = new AbortController();
      this.#break = broken;
      try {
        const signal = AbortSignal.any([this.#ending.signal, broken.signal]);
        const response = await fetch(url, { headers: { 'last-event-id': this.#lastEventId }, signal });
        const parser = createParser({
          onEvent: ({ id, data }) => {
            if (id === undefined) return;
            this.#lastEventId = id;
            this.#values.push(JSON.parse(data));
          },
        });
        const decoder = new TextDecoder();
        for await (const chunk of response.body ?? []) {
          this.#onConnected();
          parser.feed(decoder.decode(chunk, { stream: true }));
        }
        return; // The server has ended well.
      } catch {
        if (!broken.signal.aborted) return; // Nobody listens any more.
      }
    }
  }
}
