import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { TroupeError } from '../kernel/errors.js';
import type { DeadLetter } from '../stream/envelope.js';

/** One line of a dead-letter file. */
export interface LetterLine {
  /** Line number, from 1: how `show` names it. */
  readonly number: number;
  /** The line itself, to be written again as it stands. */
  readonly text: string;
  /** Undefined where the line is no dead letter. */
  readonly letter: DeadLetter | undefined;
}

/** Reads a file that a dead-letter sink wrote, line by line; blank lines are left out. Rejects when it cannot be read. */
export async function* readLetters(file: string): AsyncGenerator<LetterLine> {
  let number = 0;
  for await (const text of createInterface({ input: createReadStream(file, 'utf8'), crlfDelay: Infinity })) {
    number += 1;
    if (text.trim() !== '') yield { number, text, letter: parseLetter(text) };
  }
}

/** Lines of a file that holds letters. */
export interface LetterFile {
  readonly lines: readonly LetterLine[];
  /** The last line is no letter and has no end: a process died while it wrote it. */
  readonly isCutOff: boolean;
}

/**
 * The whole file. A crash leaves lines behind that are no letters, so as many of them as there are letters are borne;
 * with more, or with no letter at all, it is another kind of file: rejects with PARSE_FAILED, naming the first such line.
 */
export async function readLetterFile(file: string): Promise<LetterFile> {
  const lines: LetterLine[] = [];
  for await (const line of readLetters(file)) lines.push(line);
  const strange = lines.filter(({ letter }) => letter === undefined);
  const last = lines.at(-1);
  const isTorn = last !== undefined && last.letter === undefined && last.text.startsWith('{');
  const isCutOff = isTorn && !(await endsWithNewline(file));
  const whole = strange.length - (isCutOff ? 1 : 0);
  const letterCount = lines.length - strange.length;
  const [first] = strange;
  if (first !== undefined && (whole > letterCount || (letterCount === 0 && whole > 0))) {
    throw new TroupeError(
      'PARSE_FAILED',
      `line ${first.number} is no dead letter, as ${whole} of ${lines.length} lines; give a file that a dead-letter ` +
        'sink wrote: one JSON object with an error and its code in each line',
    );
  }
  return { lines, isCutOff };
}

async function endsWithNewline(file: string): Promise<boolean> {
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(1), 0, 1, Math.max(0, size - 1));
    return bytesRead === 1 && buffer[0] === 10;
  } finally {
    await handle.close();
  }
}

function parseLetter(text: string): DeadLetter | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || !('error' in value)) return undefined;
  const { error } = value;
  if (typeof error !== 'object' || error === null || !('code' in error) || typeof error.code !== 'string') {
    return undefined;
  }
  return value as DeadLetter;
}
