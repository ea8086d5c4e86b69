import { type Access, type Verb, VERB_NAMES, VERBS, type VerbName } from './grammar.js';
import { tableText } from './text.js';
import { flagOf, usageOf } from './words.js';

/** What a first-time user needs on one screen. */
export function helpText(access: Access): string {
  const rows = (wanted: Access): readonly (readonly string[])[] =>
    VERB_NAMES.filter((name) => VERBS[name].access === wanted).map((name) => [
      `  ${VERBS[name].example}`,
      VERBS[name].what,
    ]);
  const table = tableText([...rows('read'), ...rows('write')], 'words').split('\n');
  const lookCount = rows('read').length;
  const change = access === 'write' ? 'Change:' : 'Change (needs --write):';
  return [
    'Look:',
    ...table.slice(0, lookCount),
    change,
    ...table.slice(lookCount),
    '',
    "swap filetype 2 is the same as swap('filetype', 2). A verb is awaited by itself; in an expression write await:",
    '  (await ps()).pools[0].version',
    'help swap shows one verb with its options. Tab completes, the arrow keys bring earlier lines back,',
    'Ctrl-C ends what runs, .exit or Ctrl-D leaves. The system goes on.',
  ].join('\n');
}

/** One verb with its options. */
export function verbHelp(name: VerbName): string {
  const verb: Verb = VERBS[name];
  const options = verb.options.map((option) => [`  --${flagOf(option.name)}, ${option.name}`, option.what]);
  return [
    `${usageOf(name)}: ${verb.what}`,
    `  ${verb.example}`,
    ...(options.length === 0 ? [] : [tableText(options, 'words')]),
  ].join('\n');
}
