import { plainIssues, type z } from '../kernel/schema.js';

/** As it is where it is a plain word; a key may be anything. */
function shortKey(key: PropertyKey): string {
  const text = String(key);
  return /^[\w.-]{1,128}$/.test(text) ? text : JSON.stringify(text.slice(0, 100));
}

const SHOWN_MAX = 200;

/** Validates wrong use at once: option, expectation, value received. */
export function check<Schema extends z.ZodType>(where: string, schema: Schema, value: unknown): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const lines = plainIssues(result.error.issues).map((issue) => {
    const key = issue.path.length === 0 ? '' : `${issue.path.map(shortKey).join('.')}: `;
    const received = issue.path.reduce<unknown>(
      (at, step) => (at as Record<PropertyKey, unknown> | undefined)?.[step],
      value,
    );
    const shown = issue.code === 'unrecognized_keys' ? '' : `, got ${show(received)}`;
    const message = issue.code === 'invalid_key' ? `the name ${issue.issues[0]?.message}` : issue.message;
    return `${key}${message}${shown}`;
  });
  throw new TypeError(`${where}: ${lines.join('; ')}`);
}

/** Some values are no JSON: a bigint, a cycle. Some are long. */
function show(value: unknown): string {
  try {
    const text = JSON.stringify(value) ?? typeof value;
    return text.length > SHOWN_MAX ? `${text.slice(0, SHOWN_MAX)}… (${text.length} characters)` : text;
  } catch {
    return typeof value === 'bigint' ? `${value}n` : typeof value;
  }
}
