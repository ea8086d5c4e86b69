import { FAULT_KINDS } from './faults.js';
import { NAMED_SCENARIOS, type NamedScenario } from './named-scenarios.js';
import { runScenario } from './run.js';
import { shrinkScenario } from './shrink.js';
import { noStreamFaults, STREAM_FAULT_KINDS } from './streams/faults.js';
import { STREAM_ROW_SCENARIOS } from './streams/rows.js';
import { runStream } from './streams/run.js';
import { streamScenario, type StreamScenario } from './streams/scenario.js';
import { shrinkStream } from './streams/shrink.js';
import type { StreamLies } from './streams/world.js';
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

interface NamedStream {
  readonly scenario: (seed: number) => StreamScenario;
  readonly lies: StreamLies;
}

export const NAMED_STREAMS: Readonly<Record<string, NamedStream>> = {
  swarm: { scenario: streamScenario, lies: {} },
  ...Object.fromEntries(Object.entries(STREAM_ROW_SCENARIOS).map(([id, scenario]) => [id, { scenario, lies: {} }])),
  // Must fail: the tester itself is tested with it.
  canary: {
    scenario: (seed) => ({
      ...streamScenario(seed),
      source: 'replayable',
      sink: 'file',
      hasCheckpoints: true,
      ends: 4,
      faults: { ...noStreamFaults(), kill: 1 },
    }),
    lies: { ignoresSync: true },
  },
};

const stream = (name: string): NamedStream => NAMED_STREAMS[name] as NamedStream;

export const STREAMS: Family = {
  names: Object.keys(NAMED_STREAMS),
  kinds: STREAM_FAULT_KINDS,
  scenario: (name, seed) => stream(name).scenario(seed),
  run(name, seed, log) {
    const { scenario, lies } = stream(name);
    return runStream(scenario(seed), { lies, log });
  },
  shrink(name, seed, checker) {
    const { scenario, lies } = stream(name);
    return shrinkStream(scenario(seed), checker, { lies });
  },
};
