import { resolve } from 'node:path';
import { type Verb, type WordKind, type VerbName, VERBS } from './grammar.js';

/** Verbs as people type them: `swap filetype 2 --bake-ms 500`, in a shell and in the REPL. */

/** What the words after a verb say: parameters by name. Throws a TypeError that shows how the verb is used. */
export function paramsOf(name: VerbName, words: readonly string[]): Record<string, unknown> {
  const verb: Verb = VERBS[name];
  const params: Record<string, unknown> = {};
  const places = [...verb.places];
  const rest = [...words];
  let isOver = false;
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '--' && !isOver) {
      isOver = true;
      continue;
    }
    const [, flag, given] = isOver ? [] : (/^--([a-z][a-z-]*)(?:=([\s\S]*))?$/.exec(word) ?? []);
    if (flag !== undefined) {
      const option = verb.options.find((one) => flagOf(one.name) === flag);
      if (option === undefined) throw misused(name, `it has no option --${flag}${optionsOf(verb)}`);
      const value = given ?? rest.shift();
      if (value === undefined) throw misused(name, `--${flag} takes a value`);
      params[option.name] = valueOf(name, `--${flag}`, option.kind, value);
      continue;
    }
    const place = places.shift();
    if (place === undefined) throw misused(name, `${JSON.stringify(word)} is too much`);
    params[place.name] = valueOf(name, place.name, place.kind, word);
  }
  const missing = places.find(({ isOptional }) => isOptional !== true);
  if (missing !== undefined) throw misused(name, `it takes a ${missing.name}`);
  return params;
}

/** Splits a line as a shell does, as far as quotes go. JSON at its end is one word, with its spaces and quotes. */
export function wordsOf(line: string): readonly string[] {
  const words: string[] = [];
  let rest = line.trim();
  while (rest !== '') {
    if (isJson(rest)) return [...words, rest];
    const [word = rest] = /^(?:[^\s'"]|'[^']*'|"(?:\\.|[^"\\])*"|['"])+/.exec(rest) ?? [];
    words.push(/^'([^']*)'$/.exec(word)?.[1] ?? word);
    rest = rest.slice(word.length).trim();
  }
  return words;
}

function isJson(text: string): boolean {
  if (!/^[{["]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** `swap POOL VERSION [--canary N] …`: of many options the first two, the others stand in the help of the verb. */
export function usageOf(name: VerbName): string {
  const verb: Verb = VERBS[name];
  const places = verb.places.map((place) =>
    place.isOptional === true ? `[${place.name.toUpperCase()}]` : place.name.toUpperCase(),
  );
  const options = verb.options.map((option) => `[--${flagOf(option.name)} ${VALUE_OF[option.kind]}]`);
  const shown = options.length > OPTIONS_MAX ? [...options.slice(0, 2), '…'] : options;
  return [commandOf(name), ...places, ...shown].join(' ');
}

const OPTIONS_MAX = 3;
const VALUE_OF: Readonly<Record<WordKind, string>> = { json: 'JSON', file: 'FILE', number: 'N', text: 'WORD' };

/** `bakeMs` -> `bake-ms`. */
export function flagOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** As the verb is called in a shell. */
export function commandOf(name: VerbName): string {
  return name === 'deadLetters' ? 'dead-letters recent' : name;
}

function valueOf(verb: VerbName, what: string, kind: WordKind, word: string): unknown {
  switch (kind) {
    case 'text':
      return word;
    case 'file':
      return resolve(word);
    case 'number': {
      const value = Number(word);
      if (word.trim() === '' || !Number.isFinite(value)) {
        throw misused(verb, `${what} must be a number, got ${JSON.stringify(word.slice(0, 100))}`);
      }
      return value;
    }
    case 'json':
      try {
        return JSON.parse(word);
      } catch {
        throw misused(verb, `${what} must be JSON, such as '{"text":"hello"}' or '"hello"', got ${word.slice(0, 100)}`);
      }
  }
}

function optionsOf({ options }: Verb): string {
  const flags = options.map((option) => `--${flagOf(option.name)}`);
  return flags.length <= OPTIONS_MAX ? '' : `, its options are ${flags.join(', ')}`;
}

function misused(verb: VerbName, what: string): TypeError {
  return new TypeError(`${commandOf(verb)}: ${what}; usage: ${usageOf(verb)}`);
}
