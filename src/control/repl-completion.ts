import type { Calls } from './calls.js';
import { type Verb, VERB_NAMES, VERBS, type VerbName } from './grammar.js';

/** What may stand at the end of a line, and the part of it that is typed already. */
export type Completions = readonly [string[], string];

const VERBS_TEXT = VERB_NAMES.join('|');
/** `swap fil`, `swap filetype 2`: words. */
const WORDS = new RegExp(`^\\s*(${VERBS_TEXT})\\s+(?:([\\w.-]+)\\s+)?([\\w.-]*)$`);
/** `swap('fil`, `await swap('filetype', '2`: a call. */
const CALL = new RegExp(`(?:^|\\W)(${VERBS_TEXT})\\(\\s*(?:(['"\`])([\\w.-]+)\\2\\s*,\\s*)?(['"\`]?)([\\w.-]*)$`);

/** Pools and versions where a verb takes one, verbs at the beginning of a line; undefined where JavaScript is to be completed. */
export async function completionsFor(line: string, calls: Calls): Promise<Completions | undefined> {
  const first = /^\s*(\w*)$/.exec(line)?.[1];
  if (first !== undefined) {
    const verbs = [...VERB_NAMES, 'top', 'help'].filter((name) => name.startsWith(first));
    return first === '' || verbs.length > 0 ? [verbs, first] : undefined;
  }
  const topic = /^\s*help\s+(\w*)$/.exec(line)?.[1];
  if (topic !== undefined) return [starting(VERB_NAMES, topic), topic];
  const words = WORDS.exec(line);
  if (words !== null) {
    const [, verb, pool, typed = ''] = words;
    return [starting(await candidates(verb as VerbName, pool, calls), typed), typed];
  }
  const call = CALL.exec(line);
  if (call === null) return undefined;
  const [, verb, , pool, quote = '', typed = ''] = call;
  const found = starting(await candidates(verb as VerbName, pool, calls), typed);
  const mark = quote === '' ? "'" : quote;
  return [found.map((name) => `${mark}${name}${mark}`), `${quote}${typed}`];
}

async function candidates(name: VerbName, pool: string | undefined, calls: Calls): Promise<readonly string[]> {
  const places: Verb['places'] = VERBS[name].places;
  const place = places[pool === undefined ? 0 : 1]?.name;
  if (place === 'pool') return (await calls.ps()).pools.map((line) => line.name);
  if (place === 'pipeline') return (await calls.ps()).pipelines.map((line) => line.name);
  if ((place !== 'version' && place !== 'model') || pool === undefined) return [];
  const { available, aliases } = await calls.versions(pool);
  return [...available, ...Object.keys(aliases)];
}

function starting(all: readonly string[], typed: string): string[] {
  return all.filter((name) => name.startsWith(typed));
}
