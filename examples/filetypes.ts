/**
 * The main job: walks a directory tree, recognises what every file is from a sample of its bytes, and writes one line
 * for each. The model runs in supervised processes behind one mailbox and one batcher; whatever happens to them, every
 * file has exactly one outcome.
 */

import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import {
  createProgress,
  createSystem,
  formatReport,
  fromFiles,
  isTroupeError,
  stderrLog,
  stream,
  summarizeRun,
  toFile,
  type FileRecord,
  type Log,
  type Progress,
  type Source,
} from 'troupe';
import { HELP, readCommandLine, type JobOptions } from './filetypes/command-line.js';
import {
  HEAD_BYTES,
  Labels,
  sampleOf,
  TAIL_BYTES,
  type Result,
  type Sample,
  type Scores,
} from './filetypes/recognition.js';
import { type Signals, watchSignals } from './filetypes/signals.js';
import { Tally, tallyFigures, tallyTables } from './filetypes/tally.js';

const commandLine = readCommandLine(process.argv.slice(2));
switch (commandLine.kind) {
  case 'help':
    process.stdout.write(HELP);
    break;
  case 'wrong':
    process.stderr.write(`filetypes: ${commandLine.message}\nSee npm start -- --help\n`);
    process.exitCode = 2;
    break;
  case 'job':
    process.exitCode = await runWatched(commandLine.options);
}

async function runWatched(options: JobOptions): Promise<number> {
  using signals = watchSignals();
  try {
    return await runJob(options, signals);
  } catch (error) {
    const words = isTroupeError(error) ? `${error.code}: ${error.message}` : String(error);
    process.stderr.write(`filetypes: ${words}\n`);
    return signals.exitCode() || (error instanceof TypeError ? 2 : 1);
  }
}

async function runJob(options: JobOptions, signals: Signals): Promise<number> {
  const { directory, out, model, version, replicas, json } = options;
  let progress: Progress | undefined;
  const log: Log = (entry) => {
    progress?.clear();
    stderrLog(entry);
  };

  await using system = createSystem({ name: 'filetypes', log });
  signals.kill.addEventListener('abort', () => void system.stop({ timeoutMs: 0 }), { once: true });
  const labels = await Labels.read(model);
  // While the model loads nothing is under way that the first signal could finish.
  const giveUp = (): void => void system.stop({ timeoutMs: 0 });
  signals.stop.addEventListener('abort', giveUp);
  const pool = await system.spawn<Sample, Scores>('filetype', {
    actor: 'onnx',
    model,
    version,
    replicas,
    batching: { maxSize: 64 },
    // A job that has an end goes on rather than giving up: replicas killed every second, to the very end, are forgiven
    // and start again at once. So is a file that is under way each time.
    restart: { max: 600, withinMs: 60_000, backoffMs: 20, maxBackoffMs: 100 },
    attempts: 50,
  });

  signals.stop.removeEventListener('abort', giveUp);
  const tally = new Tally(labels);
  // One level only: a deeper path that is not there is a mistake, which the sink names. (And Node's recursive mkdir never
  // ends below /proc.)
  await mkdir(dirname(out)).catch(() => undefined);
  progress = createProgress({ label: 'files', isQuiet: json });
  const files = fromFiles(directory, { headBytes: HEAD_BYTES, tailBytes: TAIL_BYTES });
  // A second walk beside the first: it only lists, so the bar knows its end long before the job does.
  if (!json)
    void Promise.resolve(files.count?.()).then(
      (total) => progress?.expect(total ?? 0),
      () => undefined,
    );
  const report = await stream(untilStopped(files, signals.stop))
    .infer(pool, {
      bypass: ({ path, size }): Result | undefined => (size === 0 ? { path, size, type: 'empty' } : undefined),
      input: sampleOf,
      output: ({ path, size }, { scores }, by): Result => ({
        path,
        size,
        ...labels.best(scores),
        version: by ?? version,
      }),
      failed: (file, { code, message }): Result => ({ path: (file as FileRecord).path, error: { code, message } }),
      capacity: 1024,
    })
    .map((result) => {
      tally.count(result);
      return result;
    })
    .to(toFile(out), { signal: signals.kill, onProgress: ({ records }) => progress?.update(records) });
  progress.update(report.records);
  progress.finish();

  const stats = pool.stats();
  const summary = summarizeRun([report], [stats]);
  if (json) {
    const figures = { ...summary, ...tallyFigures(tally), version: stats.version, replicas, directory, out };
    process.stdout.write(`${JSON.stringify(figures)}\n`);
  } else {
    process.stdout.write(`${formatReport(summary)}\n${tallyTables(tally)}\nresults are in ${out}\n`);
  }
  // A pool that gave up has failed every file after it: the job did not run to its end.
  return stats.state === 'failed' ? 1 : signals.exitCode();
}

/** The same source, which ends early once the signal has come: what was read is still finished. */
function untilStopped<T>(source: Source<T>, stop: AbortSignal): Source<T> {
  return {
    name: source.name,
    async open() {
      const reader = await source.open();
      return { read: (max) => (stop.aborted ? undefined : reader.read(max)), close: () => reader.close() };
    },
  };
}
