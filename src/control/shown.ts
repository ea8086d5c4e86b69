import { inspect } from 'node:util';
import { isTroupeError } from '../kernel/errors.js';
import type {
  ApplyAnswer,
  AskAnswer,
  ExplainAnswer,
  LettersAnswer,
  PlanAnswer,
  PoolLine,
  PsAnswer,
  VersionsAnswer,
} from './answers.js';
import { type ControlEvent, percent, shadowText } from './event-log.js';
import type { VerbName } from './grammar.js';
import { countText, durationText, numberText, plainLines, plainText, tableText } from './text.js';

/**
 * Answers as text for people. Names, messages and records come from elsewhere: what could act on a terminal is taken out,
 * and nothing is longer than a screenful of scrolling.
 */

/** Longest text of one answer. */
const TEXT_MAX = 64 * 1024;
const CELL_MAX = 200;

/** What a verb gave, without an end of line. */
export function shownAnswer(verb: VerbName, answer: unknown): string {
  return capped(textOf(verb, answer));
}

function textOf(verb: VerbName, answer: unknown): string {
  switch (verb) {
    case 'ps':
      return psText(answer as PsAnswer);
    case 'stats':
      return figuresText(answer);
    case 'versions':
    case 'canary':
    case 'shadow':
      return versionsText(answer as VersionsAnswer);
    case 'explain':
      return explainText(answer as ExplainAnswer);
    case 'deadLetters':
      return lettersText(answer as LettersAnswer);
    case 'plan':
      return planText(answer as PlanAnswer, 'to do');
    case 'apply':
      return planText(answer as ApplyAnswer, 'done');
    case 'ask':
      return askText(answer as AskAnswer);
    case 'swap':
    case 'promote':
    case 'rollback':
    case 'scale':
    case 'restart':
    case 'preload':
    case 'unload':
    case 'drain':
      return poolsText([answer as PoolLine]);
    case 'tail':
      return '';
  }
}

/** Any value, on a few lines. */
export function shownValue(value: unknown): string {
  const text = inspect(value, { depth: 6, maxArrayLength: 50, maxStringLength: 2000, breakLength: 100, colors: false });
  return capped(plainLines(text));
}

/** What went wrong, and why, one line each. */
export function shownError(error: unknown): string {
  const lines: string[] = [];
  let at = error;
  for (let depth = 0; at !== undefined && depth < CAUSES_SHOWN; depth += 1) {
    const words = at instanceof Error ? at.message : typeof at === 'string' ? at : shownValue(at);
    const code = isTroupeError(at) ? `${at.code}: ` : at instanceof Error && at.name !== 'Error' ? `${at.name}: ` : '';
    const line = plainText(`${code}${words}`);
    // A message often says its cause already.
    if (!lines.some((before) => before.includes(plainText(words)))) lines.push(depth === 0 ? line : `  cause: ${line}`);
    at = at instanceof Error ? at.cause : undefined;
  }
  return capped(lines.join('\n'));
}

const CAUSES_SHOWN = 4;

/** `12:01:02.123  filetype  rollout  …` */
export function shownEvent({ at, kind, pool, message }: ControlEvent): string {
  const time = at.slice(11, 23);
  return [time, cell(pool ?? '-'), cell(kind), plainText(message)].join('  ');
}

export function psText({ system, pid, upMs, pools, pipelines, refused }: PsAnswer): string {
  const head = `${plainText(system)}, pid ${pid}, up ${durationText(upMs)}`;
  const parts = [head, pools.length === 0 ? 'no pools' : poolsText(pools)];
  if (pipelines.length > 0) {
    const rows = pipelines.map(({ name, records, results, failed, deadLetters, held }) => [
      cell(name),
      ...[records, results, failed, deadLetters, held].map(countText),
    ]);
    parts.push(tableText([['pipeline', 'records', 'results', 'failed', 'dead letters', 'held'], ...rows], 'figures'));
  }
  const turnedAway = Object.entries(refused).map(([listener, counts]) => {
    const reasons = Object.entries(counts).map(([reason, count]) => `${reason} ${countText(count)}`);
    return cell(`${listener}: ${reasons.join(', ')}`);
  });
  if (turnedAway.length > 0) parts.push(`refused  ${turnedAway.join('; ')}`);
  return parts.join('\n\n');
}

const POOL_HEAD = [
  'pool',
  'state',
  'version',
  'ready',
  'held',
  'results',
  'errors',
  'batch',
  'p50 ms',
  'p99 ms',
  'restarts',
];

function poolsText(pools: readonly PoolLine[]): string {
  const rows = pools.map((pool) => [
    cell(pool.name),
    pool.scaling?.asleep === true ? 'asleep' : pool.state,
    cell(versionText(pool)),
    readyText(pool),
    `${countText(pool.held)}/${countText(pool.capacity)}`,
    countText(pool.results),
    countText(pool.errors),
    numberText(pool.meanBatchSize),
    numberText(pool.p50Ms),
    numberText(pool.p99Ms),
    countText(pool.restarts),
  ]);
  return tableText([POOL_HEAD, ...rows], 'figures');
}

/** `2/4`, with bounds `2/4 (1..8)`, and while some wait for their turn to start `4/64, 56 wait`. */
function readyText({ ready, replicas, scaling, waiting }: PoolLine): string {
  const bounds = scaling === undefined ? '' : ` (${scaling.min}..${scaling.max})`;
  return `${ready}/${replicas}${bounds}${waiting === undefined ? '' : `, ${waiting} wait`}`;
}

/** `1`, or `1 -> 2 (10 %)` while another is brought in. */
function versionText({ version = '-', models, next, share }: PoolLine): string {
  if (models !== undefined) return `${models} model${models === 1 ? '' : 's'}`;
  if (next === undefined) return version;
  return `${version} -> ${next}${share === undefined ? '' : ` (${percent(share)})`}`;
}

function versionsText(answer: VersionsAnswer): string {
  const { current, previous, previousIsKept, next, step, share, shadow, replicas, available, aliases } = answer;
  const trial = share === undefined ? '' : `, ${percent(share)} of the records`;
  const running = Object.entries(replicas).map(([version, count]) => `${version}: ${count}`);
  const names = Object.entries(aliases).map(([alias, version]) => `${alias} = ${version}`);
  const rows = [
    ['current', current ?? 'none'],
    ...(previous === undefined
      ? []
      : [['previous', previousIsKept === true ? `${previous} (still loaded)` : previous]]),
    ...(next === undefined ? [] : [['next', `${next} (${step ?? ''}${trial})`]]),
    ...(shadow === undefined ? [] : [['shadow', shadowText(shadow)]]),
    ...(running.length === 0 ? [] : [['replicas', running.join(', ')]]),
    ...(available.length === 0 ? [] : [['available', available.join(', ')]]),
    ...(names.length === 0 ? [] : [['aliases', names.join(', ')]]),
  ];
  return tableText(
    rows.map((row) => row.map((text) => cell(text))),
    'words',
  );
}

function explainText({ values }: ExplainAnswer): string {
  const rows = values.map(({ path, value, from }) => [path, JSON.stringify(value) ?? '', from].map(cell));
  return rows.length === 0 ? 'nothing is set' : tableText(rows, 'words');
}

function planText({ file, steps, nextStart }: PlanAnswer, state: 'to do' | 'done'): string {
  const rows = steps.map(({ action, pool, from, to, drift }) => [
    action,
    cell(pool),
    cell(to === undefined ? '' : `${from ?? 'none'} -> ${to}`),
    drift === true ? 'drift: the file has not changed' : '',
  ]);
  return [
    ...(rows.length === 0
      ? [`nothing ${state}: what runs is what ${plainText(file)} says`]
      : [tableText(rows, 'words')]),
    ...nextStart.map((key) => `with the next start: ${cell(key)}`),
  ].join('\n');
}

function lettersText({ letters, files }: LettersAnswer): string {
  const rows = letters.map(({ at, pipeline, pool, version, code, message }) =>
    [at, pipeline, pool ?? '-', version ?? '-', code, message].map(cell),
  );
  const where = Object.entries(files).map(([pipeline, file]) => plainText(`${pipeline}: whole in ${file}`));
  const table =
    rows.length === 0
      ? 'nothing failed'
      : tableText([['at', 'pipeline', 'pool', 'version', 'code', 'message'], ...rows], 'words');
  return [table, ...where].join('\n');
}

function askText({ value, version }: AskAnswer): string {
  const text = shownValue(value);
  return version === undefined ? text : `${text}\nby version ${plainText(version)}`;
}

/** Nested figures, one a line, by their path. */
function figuresText(value: unknown): string {
  const rows: string[][] = [];
  const visit = (at: unknown, path: string): void => {
    if (typeof at === 'object' && at !== null) {
      for (const [key, inner] of Object.entries(at)) visit(inner, path === '' ? key : `${path}.${key}`);
    } else if (at !== undefined) {
      const shown = typeof at === 'number' ? numberText(at) : typeof at === 'string' ? at : JSON.stringify(at);
      rows.push([cell(path), cell(shown)]);
    }
  };
  visit(value, '');
  return tableText(rows, 'words');
}

function cell(text: string): string {
  return capped(plainText(text), CELL_MAX);
}

function capped(text: string, max = TEXT_MAX): string {
  return text.length <= max ? text : `${text.slice(0, max)}… (${text.length - max} more characters)`;
}
