import { LIMITS } from './grammar.js';

/**
 * Lines of JSON out of the chunks of a socket, and into them. What a peer sends is hostile: nothing here grows beyond its
 * limit, and nothing that is not plain data comes out.
 */

/** The peer broke the framing; there is no way to find the next frame, so the connection ends. */
export class FrameError extends Error {}

const NEWLINE = 10;
const UTF8 = new TextDecoder('utf-8', { fatal: true });

/** Puts lines together. Throws a FrameError for a line of more than `maxBytes`, before it has been taken in whole. */
export class LineReader {
  #parts: Buffer[] = [];
  #held = 0;

  constructor(public maxBytes: number) {}

  /** The lines that are complete now, without their ends; empty lines are left out. */
  *push(chunk: Buffer): Generator<Buffer> {
    let from = 0;
    while (from < chunk.length) {
      const end = chunk.indexOf(NEWLINE, from);
      const part = chunk.subarray(from, end === -1 ? chunk.length : end);
      this.#held += part.length;
      if (this.#held > this.maxBytes) throw new FrameError(`a frame has more than ${this.maxBytes} bytes`);
      this.#parts.push(part);
      if (end === -1) return;
      const line = this.#parts.length === 1 ? part : Buffer.concat(this.#parts, this.#held);
      this.#parts = [];
      this.#held = 0;
      from = end + 1;
      if (line.length > 0) yield line;
    }
  }
}

/** The value of one line. Throws a FrameError for what is not UTF-8 or JSON, too deep, or has a key `__proto__`. */
export function parseFrame(line: Buffer): unknown {
  let text: string;
  try {
    text = UTF8.decode(line);
  } catch {
    throw new FrameError('a frame is not UTF-8');
  }
  checkDepth(text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new FrameError('a frame is not JSON');
  }
  checkKeys(value);
  return value;
}

/** One frame. Undefined where it has more than `maxBytes`. */
export function frameText(value: unknown, maxBytes: number): string | undefined {
  const text = `${JSON.stringify(value)}\n`;
  return Buffer.byteLength(text) > maxBytes ? undefined : text;
}

/** Before the text is parsed, so that nothing that walks the value can run out of stack. */
function checkDepth(text: string): void {
  let depth = 0;
  let isString = false;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (isString) {
      if (code === BACKSLASH) at += 1;
      else if (code === QUOTE) isString = false;
    } else if (code === QUOTE) isString = true;
    else if (code === OPEN_MAP || code === OPEN_LIST) {
      depth += 1;
      if (depth > LIMITS.depth) throw new FrameError(`a frame is nested deeper than ${LIMITS.depth}`);
    } else if (code === CLOSE_MAP || code === CLOSE_LIST) depth -= 1;
  }
}

const BACKSLASH = 0x5c;
const QUOTE = 0x22;
const OPEN_MAP = 0x7b;
const CLOSE_MAP = 0x7d;
const OPEN_LIST = 0x5b;
const CLOSE_LIST = 0x5d;

/** JSON.parse makes `__proto__` an own property; the first careless copy would make it the prototype. */
function checkKeys(value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  if (Array.isArray(value)) {
    for (const item of value) checkKeys(item);
    return;
  }
  for (const [key, inner] of Object.entries(value)) {
    if (key === '__proto__') throw new FrameError('a frame has a key __proto__');
    checkKeys(inner);
  }
}
