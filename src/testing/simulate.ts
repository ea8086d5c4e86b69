/**
 * The command behind `npm run simulate`: runs seeds of the swarm, or one named scenario, or the rows of the scorecard.
 * Prints what it ran and what it found; for a violation also the one command that replays it and a smaller scenario
 * that shows the same. Exit code 1 where something was found, 2 for wrong arguments.
 */

import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { systemClock } from '../kernel/clock.js';
import { type Family, POOLS, STREAMS } from './families.js';
import { runRows } from './rows.js';

/** Stop after so many failing seeds: the first few say what is wrong. */
const MAX_FAILURES = 5;

interface Campaign {
  readonly scenario: string;
  readonly seeds: number;
  readonly from: number;
  readonly events: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly faults: Record<string, number>;
  /** Over all runs in order; equal for equal seeds and code. */
  readonly traceHash: string;
  readonly violations: readonly Failure[];
}

interface Failure {
  readonly seed: number;
  readonly checker: string;
  readonly what: string;
  readonly atMs: number;
  readonly replay: string;
  readonly smallest: unknown;
}

const HELP = `simulate [--streams] [--seeds N] [--from S] [--seed S] [--verbose] [--scenario NAME] [--rows] [--json]
  --streams        streams with checkpoints and crashes in the place of pools
  --seeds N        how many seeds (1000)
  --from S         the first seed (1)
  --seed S         one seed alone
  --verbose        prints the options of a scenario and every event of it
  --scenario NAME  ${POOLS.names.join(', ')} (swarm);
                   of streams ${STREAMS.names.join(', ')}
  --rows           one scenario per row of the reliability scorecard
  --first          ends at the first violation and does not look for a smaller scenario
  --json           one JSON object on stdout
`;

export function main(args: readonly string[]): number {
  // Stacks of expected errors cost more than the rest of a scenario; only this process goes without.
  Error.stackTraceLimit = 0;
  let values: ReturnType<typeof parse>;
  try {
    values = parse(args);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${HELP}`);
    return 2;
  }
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.rows) return rows(values.json);
  const campaign = runCampaign(values);
  if (values.json) process.stdout.write(`${JSON.stringify(campaign)}\n`);
  else process.stdout.write(describe(campaign));
  return campaign.violations.length > 0 ? 1 : 0;
}

function parse(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seeds: { type: 'string', default: '1000' },
      from: { type: 'string', default: '1' },
      seed: { type: 'string' },
      streams: { type: 'boolean', default: false },
      scenario: { type: 'string', default: 'swarm' },
      verbose: { type: 'boolean', default: false },
      rows: { type: 'boolean', default: false },
      first: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  const { names } = values.streams ? STREAMS : POOLS;
  if (!names.includes(values.scenario))
    throw new TypeError(`--scenario must be one of ${names.join(', ')}; got "${values.scenario}"`);
  return {
    ...values,
    seeds: values.seed === undefined ? count('seeds', values.seeds) : 1,
    from: values.seed === undefined ? count('from', values.from) : count('seed', values.seed),
  };
}

function count(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 0)
    throw new TypeError(`--${option} must be a whole number; got "${text}"`);
  return value;
}

function runCampaign(options: ReturnType<typeof parse>): Campaign {
  const { scenario: name, seeds, from, verbose, first } = options;
  const family = options.streams ? STREAMS : POOLS;
  const maxFailures = first ? 1 : MAX_FAILURES;
  const startedAt = systemClock.now();
  const cpuBefore = process.cpuUsage();
  const fired = new Float64Array(family.kinds.length);
  const violations: Failure[] = [];
  let events = 0;
  let traceHash = 0;
  let ran = 0;
  for (let seed = from; seed < from + seeds && violations.length < maxFailures; seed++) {
    if (verbose) process.stderr.write(`${JSON.stringify(family.scenario(name, seed), null, 2)}\n`);
    const log = verbose ? (line: string) => void process.stderr.write(`${line}\n`) : undefined;
    const { eventCount, traceHash: hash, firedCounts, violation } = family.run(name, seed, log);
    ran++;
    events += eventCount;
    traceHash = (Math.imul(traceHash, 31) + hash) >>> 0;
    for (let kind = 0; kind < fired.length; kind++)
      fired[kind] = (fired[kind] as number) + (firedCounts[kind] as number);
    if (violation === undefined) continue;
    const { checker, what, at: atMs } = violation;
    const replay = `${command(family, name)} --seed ${seed} --verbose`;
    const smallest = first ? family.scenario(name, seed) : family.shrink(name, seed, checker);
    violations.push({ seed, checker, what, atMs, replay, smallest });
  }
  const cpu = process.cpuUsage(cpuBefore);
  return {
    scenario: options.streams ? `${name} of streams` : name,
    seeds: ran,
    from,
    events,
    seconds: (systemClock.now() - startedAt) / 1000,
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
    faults: Object.fromEntries(family.kinds.map((kind, index) => [kind, fired[index] as number])),
    traceHash: traceHash.toString(16).padStart(8, '0'),
    violations: [...violations, ...neverFired(family, name, ran, fired)],
  };
}

function command(family: Family, name: string): string {
  return `npm run simulate --${family === STREAMS ? ' --streams' : ''}${name === 'swarm' ? '' : ` --scenario ${name}`}`;
}

/** A fault kind that never struck in a long run tests nothing, which is a defect of the simulator. */
function neverFired(family: Family, name: string, ran: number, fired: Float64Array): Failure[] {
  if (name !== 'swarm' || ran < 500) return [];
  return family.kinds
    .filter((_, kind) => fired[kind] === 0)
    .map((kind) => ({
      seed: 0,
      checker: 'faults-fired',
      what: `the fault "${kind}" never struck in ${ran} seeds`,
      atMs: 0,
      replay: `${command(family, name)} --seeds ${ran}`,
      smallest: family.scenario(name, 0),
    }));
}

function describe(campaign: Campaign): string {
  const { seeds, from, events, seconds, cpuSeconds, faults, violations, traceHash } = campaign;
  const perSecond = (value: number, per: number): string => Math.round(value / per).toLocaleString('en');
  const lines = [
    `scenario    ${campaign.scenario}`,
    `seeds       ${seeds} (${from} to ${from + seeds - 1})`,
    `events      ${events.toLocaleString('en')} (${Math.round(events / seeds)} per scenario)`,
    `time        ${seconds.toFixed(2)} s, ${cpuSeconds.toFixed(2)} s of one core`,
    `speed       ${perSecond(seeds, cpuSeconds)} scenarios/s and ${perSecond(events, cpuSeconds)} events/s per core`,
    `trace       ${traceHash}`,
    'faults',
    ...Object.entries(faults).map(([kind, times]) => `  ${kind.padEnd(16)}${times.toLocaleString('en').padStart(10)}`),
    `violations  ${violations.length}`,
  ];
  for (const { seed, checker, what, atMs, replay, smallest } of violations) {
    lines.push(`  seed ${seed}: ${checker} at ${atMs.toFixed(3)} ms: ${what}`, `    replay: ${replay}`);
    lines.push(`    smallest: ${JSON.stringify(smallest, onlyWhatIsOn)}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Leaves out the fault kinds that are off. */
function onlyWhatIsOn(key: string, value: unknown): unknown {
  if (key !== 'faults') return value === Infinity ? 'none' : value;
  return Object.fromEntries(Object.entries(value as Record<string, number>).filter(([, rate]) => rate > 0));
}

function rows(asJson: boolean): number {
  const results = runRows();
  if (asJson) process.stdout.write(`${JSON.stringify({ rows: results })}\n`);
  else {
    for (const { id, title, runs, fired, problem } of results) {
      const verdict = problem === undefined ? 'ok  ' : 'FAIL';
      process.stdout.write(
        `${id.padEnd(4)}${verdict} ${String(runs).padStart(5)} runs ${String(fired).padStart(7)} faults  ${title}\n`,
      );
      if (problem !== undefined) process.stdout.write(`      ${problem}\n`);
    }
  }
  return results.some(({ problem }) => problem !== undefined) ? 1 : 0;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exitCode = main(process.argv.slice(2));
