import { FAULT_KINDS } from './faults.js';
import { NAMED_SCENARIOS, type NamedScenario } from './named-scenarios.js';
import { runScenario } from './run.js';
import { shrinkScenario } from './shrink.js';
import { STREAM_FAULT_KINDS } from './streams/faults.js';
import { STREAM_ROW_SCENARIOS } from './streams/rows.js';
import { runStream } from './streams/run.js';
import { streamScenario, type StreamScenario } from './streams/scenario.js';
import { shrinkStream } from './streams/shrink.js';
import type { Violation } from './world.js';

/** What the command needs of a kind of simulation. */
export interface Family {
  /** Scenarios by name; `swarm` is one of them. */
  readonly names: readonly string[];
  /** Of faults. */
  readonly kinds: readonly string[];
  scenario(name: string, seed: number): unknown;
  run(name: string, seed: number, log: ((line: string) => void) | undefined): FamilyReport;
  /** A smaller scenario that breaks the same check. */
  shrink(name: string, seed: number, checker: string): unknown;
}

export interface FamilyReport {
  readonly eventCount: number;
  readonly traceHash: number;
  /** By index of `kinds`. */
  readonly firedCounts: readonly number[];
  readonly violation: Violation | undefined;
}

const pool = (name: string): NamedScenario => NAMED_SCENARIOS[name] as NamedScenario;

export const POOLS: Family = {
  names: Object.keys(NAMED_SCENARIOS),
  kinds: FAULT_KINDS,
  scenario: (name, seed) => pool(name).scenario(seed),
  run(name, seed, log) {
    const { scenario, lies } = pool(name);
    return runScenario(scenario(seed), { lies, ...(log === undefined ? {} : { log }) });
  },
  shrink(name, seed, checker) {
    const { scenario, lies } = pool(name);
    return shrinkScenario(scenario(seed), checker, { lies });
  },
};

const STREAM_SCENARIOS: Readonly<Record<string, (seed: number) => StreamScenario>> = {
  swarm: streamScenario,
  ...STREAM_ROW_SCENARIOS,
};
const stream = (name: string): ((seed: number) => StreamScenario) =>
  STREAM_SCENARIOS[name] as (seed: number) => StreamScenario;

export const STREAMS: Family = {
  names: Object.keys(STREAM_SCENARIOS),
  kinds: STREAM_FAULT_KINDS,
  scenario: (name, seed) => stream(name)(seed),
  run: (name, seed, log) => runStream(stream(name)(seed), { log }),
  shrink: (name, seed, checker) => shrinkStream(stream(name)(seed), checker),
};
