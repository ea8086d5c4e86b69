import { resolve } from 'node:path';
import { explainConfig, originText } from '../config/explain.js';
import { type LoadedConfig, loadConfig } from '../config/load.js';
import { modelProblems } from '../config/model-problems.js';
import { packageVersion } from '../config/package-version.js';
import { configError } from '../config/problem.js';
import { importStepFunctions } from '../config/step-functions.js';
import { suggest } from '../config/suggest.js';
import { isTroupeError } from '../kernel/errors.js';
import { ModelRepository } from '../models/repository.js';
import { jsonLog, type Log } from '../telemetry/log.js';
import { HELP, type Invocation, parseInvocation } from './arguments.js';
import { WrongReplay, listLetters, replayLetters, showLetter } from './dead-letters.js';
import { operate } from './operate.js';
import { createProgress, type ProgressOutput } from './progress.js';
import { formatReport } from './report.js';
import { type ConfigRun, runConfig } from './run-config.js';
import { verbHelp } from '../control/repl-help.js';
import { countText, plainLines, plainText, tableText } from '../control/text.js';

/** Where a command reads and writes; main.ts gives it the process, a test its own. */
export interface Surroundings {
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: ProgressOutput;
  readonly stderr: ProgressOutput;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** First request to end: stop reading, finish what is under way. */
  readonly stop: AbortSignal;
  /** Second request: end now. */
  readonly kill: AbortSignal;
}

/** Exit codes of the command; the signals' own codes are added by main.ts. */
export type ExitCode = 0 | 1 | 2;

/** Runs one `troupe` command to its end. Never rejects but for a defect. */
export async function runCommand(words: readonly string[], around: Surroundings): Promise<ExitCode> {
  const invocation = parseInvocation(words);
  try {
    return await carryOut(invocation, around);
  } catch (error) {
    if (!isTroupeError(error)) throw error;
    if (error.code === 'CONFIG_INVALID') {
      around.stderr.write(`${plainLines(error.message)}\n`);
      return 2;
    }
    const isTold = error.code.startsWith('CONTROL_') || error.code === 'LISTEN_FAILED' || invocation.kind === 'hash';
    if (!isTold) throw error;
    around.stderr.write(`troupe: ${error.code}: ${plainText(error.message)}\n`);
    return 1;
  }
}

async function carryOut(invocation: Invocation, around: Surroundings): Promise<ExitCode> {
  const { stdout, stderr, env } = around;
  switch (invocation.kind) {
    case 'help':
      stdout.write(invocation.verb === undefined ? HELP : `troupe ${verbHelp(invocation.verb, 'command')}\n`);
      return 0;
    case 'version':
      stdout.write(`${packageVersion()}\n`);
      return 0;
    case 'wrong':
      stderr.write(`troupe: ${plainText(invocation.message)}\nSee troupe --help.\n`);
      return 2;
    case 'check': {
      const loaded = await loadConfig(invocation.config, { env });
      await importStepFunctions(loaded);
      const problems = await modelProblems(loaded);
      if (problems.length > 0) throw configError(loaded.file, problems);
      const { pools, pipelines } = loaded.config;
      stdout.write(`${loaded.file} is valid: pools ${names(pools)}; pipelines ${names(pipelines)}\n`);
      return 0;
    }
    case 'explain':
      explain(await loadConfig(invocation.config, { env }), invocation.isJson, around);
      return 0;
    case 'hash':
      stdout.write(await hashText(invocation));
      return 0;
    case 'run':
      return run(invocation, around);
    case 'list-letters':
    case 'show-letter':
    case 'replay-letters':
      return letters(invocation, around);
    case 'verb':
    case 'repl':
    case 'top':
      return operate(invocation, around);
  }
}

/** What a first request to end means to work that is under way; a session or a table just ends. */
function announceStop({ stop, stderr }: Surroundings): void {
  const announce = (): void => {
    stderr.write('\ntroupe: finishing what is under way, once more ends at once\n');
  };
  if (stop.aborted) announce();
  else stop.addEventListener('abort', announce, { once: true });
}

type LettersInvocation = Invocation & { kind: 'list-letters' | 'show-letter' | 'replay-letters' };

async function letters(invocation: LettersInvocation, around: Surroundings): Promise<ExitCode> {
  const { stdout, stderr, env, stop, kill } = around;
  try {
    switch (invocation.kind) {
      case 'list-letters':
        stdout.write(await listLetters(invocation.file));
        return 0;
      case 'show-letter': {
        const text = await showLetter(invocation.file, invocation.line);
        if (text === undefined) throw new WrongReplay(`line ${invocation.line} is no dead letter`);
        stdout.write(text);
        return 0;
      }
      case 'replay-letters': {
        announceStop(around);
        const { isJson, ...options } = invocation;
        const log = logTo(stderr);
        const { pipeline, replayed, results, left } = await replayLetters({ ...options, env, stop, kill, log });
        if (isJson) stdout.write(`${JSON.stringify({ pipeline, replayed, results, left })}\n`);
        else {
          stdout.write(
            `${countText(replayed)} replayed, ${countText(results)} results; ${countText(left)} left in the file\n`,
          );
        }
        return 0;
      }
    }
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const isMissing = 'code' in error && typeof error.code === 'string' && 'path' in error;
    const isStrange = isTroupeError(error) && error.code === 'PARSE_FAILED';
    if (!isMissing && !isStrange && !(error instanceof WrongReplay)) throw error;
    stderr.write(`troupe: ${plainText(invocation.file)}: ${plainText(error.message)}\n`);
    return 1;
  }
}

/** As it stands below the name of the model in `models.hashes`. */
async function hashText({ model, version, isJson }: Invocation & { kind: 'hash' }): Promise<string> {
  const models = new ModelRepository();
  const { versions, withheld } = models.model(resolve(model));
  const wanted = version === undefined ? [...versions, ...withheld] : [version];
  const hashes: Record<string, string> = {};
  for (const one of wanted) hashes[one] = await models.hash(resolve(model), one);
  if (isJson) return `${JSON.stringify(hashes)}\n`;
  return Object.entries(hashes)
    .map(([one, hash]) => `${one}: ${hash}\n`)
    .join('');
}

function logTo(stderr: ProgressOutput, before: () => void = () => undefined): Log {
  return ({ level, message, pool, code }) => {
    if (level === 'info') return;
    before();
    const who = [pool === undefined ? '' : ` pool=${pool}`, code === undefined ? '' : ` ${code}`].join('');
    stderr.write(`troupe ${level}${who}: ${plainText(message)}\n`);
  };
}

function explain(loaded: LoadedConfig, isJson: boolean, { stdout }: Surroundings): void {
  const values = explainConfig(loaded);
  if (isJson) {
    stdout.write(`${JSON.stringify({ file: loaded.file, values })}\n`);
    return;
  }
  const rows = values.map((value) => [
    plainText(value.path),
    plainText(JSON.stringify(value.value)),
    plainText(originText(loaded.file, value)),
  ]);
  stdout.write(`${tableText(rows, 'words')}\n`);
}

async function run(invocation: Invocation & { kind: 'run' }, around: Surroundings): Promise<ExitCode> {
  const { stdout, stderr, env, stop, kill } = around;
  const { isJson, resume, logFormat, servesOnly } = invocation;
  let isQuiet = invocation.isQuiet || logFormat === 'json';
  const loaded = await loadConfig(invocation.config, { env });
  const known = Object.keys(loaded.config.pipelines);
  const chosen = servesOnly ? [] : invocation.pipelines.length > 0 ? [...new Set(invocation.pipelines)] : known;
  const trouble = servesOnly ? troubleWithServing(loaded) : troubleWith(chosen, loaded, isJson, resume);
  if (trouble !== undefined) {
    stderr.write(`troupe: ${plainText(trouble)}\n`);
    return 2;
  }
  announceStop(around);
  // Pools alone count no records of a run.
  if (chosen.length === 0) isQuiet = true;
  // Results and a bar on one terminal would write over each other.
  const sharesTerminal = stdout.isTTY === true && chosen.some((name) => writesToStdout(loaded, name));
  const progress = createProgress({ output: stderr, isQuiet: isQuiet || sharesTerminal });
  const log = logFormat === 'json' ? jsonLog((line) => stderr.write(line)) : logTo(stderr, () => progress.clear());
  const result = await runConfig(loaded, {
    pipelines: chosen,
    servesOnly,
    stop,
    kill,
    resume,
    log,
    onOperated: (message) => {
      log({ level: 'info', message });
      if (!invocation.isQuiet && logFormat === 'text') stderr.write(`troupe: ${plainText(message)}\n`);
    },
    onProgress: (done) => progress.update(done),
    onTotal: (total) => progress.expect(total),
  });
  progress.update(result.records);
  progress.finish();
  for (const { what, name, code, message } of result.failures) {
    if (logFormat === 'text') stderr.write(`troupe error: ${what} ${name}: ${code}: ${plainText(message)}\n`);
    else
      log({ level: 'error', message: `${what} ${name}: ${message}`, code, ...(what === 'pool' ? { pool: name } : {}) });
  }
  if (logFormat === 'json') log({ level: 'info', message: outcomeOf(result) });
  if (!isQuiet) stderr.write(formatReport(result));
  if (isJson) stdout.write(`${JSON.stringify(withOutcome(result))}\n`);
  return result.failures.length > 0 ? 1 : 0;
}

function withOutcome(result: ConfigRun): ConfigRun & { ok: boolean } {
  return { ok: result.failures.length === 0, ...result };
}

function outcomeOf({ records, results, failed, deadLetters }: ConfigRun): string {
  return `the run has ended: ${records} records, ${results} results, ${failed} failed, ${deadLetters} dead letters`;
}

function troubleWith(
  chosen: readonly string[],
  loaded: LoadedConfig,
  isJson: boolean,
  resume: boolean,
): string | undefined {
  const known = Object.keys(loaded.config.pipelines);
  if (known.length === 0 && chosen.length === 0) return troubleWithPools(loaded, resume);
  const stranger = chosen.find((name) => !known.includes(name));
  if (stranger !== undefined) {
    const near = suggest(stranger, known);
    const all = known.length === 0 ? 'it has none' : `the pipelines are ${known.join(', ')}`;
    const advice = near === undefined ? all : `did you mean ${near}?`;
    return `${loaded.file} has no pipeline ${JSON.stringify(stranger)}; ${advice}`;
  }
  if (resume && !chosen.some((name) => loaded.config.pipelines[name]?.checkpoint !== undefined)) {
    return `--resume needs a pipeline with checkpoint: { dir }; ${chosen.join(', ')} of ${loaded.file} ${chosen.length > 1 ? 'have' : 'has'} none`;
  }
  const talker = isJson ? chosen.find((name) => writesToStdout(loaded, name)) : undefined;
  if (talker === undefined) return undefined;
  return `--json prints one object on stdout, but the results of pipeline ${talker} go there too; give it a file as sink`;
}

function troubleWithServing({ file, config }: LoadedConfig): string | undefined {
  return Object.keys(config.pools).length === 0 ? `${file} has no pools; there is nothing to serve` : undefined;
}

/** Without pipelines a file is for pools that are operated and asked from outside. */
function troubleWithPools({ file, config }: LoadedConfig, resume: boolean): string | undefined {
  if (Object.keys(config.pools).length === 0) return `${file} has neither pools nor pipelines; there is nothing to run`;
  if (config.control === undefined && config.metrics === undefined && config.serve === undefined)
    return `${file} has pools and no pipelines, and nothing could reach them: give it control: {}, for troupe repl and the other commands, or a pipeline; troupe serve serves them to clients`;
  return resume ? `--resume needs a pipeline with checkpoint: { dir }; ${file} has no pipelines` : undefined;
}

function writesToStdout({ config }: LoadedConfig, pipeline: string): boolean {
  return config.pipelines[pipeline]?.sink.stdout !== undefined;
}

function names(record: Readonly<Record<string, unknown>>): string {
  const keys = Object.keys(record);
  return keys.length === 0 ? 'none' : keys.join(', ');
}
