import { request, type RequestOptions } from 'node:http';
import type { ExecutionContext } from 'ava';
import {
  type Columns,
  createSystem,
  defineActor,
  type ServeOptions,
  type Serving,
  type Signature,
  silentLog,
  type System,
} from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';

/** Answers of the server, and pools to ask. */

export interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly bytes: Buffer;
  readonly text: string;
  /** Parsed, where it is JSON. */
  readonly json: any; // any: tests look into what they expect
}

/** Sends exactly these bytes and headers. */
export function send(at: RequestOptions, body: string | Buffer = ''): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(at, (response) => {
      const parts: Buffer[] = [];
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('error', reject);
      response.on('end', () => {
        const bytes = Buffer.concat(parts);
        const text = bytes.toString();
        const isJson = response.headers['content-type'] === 'application/json' && !response.headers['content-encoding'];
        const json: unknown = isJson ? JSON.parse(text) : undefined;
        resolve({ status: response.statusCode ?? 0, headers: response.headers, bytes, text, json });
      });
    });
    sent.on('error', reject).end(body);
  });
}

export interface Stand {
  readonly system: System;
  readonly serving: Serving;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  post(path: string, body?: string | Buffer | object, headers?: Record<string, string>): Promise<Answer>;
}

export async function stand(t: ExecutionContext, options: ServeOptions = {}): Promise<Stand> {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const serving = await system.serve({ port: 0, ...options });
  const { port } = serving.addresses[0] ?? { port: 0 };
  return {
    system,
    serving,
    get: (path, headers = {}) => send({ port, path, headers, method: 'GET' }),
    post: (path, body = '', headers = {}) => {
      const bytes = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
      return send({ port, path, headers, method: 'POST' }, bytes);
    },
  };
}

const signature: Signature = {
  inputs: [{ name: 'x', dtype: 'float32', shape: [2] }],
  outputs: [
    { name: 'y', dtype: 'float32', shape: [2] },
    { name: 'batch', dtype: 'int64', shape: [] },
  ],
};

function double({ count, columns }: Columns): Columns {
  const xs = columns['x']?.data as Float32Array;
  return {
    count,
    columns: {
      y: { dtype: 'float32', shape: [2], data: xs.map((x) => 2 * x) },
      batch: { dtype: 'int64', shape: [], data: new BigInt64Array(count).fill(BigInt(count)) },
    },
  };
}

/** Doubles `x`, and says how many records its batch had. */
export const doubler = defineActor({ signature, predict: double });

/** As `doubler`, each batch after `before`. */
export function doublerAfter(before: (xs: Float32Array) => unknown) {
  return defineActor({
    signature,
    predict: async (batch: Columns) => {
      await before(batch.columns['x']?.data as Float32Array);
      return double(batch);
    },
  });
}

/** As `doubler`, with every batch held until it is let go. */
export function heldDoubler() {
  const gate = deferred<void>();
  const entered = deferred<void>();
  const actor = doublerAfter(async () => {
    entered.resolve();
    await gate.promise;
  });
  return { actor, entered: entered.promise, letGo: () => gate.resolve() };
}

/** A request of JSON for `doubler`. */
export const pairs = (...rows: readonly (readonly [number, number])[]): object => ({
  inputs: [{ name: 'x', datatype: 'FP32', shape: [rows.length, 2], data: rows }],
});
