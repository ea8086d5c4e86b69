import { TroupeError } from '../kernel/errors.js';

/** Lines and columns count from 1. */
export interface Position {
  readonly line: number;
  readonly col: number;
}

/** One thing wrong in a config file. */
export interface Problem {
  readonly at: Position;
  /** Key path as a user would write it, `pools.sentiment.replicas`; empty for the file as a whole. */
  readonly path: string;
  /** What was expected and what stood there. */
  readonly text: string;
}

/** `pools.a.steps[0]`; a key that is no plain word stands in quotes. */
export function pathText(path: readonly PropertyKey[]): string {
  let text = '';
  for (const key of path) {
    if (typeof key === 'number') text += `[${key}]`;
    else if (/^[A-Za-z_][\w-]{0,127}$/.test(String(key))) text += text === '' ? String(key) : `.${String(key)}`;
    else text += `[${JSON.stringify(String(key).slice(0, 100))}]`;
  }
  return text;
}

/** All problems of one file as one CONFIG_INVALID, in the order of the file. */
export function configError(file: string, problems: readonly Problem[], cause?: unknown): TroupeError {
  const sorted = [...problems].sort((a, b) => a.at.line - b.at.line || a.at.col - b.at.col);
  const shown = sorted.slice(0, PROBLEMS_SHOWN_MAX).map(({ at, path, text }) => {
    return `${file}:${at.line}:${at.col} ${path === '' ? '' : `${path}: `}${text}`;
  });
  if (sorted.length > shown.length) shown.push(`and ${sorted.length - shown.length} more`);
  const message =
    shown.length === 1 ? (shown[0] as string) : `${sorted.length} problems in the config:\n  ${shown.join('\n  ')}`;
  return new TroupeError('CONFIG_INVALID', message, cause === undefined ? {} : { cause });
}

/** A file of garbage can hold thousands of problems; nobody reads more than these. */
const PROBLEMS_SHOWN_MAX = 50;
