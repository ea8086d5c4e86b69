import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test from 'ava';
import type { Sink } from '../../../src/stream/sink.js';
import { toArray } from '../../../src/stream/sinks/array.js';
import { toFile } from '../../../src/stream/sinks/file.js';
import { forEach } from '../../../src/stream/sinks/for-each.js';
import { toHttp } from '../../../src/stream/sinks/http.js';
import { toSse } from '../../../src/stream/sinks/sse.js';
import { StreamSink } from '../../../src/stream/sinks/stdout.js';
import { checkSink, type SinkStand } from '../../../src/testing/index.js';
import { folder } from '../../stream/folder.js';
import { listen } from '../../stream/http-stand.js';
import { EventClient } from './sse-stands.js';
import { conforms } from './conforms.js';

const parsed = (text: string): unknown[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as unknown);

test('toArray conforms', async (t) => {
  const report = await checkSink('toArray', {
    stand: async () => {
      const values: unknown[] = [];
      return { sink: () => toArray(values), values: () => values };
    },
    unwritable: null,
  });
  conforms(t, report, 7);
});

test('forEach conforms, and waits for what its function waits for', async (t) => {
  const report = await checkSink('forEach', {
    stand: async () => {
      const values: unknown[] = [];
      let isStalled = false;
      let isRefusing = false;
      const take = (value: unknown): unknown => {
        if (isRefusing) throw new Error('forEach: no more');
        if (isStalled) return new Promise(() => undefined);
        return values.push(value);
      };
      return {
        sink: () => forEach(take),
        values: () => values,
        stall: async () => {
          isStalled = true;
        },
        refuse: async () => {
          isRefusing = true;
        },
      };
    },
    unwritable: null,
  });
  conforms(t, report, 8);
});

test('toFile conforms', async (t) => {
  const path = await folder(t);
  for (const append of [false, true]) {
    let count = 0;
    const report = await checkSink(`toFile, append: ${append}`, {
      stand: async () => {
        const file = join(path, `${append}-${(count += 1)}.ndjson`);
        return { sink: () => toFile(file, { append }), values: async () => parsed(await readFile(file, 'utf8')) };
      },
      unreachable: () => toFile(join(path, 'missing', 'too', 'out.ndjson')),
      beginsAnew: !append,
    });
    conforms(t, report, 9);
  }
});

test('toStdout conforms', async (t) => {
  const report = await checkSink('toStdout', {
    stand: async () => {
      const output = new PassThrough();
      let text = '';
      const take = (chunk: Buffer): void => {
        text += chunk.toString();
      };
      output.on('data', take);
      return {
        sink: () => new StreamSink('stdout', output, 'auto'),
        values: () => parsed(text),
        stall: async () => {
          output.pause();
        },
      };
    },
  });
  conforms(t, report, 8);
});

test('toHttp conforms', async (t) => {
  for (const options of [{ batch: 1 }, { batch: 10 }, { format: 'ndjson' }] as const) {
    const report = await checkSink(`toHttp, ${JSON.stringify(options)}`, {
      stand: () => ReceiverStand.start(options),
    });
    // Keys of single records come again as they were; those of groups do not, so such a sink promises nothing.
    conforms(t, report, 'batch' in options && options.batch === 1 ? 12 : 10);
  }
});

test('toSse conforms', async (t) => {
  const { url } = await listen(t);
  const report = await checkSink('toSse', {
    stand: async () => new EventClient(),
    unreachable: () => toSse({ port: Number(new URL(url).port) }),
  });
  conforms(t, report, 9);
});

/** A receiver as the docs ask for: it knows an Idempotency-Key that comes again. */
class ReceiverStand implements SinkStand {
  readonly #got: unknown[] = [];
  readonly #known = new Set<string>();
  readonly #sockets = new Set<Socket>();
  #mode: 'take' | 'stall' | 'refuse' = 'take';

  private constructor(
    private readonly server: Server,
    private readonly options: Parameters<typeof toHttp>[1],
  ) {
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    server.on('request', (request, response) => {
      if (this.#mode === 'stall') return;
      let body = '';
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      request.on('end', () => {
        if (this.#mode === 'refuse') {
          response.writeHead(422).end();
          return;
        }
        const key = String(request.headers['idempotency-key']);
        if (!this.#known.has(key)) this.#take(body, request.headers['content-type'] === 'application/x-ndjson');
        this.#known.add(key);
        response.writeHead(204).end();
      });
    });
  }

  static async start(options: Parameters<typeof toHttp>[1]): Promise<ReceiverStand> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new ReceiverStand(server, options);
  }

  sink(): Sink<never> {
    const { port } = this.server.address() as AddressInfo;
    const retry = { attempts: 3, backoffMs: 1, maxBackoffMs: 5 };
    return toHttp(`http://127.0.0.1:${port}/hook`, { ...this.options, retry });
  }

  values(): unknown[] {
    return this.#got;
  }

  async disconnect(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stall(): Promise<void> {
    this.#mode = 'stall';
  }

  async refuse(): Promise<void> {
    this.#mode = 'refuse';
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  #take(body: string, isNdjson: boolean): void {
    if (isNdjson) this.#got.push(...parsed(body));
    else {
      const value = JSON.parse(body) as unknown;
      this.#got.push(...(Array.isArray(value) ? (value as unknown[]) : [value]));
    }
  }
}

test('the kit sees what is wrong with a sink', async (t) => {
  const report = await checkSink('wrong in every way', {
    stand: async () => {
      const values: unknown[] = [];
      return {
        sink: () => ({
          name: '',
          isIdempotent: true,
          prepare: () => 1n as never,
          write: (some: readonly unknown[]) => void values.push(...[...some].reverse()),
          close: () => undefined,
        }),
        values: () => values,
        stall: async () => undefined,
        refuse: async () => undefined,
        disconnect: async () => {
          values.length = 0;
        },
      };
    },
    unreachable: () => toArray(),
  });
  const passed = report.checks.filter(({ outcome }) => outcome === 'passed').map(({ title }) => title);
  t.deepEqual(passed, ['it can be opened and closed without a value']);
});
