import { parseArgs } from 'node:util';
import { suggest } from '../config/suggest.js';

export type Invocation =
  | { readonly kind: 'help' | 'version' }
  | {
      readonly kind: 'run';
      readonly config: string;
      readonly isJson: boolean;
      readonly isQuiet: boolean;
      readonly pipelines: readonly string[];
    }
  | { readonly kind: 'check'; readonly config: string }
  | { readonly kind: 'explain'; readonly config: string; readonly isJson: boolean }
  | { readonly kind: 'wrong'; readonly message: string };

export const HELP = `troupe: models as supervised actors, shared by stream pipelines

Usage
  troupe run [config] [--pipeline NAME]... [--json] [--quiet]
                          start the pools of a config and run its pipelines to their end
  troupe check [config]   say whether a config is valid; starts nothing
  troupe explain [config] [--json]
                          every value of a config and where it came from

  config is ./troupe.yaml unless given. Progress and logs go to stderr, results to stdout.

Options
  --pipeline NAME   run only this pipeline; may be given again
  --json            print one JSON object on stdout
  --quiet           no progress and no summary
  --help, -h        this text
  --version, -v     the version

Exit codes
  0    done; records that failed one by one are in the report
  1    a pool or a pipeline failed
  2    wrong use, or the config is not valid
  130  ended by SIGINT (143: SIGTERM). The first stops reading and finishes what is under way; the second ends at once.
`;

const COMMANDS = ['run', 'check', 'explain'];
const OPTIONS_OF: Readonly<Record<string, readonly string[]>> = {
  run: ['pipeline', 'json', 'quiet'],
  check: [],
  explain: ['json'],
};
const DEFAULT_CONFIG = 'troupe.yaml';

/** What the words after `troupe` ask for. Never throws: wrong use is an answer too. */
export function parseInvocation(words: readonly string[]): Invocation {
  let parsed: ReturnType<typeof parseWords>;
  try {
    parsed = parseWords(words);
  } catch (error) {
    // node:util throws a TypeError with a good first sentence and much advice after it.
    const message = error instanceof Error ? error.message : String(error);
    return { kind: 'wrong', message: (message.split('. ')[0] as string).replace(/\.$/, '') };
  }
  const { values, positionals } = parsed;
  if (values.help === true) return { kind: 'help' };
  if (values.version === true) return { kind: 'version' };
  const [command, config = DEFAULT_CONFIG, ...rest] = positionals;
  if (command === undefined) return { kind: 'wrong', message: `expected a command: ${COMMANDS.join(', ')}` };
  const allowed = OPTIONS_OF[command];
  if (allowed === undefined || !COMMANDS.includes(command)) {
    const near = suggest(command, COMMANDS);
    const advice = near === undefined ? `the commands are ${COMMANDS.join(', ')}` : `did you mean ${near}?`;
    return { kind: 'wrong', message: `there is no command ${JSON.stringify(command)}; ${advice}` };
  }
  if (rest.length > 0)
    return { kind: 'wrong', message: `${command} takes one config file; found also ${rest.join(' ')}` };
  const stray = Object.keys(values).find((option) => !allowed.includes(option));
  if (stray !== undefined) return { kind: 'wrong', message: `${command} has no option --${stray}` };
  const isJson = values.json === true;
  switch (command) {
    case 'check':
      return { kind: 'check', config };
    case 'explain':
      return { kind: 'explain', config, isJson };
    default:
      return { kind: 'run', config, isJson, isQuiet: values.quiet === true, pipelines: values.pipeline ?? [] };
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
      pipeline: { type: 'string', multiple: true },
    },
  });
}
