/** What comes after parsing may be recursive: JSON.stringify gives up at a depth of a few thousand, and so ends a run. */
export const MAX_JSON_DEPTH = 1000;

/**
 * For what strangers send: each object and array is some 50 bytes and a microsecond, for two bytes of text. 64 MB of `{},`
 * were 1.8 GB, and nothing else ran for 20 s.
 */
export const MAX_REQUEST_BRACKETS = 1_000_000;

/**
 * Names of all objects together. One object of so many is 0.1 s to parse, and as much each time that its names are listed; one
 * of a million is ten times as much.
 */
export const MAX_REQUEST_NAMES = 100_000;

/**
 * JSON.parse takes any depth; here what is nested deeper than `maxDepth`, or has more objects and arrays, or names, is a
 * SyntaxError too.
 */
export function parseJson(
  text: string,
  maxDepth = MAX_JSON_DEPTH,
  maxBrackets = Infinity,
  maxNames = Infinity,
): unknown {
  // Shorter than the brackets it would take.
  if (text.length > 2 * maxDepth) countBrackets(text, maxDepth, maxBrackets, maxNames);
  return JSON.parse(text);
}

/** How many objects and arrays a text of JSON has. Throws a SyntaxError as `parseJson`, which is not called where it throws. */
export function countBrackets(text: string, maxDepth: number, maxBrackets = Infinity, maxNames = Infinity): number {
  let depth = 0;
  let count = 0;
  let names = 0;
  let isString = false;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (isString) {
      if (code === 0x5c) index += 1;
      else if (code === 0x22) isString = false;
    } else if (code === 0x22) isString = true;
    else if (code === 0x5b || code === 0x7b) {
      depth += 1;
      count += 1;
      if (depth > maxDepth) throw new SyntaxError(`it is nested deeper than ${maxDepth}`);
      if (count > maxBrackets) throw new SyntaxError(`it has more than ${maxBrackets} objects and arrays`);
    } else if (code === 0x5d || code === 0x7d) depth -= 1;
    else if (code === 0x3a) {
      names += 1;
      if (names > maxNames) throw new SyntaxError(`it has more than ${maxNames} names`);
    }
  }
  return count;
}
