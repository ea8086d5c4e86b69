/**
 * How records become the body of a request and its answer becomes results: templates and JSON pointers, no code.
 *
 * In a template, a string `$batch` is the list of all records of the batch, `$record` the record, `$record/a/0` what a JSON
 * pointer finds in it (RFC 6901), and `$$...` a string that begins with one dollar sign.
 */

/** Any JSON value with those strings in it. */
export type Template = unknown;

export type Pointer = readonly string[];

/** A template as a function of what stands in it. */
export type Fill = (values: { readonly record?: unknown; readonly batch?: readonly unknown[] }) => unknown;

/** Throws a TypeError naming `option` and the string that means nothing. `names`: which of `$batch` and `$record` it may have. */
export function compileTemplate(option: string, template: Template, names: readonly ('record' | 'batch')[]): Fill {
  if (typeof template === 'string') return compileText(option, template, names);
  if (Array.isArray(template)) {
    const parts = template.map((part) => compileTemplate(option, part, names));
    return (values) => parts.map((part) => part(values));
  }
  if (typeof template === 'object' && template !== null) {
    const parts = Object.entries(template).map(([key, part]) => [key, compileTemplate(option, part, names)] as const);
    return (values) => Object.fromEntries(parts.map(([key, part]) => [key, part(values)]));
  }
  return () => template;
}

/** Whether a template has `$batch` in it. */
export function hasBatch(template: Template): boolean {
  if (template === '$batch') return true;
  return typeof template === 'object' && template !== null && Object.values(template).some(hasBatch);
}

export function compilePointer(option: string, text: unknown): Pointer {
  if (text === '') return [];
  if (typeof text === 'string' && text.startsWith('/') && !/~(?![01])/.test(text))
    return text
      .slice(1)
      .split('/')
      .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  throw new TypeError(`${option} must be a JSON pointer such as /outputs/0, or "" for the whole, got ${shown(text)}`);
}

/** undefined where there is nothing. */
export function find(value: unknown, pointer: Pointer): unknown {
  let found = value;
  for (const step of pointer) {
    if (typeof found !== 'object' || found === null) return undefined;
    // `length` of a list is none of its own keys that JSON has.
    if (Array.isArray(found) && !/^(0|[1-9]\d*)$/.test(step)) return undefined;
    if (!Object.hasOwn(found, step)) return undefined;
    found = (found as Record<string, unknown>)[step];
  }
  return found;
}

function compileText(option: string, text: string, names: readonly ('record' | 'batch')[]): Fill {
  if (!text.startsWith('$')) return () => text;
  if (text.startsWith('$$')) return () => text.slice(1);
  if (text === '$batch' && names.includes('batch')) return ({ batch }) => batch;
  if (names.includes('record') && (text === '$record' || text.startsWith('$record/'))) {
    const pointer = compilePointer(option, text.slice('$record'.length));
    // What a record does not have is null, so that what it is filled in keeps its place.
    return ({ record }) => find(record, pointer) ?? null;
  }
  const known = names.map((name) => `$${name}`).join(', ');
  throw new TypeError(`${option}: ${shown(text)} means nothing; there is ${known}, and $$ for a dollar sign`);
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 100);
}
