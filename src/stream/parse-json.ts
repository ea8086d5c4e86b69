/** What comes after parsing may be recursive: JSON.stringify gives up at a depth of a few thousand, and so ends a run. */
export const MAX_JSON_DEPTH = 1000;

/** JSON.parse takes any depth; here what is nested deeper than `maxDepth` is a SyntaxError too. */
export function parseJson(text: string, maxDepth = MAX_JSON_DEPTH): unknown {
  // Shorter than the brackets it would take.
  if (text.length > 2 * maxDepth) checkDepth(text, maxDepth);
  return JSON.parse(text);
}

function checkDepth(text: string, maxDepth: number): void {
  let depth = 0;
  let isString = false;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    if (isString) {
      if (code === 0x5c) index += 1;
      else if (code === 0x22) isString = false;
    } else if (code === 0x22) isString = true;
    else if (code === 0x5b || code === 0x7b) {
      depth += 1;
      if (depth > maxDepth) throw new SyntaxError(`it is nested deeper than ${maxDepth}`);
    } else if (code === 0x5d || code === 0x7d) depth -= 1;
  }
}
