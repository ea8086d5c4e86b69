import type { ListenAddress } from '../../../src/stream/http-listener.js';
import { fromHttp, type FromHttpOptions } from '../../../src/stream/sources/http.js';
import type { SourceStand } from '../../../src/testing/index.js';

interface Line {
  readonly text: string;
  isDone: boolean;
}

/**
 * The place an HTTP source reads from is a client with records of its own: it posts what was not answered well, again
 * and again, in order, at most a few hundred at once.
 */
export class HttpClientStand implements SourceStand {
  readonly ends = false;
  readonly source;
  readonly #lines: Line[] = [];
  readonly #closing = new AbortController();
  #url: string | undefined;
  #posting: Promise<void> | undefined;

  private constructor(options: Partial<FromHttpOptions>) {
    const onListening = ({ url }: ListenAddress): void => {
      this.#url = url;
      this.#go();
    };
    this.source = fromHttp({ port: 0, ...options, onListening });
  }

  static async start(
    records: readonly unknown[],
    hasBad: boolean,
    options: Partial<FromHttpOptions>,
  ): Promise<HttpClientStand> {
    const stand = new HttpClientStand(options);
    stand.#push([...records.map((record) => JSON.stringify(record)), ...(hasBad ? ['{oops'] : [])]);
    return stand;
  }

  async add(records: readonly unknown[]): Promise<void> {
    this.#push(records.map((record) => JSON.stringify(record)));
    this.#go();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#posting;
  }

  #push(texts: readonly string[]): void {
    for (const text of texts) this.#lines.push({ text, isDone: false });
  }

  /** One loop at a time, for as long as somebody listens. */
  #go(): void {
    if (this.#posting !== undefined || this.#url === undefined) return;
    const url = this.#url;
    this.#posting = this.#post(url).then(() => {
      this.#posting = undefined;
      if (this.#url !== url) this.#go();
    });
  }

  async #post(url: string): Promise<void> {
    // Records that are added while a request waits for its answer go out beside it.
    const underWay = new Set<Line>();
    const requests = new Set<Promise<void>>();
    while (!this.#closing.signal.aborted && this.#url === url) {
      const lines = this.#lines.filter((line) => !line.isDone && !underWay.has(line)).slice(0, 500);
      if (lines.length === 0 && requests.size === 0) return;
      if (lines.length > 0) {
        for (const line of lines) underWay.add(line);
        const request = this.#send(url, lines).then(() => {
          for (const line of lines) underWay.delete(line);
          requests.delete(request);
        });
        requests.add(request);
      }
      const turn = new Promise((resolve) => setImmediate(resolve));
      await Promise.race(lines.length > 0 ? [turn] : [...requests, turn]);
    }
    await Promise.all(requests);
  }

  async #send(url: string, lines: readonly Line[]): Promise<void> {
    const headers = { 'content-type': 'application/x-ndjson' };
    const body = lines.map(({ text }) => text).join('\n');
    try {
      const response = await fetch(url, { method: 'POST', headers, body, signal: this.#closing.signal });
      const answer = (await response.json()) as { results?: { error?: unknown }[] };
      lines.forEach((line, index) => {
        const result = answer.results?.[index];
        line.isDone = response.status === 200 || (result !== undefined && result.error === undefined);
      });
      if (response.status === 503 && answer.results === undefined) throw new Error('full, or ended');
    } catch {
      // Nobody listens any more: the next one that does is told of by onListening.
      if (this.#url === url) this.#url = undefined;
    }
  }
}
