/** Takes the body of a request apart: bytes within limits, one content encoding, JSON or NDJSON of bounded depth. */
import { promisify } from 'node:util';
import { gunzip, inflate } from 'node:zlib';
import { systemClock } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import { type BodyMemory, REUSED_BYTES_MIN } from './body-memory.js';
import { RecordFailure } from './envelope.js';
import type { IncomingMessage } from './http-listener.js';
import { countBrackets, MAX_REQUEST_BRACKETS, parseJson } from './parse-json.js';

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
/** As many as Triton takes: each costs more than its bytes. */
const CHUNKS_MAX = 65_536;
/** So long nothing of a body that has begun may come. The listener bounds the whole. */
const STALL_MS = 30_000;
/** Of the largest numbers. */
const ALIGNMENT = 8;
/** Deflate makes at most 1032 bytes of one. */
const EXPANSION_MAX = 1040;
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
  #refusedCount = 0;

  constructor(private readonly capacityBytes: number) {}

  get held(): number {
    return this.#held;
  }

  /** How often there was no room: each was the end of a request. */
  get refusedCount(): number {
    return this.#refusedCount;
  }

  take(bytes: number): boolean {
    if (this.#held + bytes > this.capacityBytes) {
      this.#refusedCount++;
      return false;
    }
    this.#held += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#held -= bytes;
  }
}

/** More than this is not made for what a header only says. */
const FIRST_BYTES = 65_536;
const GROWTH = 4;
const NOTHING = Buffer.alloc(0);

/** Chunks put together as they come: kept one by one, a body in chunks of one byte costs hundreds of times its size. */
class Gathered {
  #whole: Buffer | undefined;
  #room: Buffer = NOTHING;
  #length = 0;
  /** Of all there is to come; 0 where that is not known, or little. */
  readonly #reusedBytes: number;
  #isReusable = false;

  /** So many bytes are said to come; they begin `skipped` behind what is aligned for every number. */
  constructor(
    private readonly said: number,
    private readonly skipped: number,
    private readonly memory: BodyMemory | undefined,
  ) {
    this.#reusedBytes = memory === undefined || said < REUSED_BYTES_MIN || said === Infinity ? 0 : skipped + said;
  }

  get bytes(): Buffer {
    return this.#whole ?? this.#room.subarray(this.skipped, this.skipped + this.#length);
  }

  add(chunk: Buffer): void {
    // All there is, in memory of its own: most small bodies.
    if (chunk.length === this.said && chunk.buffer.byteLength === chunk.length) {
      this.#whole = chunk;
      return;
    }
    const from = this.skipped + this.#length;
    const to = from + chunk.length;
    if (to > this.#room.length) {
      const larger = this.#largerFor(to);
      this.#room.copy(larger, 0, 0, from);
      this.#room = larger;
    }
    chunk.copy(this.#room, from);
    this.#length += chunk.length;
  }

  /** Nobody looks at the bytes any more. */
  free(): void {
    if (this.#isReusable) this.memory?.give(this.#room);
    this.#isReusable = false;
  }

  #largerFor(bytes: number): Buffer {
    const { said, skipped, memory } = this;
    const wanted = Math.max(bytes, FIRST_BYTES, (said === Infinity ? 2 : GROWTH) * this.#room.length);
    const size = Math.max(bytes, Math.min(wanted, skipped + said));
    // Only once a part of it has come, as fresh memory: what a length merely says gets neither.
    if (memory === undefined || size !== this.#reusedBytes) return Buffer.allocUnsafe(size);
    this.#isReusable = true;
    return memory.take(size) ?? memory.make(size);
  }
}

/** Destroys a request of which nothing comes. One timer, not one a chunk: a body may have many thousands. */
class StallWatch {
  #movedAt = systemClock.now();
  #timer: { cancel(): void };
  #isOver = false;

  constructor(
    private readonly request: IncomingMessage,
    private readonly stallMs: number,
  ) {
    this.#timer = systemClock.at(this.#movedAt + stallMs, this.#look);
  }

  moved(): void {
    this.#movedAt = systemClock.now();
  }

  end(): void {
    this.#isOver = true;
    this.#timer.cancel();
  }

  /** Where this process itself stood still, what came meanwhile was not read yet: timers are first. */
  readonly #look = (): void => void setImmediate(this.#judge);

  readonly #judge = (): void => {
    if (this.#isOver) return;
    const dueAt = this.#movedAt + this.stallMs;
    if (systemClock.now() >= dueAt) this.request.destroy();
    else this.#timer = systemClock.at(dueAt, this.#look);
  };
}

/** By one exact media type; `charset=utf-8` may stand behind it. */
export function formatOf(request: IncomingMessage): BodyFormat | Refusal {
  const given = request.headers['content-type'] ?? '';
  const format = FORMATS.get(given.toLowerCase().replace(/\s*;\s*charset="?utf-8"?$/, ''));
  return format ?? new Refusal(415, `content-type must be ${[...FORMATS.keys()].join(' or ')}`);
}

export interface ReadOptions {
  /** So long nothing of it may come. Default 30,000. */
  readonly stallMs?: number;
  /** What begins so many bytes behind the start can be looked at as numbers of any size, unless it was packed, or is small. */
  readonly alignedAt?: number;
  /** Where memory of large bodies comes from, and goes back to by `free`. */
  readonly memory?: BodyMemory;
}

/**
 * The bytes of a body, inflated. What is held of it stands in the budget: `held` of the answer, nothing after a
 * refusal. Undefined when the client went away, or sent nothing for `stallMs` in the middle of it, which costs it its
 * connection.
 */
export function readBody(
  request: IncomingMessage,
  maxBytes: number,
  budget: ByteBudget,
  { stallMs = STALL_MS, alignedAt = 0, memory }: ReadOptions = {},
): Promise<HeldBytes | Refusal | undefined> {
  const { headers } = request;
  const encoding = headers['content-encoding']?.toLowerCase() ?? 'identity';
  const isPacked = encoding !== 'identity';
  if (isPacked && !INFLATERS.has(encoding)) {
    const known = [...INFLATERS.keys()].join(', ');
    return Promise.resolve(new Refusal(415, `content-encoding must be one of identity, ${known}`));
  }
  const said = Number(headers['content-length'] ?? Infinity);
  if (said > maxBytes && said !== Infinity) return Promise.resolve(largerThan(maxBytes));
  const gathered = new Gathered(said, (ALIGNMENT - (alignedAt % ALIGNMENT)) % ALIGNMENT, isPacked ? undefined : memory);
  const read = new BodyRead(request, gathered, { maxBytes, budget, stallMs }).done.promise;
  if (!isPacked) return read;
  return read.then((body) =>
    body === undefined || body instanceof Refusal ? body : inflated(body.bytes, encoding, body.held, maxBytes, budget),
  );
}

interface BodyLimits {
  readonly maxBytes: number;
  readonly budget: ByteBudget;
  readonly stallMs: number;
}

/** One body on its way in, by the events of its request: half of what an async iterator costs. */
class BodyRead {
  readonly done: Deferred<HeldBytes | Refusal | undefined> = deferred();
  readonly #request: IncomingMessage;
  /** Let go at the end: an answer may wait long behind others on its connection, and keeps its request. */
  #gathered: Gathered | undefined;
  readonly #limits: BodyLimits;
  readonly #stall: StallWatch;
  readonly #isChunked: boolean;
  #held = 0;
  #chunks = 0;

  constructor(request: IncomingMessage, gathered: Gathered, limits: BodyLimits) {
    this.#request = request;
    this.#gathered = gathered;
    this.#limits = limits;
    this.#isChunked = request.headers['transfer-encoding'] !== undefined;
    this.#stall = new StallWatch(request, limits.stallMs);
    request.on('data', this.#take).on('end', this.#whole).on('close', this.#cut);
    if (request.destroyed) this.#cut();
  }

  readonly #whole = (): void => {
    const gathered = this.#gathered;
    if (gathered !== undefined) this.#end({ bytes: gathered.bytes, held: this.#held, free: () => gathered.free() });
  };

  /** The connection ended before the body. */
  readonly #cut = (): void => this.#end(undefined);

  readonly #take = (chunk: Buffer): void => {
    this.#stall.moved();
    const refused = this.#refusal(chunk.length);
    if (refused === undefined) {
      this.#held += chunk.length;
      this.#gathered?.add(chunk);
      return;
    }
    this.#request.pause();
    this.#end(refused);
  };

  #refusal(bytes: number): Refusal | undefined {
    const { maxBytes, budget } = this.#limits;
    if (this.#isChunked && ++this.#chunks > CHUNKS_MAX)
      return new Refusal(400, `the body has more than ${CHUNKS_MAX} chunks`);
    if (this.#held + bytes > maxBytes) return largerThan(maxBytes);
    return budget.take(bytes) ? undefined : busy();
  }

  #end(how: HeldBytes | Refusal | undefined): void {
    const gathered = this.#gathered;
    if (gathered === undefined) return;
    this.#gathered = undefined;
    this.#request.off('data', this.#take).off('end', this.#whole).off('close', this.#cut);
    this.#stall.end();
    if (how === undefined || how instanceof Refusal) {
      this.#limits.budget.give(this.#held);
      gathered.free();
    }
    this.done.resolve(how);
  }
}

/**
 * What was packed, at most `maxBytes` of it. The budget has `held` of it when this is called, and what the answer says after.
 */
export async function inflated(
  bytes: Uint8Array,
  encoding: string,
  held: number,
  maxBytes: number,
  budget: ByteBudget,
): Promise<HeldBytes | Refusal> {
  const inflater = INFLATERS.get(encoding);
  // Inflating may fill all that is allowed before anybody knows how much it is, but no more than this.
  const most = Math.min(maxBytes, EXPANSION_MAX * bytes.length + EXPANSION_MAX);
  const all = held + most;
  if (inflater === undefined || !budget.take(most)) {
    budget.give(held);
    return inflater === undefined ? new Refusal(415, `${encoding} is not served`) : busy();
  }
  try {
    const unpacked = await inflater(bytes, { maxOutputLength: most });
    budget.give(all - unpacked.length);
    return { bytes: unpacked, held: unpacked.length };
  } catch (cause) {
    budget.give(all);
    const isTooLarge = cause instanceof Error && 'code' in cause && cause.code === 'ERR_BUFFER_TOO_LARGE';
    return isTooLarge ? largerThan(maxBytes) : new Refusal(400, `the body is not ${encoding}`);
  }
}

/** Bytes, and how many of them the budget has. */
export interface HeldBytes {
  readonly bytes: Buffer;
  readonly held: number;
  /** For who is done with it, and has no view of it left: they would be empty. Once. */
  readonly free?: () => void;
}

export function largerThan(maxBytes: number): Refusal {
  return new Refusal(413, `the body is larger than ${maxBytes} bytes`);
}

/**
 * The records of a body, `recordsMax` at most. A bad line of NDJSON is a failed record; a bad JSON body, and one of more objects
 * and arrays than a stranger may send, is refused as a whole.
 */
export function recordsOf(
  bytes: Buffer,
  format: BodyFormat,
  name: string,
  recordsMax: number,
): readonly unknown[] | Refusal {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return new Refusal(400, 'the body is not valid UTF-8', 'PARSE_FAILED');
  }
  if (format === 'ndjson') return linesOf(text, name, recordsMax);
  try {
    const value: unknown = parseJson(text, MAX_POSTED_DEPTH, MAX_REQUEST_BRACKETS);
    const records: readonly unknown[] = Array.isArray(value) ? value : [value];
    return records.length > recordsMax ? tooMany(recordsMax, String(records.length)) : records;
  } catch (cause) {
    return new Refusal(400, `the body is not JSON: ${wordsOf(cause)}`, 'PARSE_FAILED');
  }
}

function linesOf(text: string, name: string, recordsMax: number): readonly unknown[] | Refusal {
  const records: unknown[] = [];
  let brackets = 0;
  let number = 0;
  for (let from = 0; from < text.length; number++) {
    const end = text.indexOf('\n', from);
    const to = end < 0 ? text.length : end;
    const line = text.slice(from, to);
    from = to + 1;
    if (line.trim() === '') continue;
    if (records.length === recordsMax) return tooMany(recordsMax, 'more');
    try {
      brackets += countBrackets(line, MAX_POSTED_DEPTH);
      if (brackets > MAX_REQUEST_BRACKETS) {
        const words = `the body has more than ${MAX_REQUEST_BRACKETS} objects and arrays`;
        return new Refusal(400, words, 'PARSE_FAILED');
      }
      records.push(JSON.parse(line));
    } catch (cause) {
      const message = `${name}: line ${number + 1} of a body is not JSON: ${wordsOf(cause)}`;
      records.push(
        new RecordFailure(new TroupeError('PARSE_FAILED', message, { cause }), line.slice(0, EXCERPT_CHARS)),
      );
    }
  }
  return records;
}

function tooMany(recordsMax: number, count: string): Refusal {
  return new Refusal(413, `a body may hold ${recordsMax} records, this one has ${count}`);
}

export function busy(): Refusal {
  return new Refusal(503, 'too many bytes are held already', 'MAILBOX_FULL');
}

function wordsOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
