import { systemClock } from '../kernel/clock.js';
import type { ServerResponse } from '../stream/http-listener.js';

/** A client that has not taken an event by then loses its connection. */
const TAKE_MS = 60_000;

/** Server-sent events of one answer, at the pace of its reader. */
export class EventWriter {
  readonly #response: ServerResponse;

  constructor(response: ServerResponse) {
    this.#response = response;
  }

  begin(): void {
    this.#response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      // What stands between would hold pieces back.
      'x-accel-buffering': 'no',
    });
  }

  /** Resolves when there is room for the next; false: the reader has gone. */
  async send(data: string): Promise<boolean> {
    const response = this.#response;
    if (response.destroyed || response.closed) return false;
    if (!response.write(`data: ${data}\n\n`)) await this.#drained();
    return !response.destroyed && !response.closed;
  }

  end(): void {
    this.#response.end();
  }

  #drained(): Promise<void> {
    const response = this.#response;
    return new Promise((resolve) => {
      const timer = systemClock.at(systemClock.now() + TAKE_MS, () => response.destroy());
      const done = (): void => {
        timer.cancel();
        response.off('drain', done);
        response.off('close', done);
        resolve();
      };
      response.once('drain', done);
      response.once('close', done);
      if (response.destroyed) done();
    });
  }
}
