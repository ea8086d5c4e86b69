import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';

const ROOT = new URL('../../../', import.meta.url);

export const HELP = `Recognises the content type of every file in a directory tree.

Usage: npm start -- [options] [DIR]

  DIR            the tree to walk (default: node_modules of this project)
  --out FILE     where the results go, one JSON line per file (default: results/filetypes.ndjson)
  --model DIR    the model, in Triton layout (default: models/filetype)
  --version N    version of the model (default: the latest)
  --replicas N   how many processes run the model (default: 2)
  --json         one JSON object on stdout in place of the tables, and no progress
  --help         this text

Exit code: 0 the job ran to its end, 1 it could not, 2 wrong use, 130 ended by SIGINT, 143 by SIGTERM.
The first signal stops reading, finishes what is under way and reports; the second ends at once.
`;

export interface JobOptions {
  readonly directory: string;
  readonly out: string;
  readonly model: string;
  readonly version: string;
  readonly replicas: number;
  readonly json: boolean;
}

export type CommandLine =
  | { readonly kind: 'job'; readonly options: JobOptions }
  | { readonly kind: 'help' }
  | { readonly kind: 'wrong'; readonly message: string };

export function readCommandLine(args: readonly string[]): CommandLine {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        out: { type: 'string', default: 'results/filetypes.ndjson' },
        model: { type: 'string', default: fileURLToPath(new URL('models/filetype', ROOT)) },
        version: { type: 'string', default: 'latest' },
        replicas: { type: 'string', default: '2' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) return { kind: 'help' };
    if (positionals.length > 1) throw new TypeError(`One directory is walked, got ${positionals.join(' ')}`);
    const replicas = Number(values.replicas);
    if (!/^\d{1,3}$/.test(values.replicas) || replicas < 1) {
      throw new TypeError(`--replicas must be a whole number from 1 to 999, got ${values.replicas}`);
    }
    const directory = positionals[0] ?? fileURLToPath(new URL('node_modules', ROOT));
    const { out, model, version, json } = values;
    return { kind: 'job', options: { directory, out, model, version, replicas, json } };
  } catch (error) {
    return { kind: 'wrong', message: error instanceof Error ? error.message : String(error) };
  }
}
