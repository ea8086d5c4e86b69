import { parseArgs } from 'node:util';
import { suggest } from '../config/suggest.js';
import { type Verb, VERB_NAMES, VERBS, type VerbName } from '../control/grammar.js';
import { paramsOf, usageOf } from '../control/words.js';
import type { OperateInvocation } from './operate.js';

export type LogFormat = 'text' | 'json';

export type Invocation =
  | { readonly kind: 'version' }
  /** `verb`: of one that a running system takes. */
  | { readonly kind: 'help'; readonly verb?: VerbName }
  | {
      readonly kind: 'run';
      readonly config: string;
      readonly isJson: boolean;
      readonly isQuiet: boolean;
      readonly pipelines: readonly string[];
      /** Goes on from the last checkpoint of each pipeline. */
      readonly resume: boolean;
      /** Serves all pools of the file and runs none of its pipelines. */
      readonly servesOnly: boolean;
      readonly logFormat: LogFormat;
    }
  | { readonly kind: 'list-letters'; readonly file: string }
  | { readonly kind: 'show-letter'; readonly file: string; readonly line: number }
  | {
      readonly kind: 'replay-letters';
      readonly file: string;
      readonly config: string;
      readonly pipeline: string | undefined;
      readonly isJson: boolean;
    }
  | { readonly kind: 'check'; readonly config: string }
  | {
      readonly kind: 'hash';
      /** Directory of the model. */
      readonly model: string;
      /** Without it, all there are. */
      readonly version: string | undefined;
      readonly isJson: boolean;
    }
  | { readonly kind: 'explain'; readonly config: string; readonly isJson: boolean }
  | OperateInvocation
  | { readonly kind: 'wrong'; readonly message: string };

export const HELP = `troupe: models as supervised actors, shared by stream pipelines

Usage
  troupe run [config] [--pipeline NAME]... [--resume] [--json] [--quiet] [--log-format json]
                          start the pools of a config and run its pipelines to their end
  troupe serve [config] [--json] [--quiet] [--log-format json]
                          start the pools of a config and serve them over HTTP until it is stopped
  troupe check [config]   say whether a config is valid; starts nothing
  troupe explain [config] [--json]
                          every value of a config and where it came from
  troupe hash MODEL [VERSION] [--json]
                          content hashes of the versions below the directory of a model, for models.hashes
  troupe dead-letters list FILE
                          what failed, one line per record
  troupe dead-letters show FILE LINE
                          everything that is known of one of them
  troupe dead-letters replay FILE [config] [--pipeline NAME] [--json]
                          send them through their pipeline again, from the step that failed;
                          FILE then holds those that failed again

A running system, with control in its config
  troupe repl [SOCKET] [--write]
                          a session with it: help, Tab, history; read-only without --write
  troupe top [--every-ms N] [--count N]
                          its pools, drawn again every second
${verbLines()}
                          each takes --socket PATH, and --json for one JSON object on stdout; without --socket it is
                          the system of ./troupe.yaml, or the only one that runs; tail --follow goes on when that
                          is started anew, as repl and top do

  config is ./troupe.yaml unless given. Progress and logs go to stderr, results to stdout.

Options
  --pipeline NAME   run only this pipeline; may be given again
  --resume          go on from the last checkpoint of each pipeline that has checkpoints
  --json            print one JSON object on stdout
  --quiet           no progress and no summary
  --log-format json one line of JSON on stderr for each entry of the log, and nothing else there
  --help, -h        this text; troupe swap --help shows a command for a running system with all its options
  --version, -v     the version

Exit codes
  0    done; records that failed one by one are in the report
  1    a pool or a pipeline failed
  2    wrong use, or the config is not valid
  130  ended by SIGINT (143: SIGTERM). The first stops reading and finishes what is under way; the second ends at once.
`;

/** Verbs that are commands by their own name. */
const LIVE: readonly VerbName[] = VERB_NAMES.filter((name) => name !== 'explain' && name !== 'deadLetters');
const COMMANDS = ['run', 'serve', 'check', 'explain', 'hash', 'dead-letters', 'repl', 'top', ...LIVE];
const LETTER_COMMANDS = ['list', 'show', 'replay', 'recent'];
const OPTIONS_OF: Readonly<Record<string, readonly string[]>> = {
  run: ['pipeline', 'resume', 'json', 'quiet', 'log-format'],
  serve: ['json', 'quiet', 'log-format'],
  check: [],
  explain: ['json'],
  hash: ['json'],
  'dead-letters list': [],
  'dead-letters show': [],
  'dead-letters replay': ['pipeline', 'json'],
};
const DEFAULT_CONFIG = 'troupe.yaml';

/** What the words after `troupe` ask for. Never throws: wrong use is an answer too. */
export function parseInvocation(words: readonly string[]): Invocation {
  // `troupe help swap` is `troupe swap --help`.
  const [first, ...topics] = words;
  if (first === 'help') return parseInvocation([...topics, '--help']);
  const live = parseLive(words);
  if (live !== undefined) return live;
  let parsed: ReturnType<typeof parseWords>;
  try {
    parsed = parseWords(words);
  } catch (error) {
    return { kind: 'wrong', message: firstSentence(error) };
  }
  const { values, positionals } = parsed;
  if (values.help === true) return { kind: 'help' };
  if (values.version === true) return { kind: 'version' };
  const [command, ...rest] = positionals;
  if (command === undefined) return { kind: 'wrong', message: `expected a command: ${COMMANDS.join(', ')}` };
  if (!COMMANDS.includes(command)) return unknownWord('command', command, COMMANDS);
  const [subcommand] = rest;
  if (command === 'dead-letters') {
    if (subcommand === undefined) {
      return { kind: 'wrong', message: `dead-letters takes one of ${LETTER_COMMANDS.join(', ')}` };
    }
    if (!LETTER_COMMANDS.includes(subcommand)) return unknownWord('dead-letters', subcommand, LETTER_COMMANDS);
  }
  const whole = command === 'dead-letters' ? `${command} ${subcommand}` : command;
  const stray = Object.keys(values).find((option) => OPTIONS_OF[whole]?.includes(option) !== true);
  if (stray !== undefined) return { kind: 'wrong', message: `${whole} has no option --${stray}` };
  const isJson = values.json === true;
  const pipelines = values.pipeline ?? [];
  if (command === 'dead-letters') return parseLetters(whole, rest.slice(1), pipelines, isJson);
  if (command === 'hash') {
    const [model, wanted, ...others] = rest;
    if (model === undefined) return { kind: 'wrong', message: 'hash takes the directory of a model' };
    if (others.length > 0) return { kind: 'wrong', message: `hash takes one version; found also ${others.join(' ')}` };
    return { kind: 'hash', model, version: wanted, isJson };
  }
  const [config = DEFAULT_CONFIG, ...more] = rest;
  if (more.length > 0) {
    return { kind: 'wrong', message: `${command} takes one config file; found also ${more.join(' ')}` };
  }
  switch (command) {
    case 'check':
      return { kind: 'check', config };
    case 'explain':
      return { kind: 'explain', config, isJson };
    default: {
      const logFormat = values['log-format'] ?? 'text';
      if (logFormat !== 'text' && logFormat !== 'json')
        return { kind: 'wrong', message: `--log-format takes text or json, got ${logFormat}` };
      const isQuiet = values.quiet === true;
      const servesOnly = command === 'serve';
      return { kind: 'run', config, isJson, isQuiet, pipelines, resume: values.resume === true, servesOnly, logFormat };
    }
  }
}

/** Commands for a running system; undefined for all others. */
function parseLive([command = '', ...rest]: readonly string[]): Invocation | undefined {
  const isVerb = (LIVE as readonly string[]).includes(command);
  const isExplain = command === 'explain' && rest.some((word) => word === '--socket' || word.startsWith('--socket='));
  const isRecent = command === 'dead-letters' && rest[0] === 'recent';
  if (!isVerb && !isExplain && !isRecent && command !== 'repl' && command !== 'top') return undefined;
  const words = isRecent ? rest.slice(1) : rest;
  const isHelp = words.includes('--help') || words.includes('-h');
  try {
    if (command === 'repl') return isHelp ? { kind: 'help' } : parseRepl(words);
    if (command === 'top') return isHelp ? { kind: 'help' } : parseTop(words);
    const verb = isRecent ? 'deadLetters' : (command as VerbName);
    if (isHelp) return { kind: 'help', verb };
    const { socket, isJson, others } = takeCommon(words);
    const follows = verb === 'tail' && others.includes('--follow');
    const rest = follows ? others.filter((word) => word !== '--follow') : others;
    return { kind: 'verb', verb, params: paramsOf(verb, rest), socket, isJson, follows };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return { kind: 'wrong', message: firstSentence(error) };
  }
}

function parseRepl(words: readonly string[]): Invocation {
  const { values, positionals } = parseArgs({
    args: [...words],
    allowPositionals: true,
    strict: true,
    options: { socket: { type: 'string' }, write: { type: 'boolean' } },
  });
  const [socket = values.socket, ...more] = positionals;
  if (more.length > 0) throw new TypeError(`repl takes one socket; found also ${more.join(' ')}`);
  return { kind: 'repl', socket, mayWrite: values.write === true };
}

function parseTop(words: readonly string[]): Invocation {
  const { values } = parseArgs({
    args: [...words],
    strict: true,
    options: { socket: { type: 'string' }, 'every-ms': { type: 'string' }, count: { type: 'string' } },
  });
  const everyMs = Number(values['every-ms'] ?? 1000);
  const count = Number(values.count ?? Infinity);
  if (!(everyMs >= 100 && everyMs <= 3_600_000)) throw new TypeError('--every-ms must be a number from 100 to 3600000');
  if (!(count >= 1)) throw new TypeError('--count must be a number of at least 1');
  return { kind: 'top', socket: values.socket, everyMs, count };
}

/** What every verb takes, out of its words. */
function takeCommon(words: readonly string[]): {
  socket: string | undefined;
  isJson: boolean;
  others: readonly string[];
} {
  const others: string[] = [];
  let socket: string | undefined;
  let isJson = false;
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] as string;
    if (word === '--') return { socket, isJson, others: [...others, ...words.slice(index)] };
    if (word === '--json') isJson = true;
    else if (word.startsWith('--socket=')) socket = word.slice('--socket='.length);
    else if (word !== '--socket') others.push(word);
    else {
      index += 1;
      socket = words[index];
      if (socket === undefined) throw new TypeError('--socket takes the path of a socket');
    }
  }
  return { socket, isJson, others };
}

/** One line for each verb, for HELP. */
function verbLines(): string {
  return VERB_NAMES.map((name) => {
    const verb: Verb = VERBS[name];
    const usage = name === 'explain' ? 'explain [POOL] --socket PATH' : usageOf(name);
    return `  troupe ${usage}\n                          ${verb.what}`;
  }).join('\n');
}

function unknownWord(what: string, word: string, known: readonly string[]): Invocation {
  const near = suggest(word, known);
  const advice = near === undefined ? `the commands are ${known.join(', ')}` : `did you mean ${near}?`;
  const of = what === 'command' ? '' : ` of ${what}`;
  return { kind: 'wrong', message: `there is no command ${JSON.stringify(word)}${of}; ${advice}` };
}

/** node:util throws a TypeError with a good first sentence and much advice after it. */
function firstSentence(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return (message.split('. ')[0] as string).replace(/\.$/, '');
}

/** `words` are those after the subcommand. */
function parseLetters(
  command: string,
  words: readonly string[],
  pipelines: readonly string[],
  isJson: boolean,
): Invocation {
  const [file, second, ...more] = words;
  if (file === undefined) return { kind: 'wrong', message: `${command} takes the file of dead letters` };
  const tooMany = command === 'dead-letters list' ? words.slice(1) : more;
  if (tooMany.length > 0) return { kind: 'wrong', message: `${command}: found also ${tooMany.join(' ')}` };
  switch (command) {
    case 'dead-letters list':
      return { kind: 'list-letters', file };
    case 'dead-letters show': {
      const line = Number(second);
      if (second === undefined || !Number.isSafeInteger(line) || line < 1) {
        return { kind: 'wrong', message: `${command} takes a file and the number of a line, from 1` };
      }
      return { kind: 'show-letter', file, line };
    }
    default: {
      if (pipelines.length > 1) return { kind: 'wrong', message: `${command} replays one pipeline at a time` };
      return { kind: 'replay-letters', file, config: second ?? DEFAULT_CONFIG, pipeline: pipelines[0], isJson };
    }
  }
}

function parseWords(words: readonly string[]) {
  return parseArgs({
    args: [...words],
    allowPositionals: true,
    strict: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean', short: 'v' },
      json: { type: 'boolean' },
      quiet: { type: 'boolean' },
      resume: { type: 'boolean' },
      'log-format': { type: 'string' },
      pipeline: { type: 'string', multiple: true },
    },
  });
}
