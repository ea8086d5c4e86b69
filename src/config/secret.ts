/** What must not be shown, though it stands in the file as it is. */

const SECRET_KEY = /token|secret|passw|credential|api_?key|authorization/i;

/** The text at `path`, as far as it may be shown: `***` for what its key calls a secret, and in the place of passwords in URLs. */
export function shownText(path: readonly PropertyKey[], text: string): string {
  const isHeader = path.at(-2) === 'headers';
  const isToken = path.at(-2) === 'tokens' || path.at(-3) === 'tokens'; // `serve.tokens.infer[0]`
  if (isHeader || isToken || SECRET_KEY.test(String(path.at(-1)))) return '***';
  return text.replace(/\S+/g, withoutPassword);
}

/** By index: one regular expression over it all takes time that grows with the square of a long text. */
function withoutPassword(word: string): string {
  const start = word.indexOf('://') + 3;
  const end = word.lastIndexOf('@');
  return start < 3 || end < start ? word : `${word.slice(0, start)}***${word.slice(end)}`;
}
