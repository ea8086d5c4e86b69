import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';

/** One comparison or one measurement of a bench part. */
export interface Row {
  readonly part: string;
  readonly id: string;
  readonly what: string;
  /** Who it is compared with; absent for a measurement of ours alone. */
  readonly against?: string;
  readonly ours: number;
  readonly theirs?: number;
  /** Median over the rounds of ours divided by theirs in the same round. */
  readonly ratio?: number;
  /** CPU time of the measuring process per ask, which a busy machine distorts less than the rate. */
  readonly cpuMicros?: { readonly ours: number; readonly theirs: number };
  /** Smallest and largest of what `ratio` (or, without one, `ours`) is the median of. */
  readonly spread: readonly [number, number];
  /** Least ratio (or, without one, `ours`) promised; absent where nothing is promised. */
  readonly target?: number;
  /** True: the target is a bound from above, such as one on a time. */
  readonly atMost?: boolean;
  readonly met?: boolean;
}

export interface Report {
  readonly machine: { readonly cpu: string; readonly cores: number; readonly platform: string; readonly load: number };
  readonly versions: Readonly<Record<string, string>>;
  readonly rows: readonly Row[];
}

const PACKAGES = ['troupe', 'piscina', 'tinypool', 'comlink', 'workerpool', '@grpc/grpc-js'];

export function reportOf(rows: readonly Row[]): Report {
  return {
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cores: availableParallelism(),
      platform: `${process.platform} ${process.arch}`,
      load: Number((loadavg()[0] as number).toFixed(1)),
    },
    versions: Object.fromEntries([['node', process.versions.node], ...PACKAGES.map((name) => [name, versionOf(name)])]),
    rows,
  };
}

/** A table for people, Markdown as it stands. */
export function tableOf({ machine, versions, rows }: Report): string {
  const head = ['what', 'against', 'ours', 'theirs', 'ratio', 'spread', 'CPU us/ask', 'target', 'met'];
  const cells = rows.map((row) => [
    row.what,
    row.against ?? '-',
    number(row.ours),
    row.theirs === undefined ? '-' : number(row.theirs),
    row.ratio === undefined ? '-' : row.ratio.toFixed(2),
    row.spread.map((value) => (row.ratio === undefined ? number(value) : value.toFixed(2))).join(' to '),
    row.cpuMicros === undefined ? '-' : `${row.cpuMicros.ours} : ${row.cpuMicros.theirs}`,
    row.target === undefined ? '-' : `${row.atMost === true ? 'at most' : 'at least'} ${number(row.target)}`,
    row.met === undefined ? '-' : row.met ? 'yes' : 'NOT MET',
  ]);
  const widths = head.map((title, column) =>
    Math.max(title.length, ...cells.map((line) => (line[column] as string).length)),
  );
  const line = (values: readonly string[]): string =>
    `| ${values.map((value, column) => value.padEnd(widths[column] as number)).join(' | ')} |`;
  const words = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return [
    `${machine.cores} cores of ${machine.cpu}, ${machine.platform}, load ${machine.load}; ${words.join(', ')}`,
    '',
    line(head),
    line(widths.map((width) => '-'.repeat(width))),
    ...cells.map(line),
  ].join('\n');
}

function number(value: number): string {
  return Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toFixed(2)));
}

function versionOf(name: string): string {
  const path = name === 'troupe' ? '../../package.json' : `../../node_modules/${name}/package.json`;
  return (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
}
