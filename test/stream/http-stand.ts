import { request } from 'node:http';
import type { ExecutionContext } from 'ava';
import { Stamped } from '../../src/stream/envelope.js';
import type { ListenAddress } from '../../src/stream/http-listener.js';
import type { Source, SourceReader } from '../../src/stream/source.js';
import { fromHttp, type FromHttpOptions } from '../../src/stream/sources/http.js';

/** An open HTTP source, closed with the test. */
export async function listen(
  t: ExecutionContext,
  options: Partial<FromHttpOptions> = {},
): Promise<{ source: Source<unknown>; reader: SourceReader<unknown>; url: string }> {
  let url = '';
  const onListening = (at: ListenAddress): void => {
    ({ url } = at);
  };
  const source = fromHttp({ port: 0, path: '/records', onListening, ...options });
  const reader = await source.open();
  t.teardown(() => reader.close());
  return { source, reader, url };
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
}

export interface Post {
  readonly method?: string;
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
}

/** A request with exactly these headers, Host included; fetch would mend them. */
export function ask(url: string, { method = 'POST', path, headers = {}, body }: Post): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      {
        method,
        agent: false,
        ...(path === undefined ? {} : { path }),
        headers: { 'content-type': 'application/json', ...headers },
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
        response.on('error', reject);
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

/** Reads `count` records. */
export async function take(reader: SourceReader<unknown>, count: number): Promise<Stamped<unknown>[]> {
  const items: Stamped<unknown>[] = [];
  while (items.length < count) {
    const read = await reader.read(count - items.length);
    if (read === undefined) break;
    for (const item of read) {
      if (!(item instanceof Stamped)) throw new TypeError('not stamped');
      items.push(item);
    }
  }
  return items;
}
