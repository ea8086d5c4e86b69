/** What must not be shown, though it stands in the file as it is. */

const SECRET_KEY = /token|secret|passw|credential|api_?key|authorization/i;

/** The text at `path`, as far as it may be shown: `***` for what its key calls a secret, and in the place of passwords in URLs. */
export function shownText(path: readonly PropertyKey[], text: string): string {
  const isHeader = path.at(-2) === 'headers';
  if (isHeader || SECRET_KEY.test(String(path.at(-1)))) return '***';
  return text.replace(/([a-z][\w+.-]*:\/\/)\S*@/gi, '$1***@');
}
