/** Takes the body of a request apart: bytes within limits, one content encoding, JSON or NDJSON of bounded depth. */
import { promisify } from 'node:util';
import { gunzip, inflate } from 'node:zlib';
import { TroupeError } from '../kernel/errors.js';
import { RecordFailure } from './envelope.js';
import type { IncomingMessage } from './http-listener.js';
import { parseJson } from './parse-json.js';

const INFLATERS = new Map([
  ['gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
]);
const FORMATS = new Map<string, BodyFormat>([
  ['application/json', 'json'],
  ['application/x-ndjson', 'ndjson'],
]);
/** Strangers may post; nobody means more. */
const MAX_POSTED_DEPTH = 100;
/** What is kept of a bad line, for the dead letter. */
const EXCERPT_CHARS = 1024;

export type BodyFormat = 'json' | 'ndjson';

/** Why a request is not taken. */
export class Refusal {
  constructor(
    readonly status: number,
    readonly message: string,
    readonly code?: string,
  ) {}
}

/** Bytes of all bodies that are held, being read included. */
export class ByteBudget {
  #held = 0;

  constructor(private readonly capacityBytes: number) {}

  get held(): number {
    return this.#held;
  }

  take(bytes: number): boolean {
    if (this.#held + bytes > this.capacityBytes) return false;
    this.#held += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#held -= bytes;
  }
}

/** Chunks put together as they come: kept one by one, a body in chunks of one byte costs hundreds of times its size. */
class Gathered {
  #room = Buffer.alloc(0);
  #length = 0;

  get bytes(): Buffer {
    return this.#room.subarray(0, this.#length);
  }

  add(chunk: Buffer): void {
    const length = this.#length + chunk.length;
    if (length > this.#room.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, 2 * this.#room.length));
      this.#room.copy(larger, 0, 0, this.#length);
      this.#room = larger;
    }
    chunk.copy(this.#room, this.#length);
    this.#length = length;
  }
}

/** By one exact media type; `charset=utf-8` may stand behind it. */
export function formatOf(request: IncomingMessage): BodyFormat | Refusal {
  const given = request.headers['content-type'] ?? '';
  const format = FORMATS.get(given.toLowerCase().replace(/\s*;\s*charset="?utf-8"?$/, ''));
  return format ?? new Refusal(415, `content-type must be ${[...FORMATS.keys()].join(' or ')}`);
}

/**
 * The bytes of a body, inflated. What is held of it stands in the budget: `held` of the answer, nothing after a
 * refusal. Undefined when the client went away.
 */
export async function readBody(
  request: IncomingMessage,
  maxBytes: number,
  budget: ByteBudget,
): Promise<{ readonly bytes: Buffer; readonly held: number } | Refusal | undefined> {
  const encoding = (request.headers['content-encoding'] ?? 'identity').toLowerCase();
  const inflater = INFLATERS.get(encoding);
  if (inflater === undefined && encoding !== 'identity') {
    return new Refusal(415, `content-encoding must be one of identity, ${[...INFLATERS.keys()].join(', ')}`);
  }
  const tooLarge = new Refusal(413, `the body is larger than ${maxBytes} bytes`);
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) return tooLarge;
  const gathered = new Gathered();
  let held = 0;
  const release = <T>(answer: T): T => {
    budget.give(held);
    return answer;
  };
  try {
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      if (held + chunk.length > maxBytes) return release(tooLarge);
      if (!budget.take(chunk.length)) return release(busy());
      held += chunk.length;
      gathered.add(chunk);
    }
  } catch {
    return release(undefined); // The connection ended in the middle of the body.
  }
  const { bytes } = gathered;
  if (inflater === undefined) return { bytes, held };
  // Inflating may fill all that is allowed before anybody knows how much it is.
  if (!budget.take(maxBytes)) return release(busy());
  held += maxBytes;
  try {
    const inflated = await inflater(bytes, { maxOutputLength: maxBytes });
    budget.give(held - inflated.length);
    return { bytes: inflated, held: inflated.length };
  } catch (cause) {
    const isTooLarge = cause instanceof Error && 'code' in cause && cause.code === 'ERR_BUFFER_TOO_LARGE';
    return release(isTooLarge ? tooLarge : new Refusal(400, `the body is not ${encoding}`));
  }
}

/** The records of a body. A bad line of NDJSON is a failed record; a bad JSON body is refused as a whole. */
export function recordsOf(bytes: Buffer, format: BodyFormat, name: string): readonly unknown[] | Refusal {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new Refusal(400, 'the body is not valid UTF-8', 'PARSE_FAILED');
  }
  if (format === 'ndjson') return linesOf(text, name);
  try {
    const value: unknown = parseJson(text, MAX_POSTED_DEPTH);
    return Array.isArray(value) ? value : [value];
  } catch (cause) {
    return new Refusal(400, `the body is not JSON: ${wordsOf(cause)}`, 'PARSE_FAILED');
  }
}

function linesOf(text: string, name: string): unknown[] {
  const records: unknown[] = [];
  text.split('\n').forEach((line, index) => {
    if (line.trim() === '') return;
    try {
      records.push(parseJson(line, MAX_POSTED_DEPTH));
    } catch (cause) {
      const message = `${name}: line ${index + 1} of a body is not JSON: ${wordsOf(cause)}`;
      records.push(
        new RecordFailure(new TroupeError('PARSE_FAILED', message, { cause }), line.slice(0, EXCERPT_CHARS)),
      );
    }
  });
  return records;
}

function busy(): Refusal {
  return new Refusal(503, 'too many bytes are held already', 'MAILBOX_FULL');
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
