import { randomUUID } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { loadConfig } from '../config/load.js';
import type { DeadLetter } from '../stream/envelope.js';
import type { Sink } from '../stream/sink.js';
import { toFile } from '../stream/sinks/file.js';
import { fromIterable } from '../stream/sources/iterable.js';
import type { Log } from '../telemetry/log.js';
import { type LetterLine, readLetterFile, readLetters } from './dead-letter-file.js';
import { type ConfigRun, runConfig } from './run-config.js';
import { plainText, tableText } from '../control/text.js';

/** What `troupe dead-letters` does with a file of dead letters: list, show, replay. */

/** Characters of an input or message in the list. */
const EXCERPT = 48;

/**
 * One line per letter, newest last: number, time, pipeline and step, code, attempts, what it was. Rejects with
 * PARSE_FAILED for a file of another kind.
 */
export async function listLetters(file: string): Promise<string> {
  const rows = [['line', 'failed at', 'pipeline', 'step', 'code', 'tries', 'message', 'input']];
  const { lines, isCutOff } = await readLetterFile(file);
  for (const [index, { number, letter }] of lines.entries()) {
    const words = isCutOff && index === lines.length - 1 ? 'cut off: no whole line' : 'not a dead letter';
    rows.push([String(number), ...(letter === undefined ? ['', '', '', words] : cells(letter))]);
  }
  return rows.length === 1 ? `${plainText(file)} holds no dead letters\n` : `${tableText(rows, 'words')}\n`;
}

function cells(letter: DeadLetter): string[] {
  const { times, pipeline, step, error, attempts, input } = letter;
  return [
    times?.failedAt ?? '',
    pipeline ?? '',
    step === undefined ? '' : String(step),
    error.code,
    attempts === undefined ? '' : String(attempts),
    error.message,
    JSON.stringify(input) ?? '',
  ].map((cell) => excerpt(plainText(String(cell))));
}

function excerpt(text: string): string {
  return text.length > EXCERPT ? `${text.slice(0, EXCERPT - 1)}…` : text;
}

/** The letter of one line, whole, as JSON for people; undefined where the file has no letter there. */
export async function showLetter(file: string, wanted: number): Promise<string | undefined> {
  for await (const { number, letter } of readLetters(file)) {
    if (number === wanted)
      return letter === undefined ? undefined : `${plainLines(JSON.stringify(letter, undefined, 2))}\n`;
  }
  return undefined;
}

/** JSON keeps C0 escaped; what is left are C1 and direction marks. */
function plainLines(text: string): string {
  return text.split('\n').map(plainText).join('\n');
}

export interface ReplayOptions {
  readonly file: string;
  readonly config: string;
  /** Only letters of this pipeline. Default: the one pipeline that the letters name. */
  readonly pipeline: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stop: AbortSignal;
  readonly kill: AbortSignal;
  readonly log: Log;
}

export interface Replay {
  readonly pipeline: string;
  /** Letters that went through the pipeline again. */
  readonly replayed: number;
  /** Of them, those that came out this time. */
  readonly results: number;
  /** What stands in the file now: letters that failed again, and those that were not tried. */
  readonly left: number;
  readonly runs: readonly ConfigRun[];
}

/**
 * Sends dead letters through their pipeline again, each from the step that failed, and adds what comes out to the
 * pipeline's sink. The file then holds those that failed again and those that were not tried (other pipelines, records
 * that the source could not read). It is replaced at the end in one step: a replay that breaks off leaves it whole.
 */
export async function replayLetters(options: ReplayOptions): Promise<Replay> {
  const { file, stop, kill, log } = options;
  const { lines } = await readLetterFile(file);
  const pipeline = options.pipeline ?? onlyPipeline(lines, file);
  const loaded = await loadConfig(options.config, { env: options.env });
  const definition = loaded.config.pipelines[pipeline];
  if (definition === undefined) {
    throw new WrongReplay(`${options.config} has no pipeline ${JSON.stringify(pipeline)}; name one with --pipeline`);
  }
  const bySteps = new Map<number, LetterLine[]>();
  const kept: LetterLine[] = [];
  for (const line of lines) {
    const step = line.letter?.pipeline === pipeline ? line.letter.step : undefined;
    if (step === undefined || step < 0 || step >= definition.steps.length) {
      kept.push(line);
      continue;
    }
    const group = bySteps.get(step);
    if (group === undefined) bySteps.set(step, [line]);
    else group.push(line);
  }
  const again = `${file}.${randomUUID()}.tmp`;
  try {
    await writeFile(again, kept.map(({ text }) => `${text}\n`).join(''), { mode: 0o600 });
    const runs: ConfigRun[] = [];
    for (const [step, group] of [...bySteps].sort(([a], [b]) => a - b)) {
      const run = await runConfig(loaded, {
        pipelines: [pipeline],
        stop,
        kill,
        log,
        instead: {
          source: { ...fromIterable(group.map(({ letter }) => letter?.input)), name: file },
          fromStep: step,
          deadLetters: fromLaterStep(toFile(again, { format: 'ndjson', append: true }), step),
        },
      });
      runs.push(run);
      if (stop.aborted || kill.aborted || run.failures.length > 0) {
        const why = run.failures[0]?.message ?? 'it was stopped';
        throw new WrongReplay(
          `the replay broke off (${why}); ${file} is as it was, ${count(runs)} results were written`,
        );
      }
    }
    let left = 0;
    for await (const _ of readLetters(again)) left += 1;
    await rename(again, file);
    const replayed = lines.length - kept.length;
    return { pipeline, replayed, results: count(runs), left, runs };
  } finally {
    await rm(again, { force: true });
  }
}

/** The replay numbers its steps from the one it begins with; the letters name the steps of the whole pipeline. */
function fromLaterStep(sink: Sink<DeadLetter>, first: number): Sink<DeadLetter> {
  return {
    name: sink.name,
    open: () => sink.open?.(),
    write: (letters, records) =>
      sink.write(
        letters.map((letter) => (letter.step === undefined ? letter : { ...letter, step: letter.step + first })),
        records,
      ),
    close: () => sink.close(),
    abort: () => sink.abort?.(),
  };
}

/** A replay that cannot be done, or was not; the message is for people. */
export class WrongReplay extends Error {}

function count(runs: readonly ConfigRun[]): number {
  return runs.reduce((sum, { results }) => sum + results, 0);
}

function onlyPipeline(lines: readonly LetterLine[], file: string): string {
  const names = new Set(lines.flatMap(({ letter }) => (letter?.pipeline === undefined ? [] : [letter.pipeline])));
  const [name] = names;
  if (names.size === 1 && name !== undefined) return name;
  throw new WrongReplay(
    names.size === 0
      ? `${file} holds no dead letter that names its pipeline`
      : `${file} holds letters of ${[...names].join(', ')}; choose one with --pipeline`,
  );
}
