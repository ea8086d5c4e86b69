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
  const looks = [...rows('read'), ['  top', 'the table of ps with rates, again and again until Ctrl-C']];
  const table = tableText([...looks, ...rows('write')], 'words').split('\n');
  const lookCount = looks.length;
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
    'Ctrl-C ends the wait for what runs, exit or Ctrl-D leaves; what was begun goes on, as does the system.',
  ].join('\n');
}

/** One verb with its options, as it is called in a session or as a command. */
export function verbHelp(name: VerbName, form: 'call' | 'command' = 'call'): string {
  const verb: Verb = VERBS[name];
  const common = [
    ...(name === 'tail' ? [['  --follow', 'go on when the system is started anew']] : []),
    ['  --socket', 'of the system that is meant; without it that of ./troupe.yaml, or the only one that runs'],
    ['  --json', 'one JSON object on stdout'],
  ];
  const options =
    form === 'call'
      ? verb.options.map((option) => [`  --${flagOf(option.name)}, ${option.name}`, option.what])
      : [...verb.options.map((option) => [`  --${flagOf(option.name)}`, option.what]), ...common];
  return [
    `${usageOf(name)}: ${verb.what}`,
    ...(form === 'call' ? [`  ${verb.example}`] : []),
    ...(options.length === 0 ? [] : [tableText(options, 'words')]),
  ].join('\n');
}
