import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
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
