import { FAULT_KINDS } from './faults.js';
import { runScenario } from './run.js';
import type { Scenario } from './scenario.js';
import type { Lies } from './sim-pool.js';

/** Simplifications tried in turn, the ones that explain most first. */
const SIMPLER: readonly ((scenario: Scenario) => Scenario | undefined)[] = [
  (s) => (s.records > 1 ? { ...s, records: Math.ceil(s.records / 2) } : undefined),
  (s) => (s.swaps > 0 ? { ...s, swaps: 0 } : undefined),
  (s) =>
    s.bakeMs > 0
      ? { ...s, share: 1, shadow: 0, bakeMs: 0, keepMs: 0, verifies: false, promotes: 0, rollbacks: 0 }
      : undefined,
  (s) => (s.promotes + s.rollbacks > 0 ? { ...s, promotes: 0, rollbacks: 0 } : undefined),
  (s) => (s.swapStrategy !== 'beside' ? { ...s, swapStrategy: 'beside' } : undefined),
  (s) => (s.keepMs > 0 ? { ...s, keepMs: 0 } : undefined),
  (s) => (s.shadow > 0 ? { ...s, shadow: 0 } : undefined),
  (s) => (s.keys > 0 ? { ...s, keys: 0 } : undefined),
  (s) => (s.scales > 0 ? { ...s, scales: 0 } : undefined),
  (s) => (s.holds > 0 ? { ...s, holds: 0 } : undefined),
  (s) => (s.drainAtMs > 0 ? { ...s, drainAtMs: 0 } : undefined),
  (s) => (s.stopAtMs > 0 ? { ...s, stopAtMs: 0 } : undefined),
  (s) => (s.reviveMs > 0 ? { ...s, reviveMs: 0 } : undefined),
  (s) => (s.replicas > 1 ? { ...s, replicas: s.replicas - 1 } : undefined),
  (s) => (s.askers > 0 && s.operators > 0 ? { ...s, askers: 0 } : undefined),
  (s) =>
    s.askers + s.operators > 1 ? { ...s, askers: s.askers > 0 ? 1 : 0, operators: s.askers > 0 ? 0 : 1 } : undefined,
  (s) => (s.priorities > 1 ? { ...s, priorities: 1 } : undefined),
  (s) => (s.buckets > 1 ? { ...s, buckets: 1 } : undefined),
  (s) => (s.timeoutMs > 0 ? { ...s, timeoutMs: 0 } : undefined),
  (s) =>
    s.limits.mailbox.maxWaitMs !== Infinity
      ? { ...s, limits: { ...s.limits, mailbox: { ...s.limits.mailbox, maxWaitMs: Infinity } } }
      : undefined,
  (s) => (s.burst > 1 ? { ...s, burst: 1 } : undefined),
  (s) => (s.limits.maxInFlight > 1 ? { ...s, limits: { ...s.limits, maxInFlight: 1 } } : undefined),
];

/**
 * A smaller scenario that breaks the same check: fault kinds are switched off one by one, records halved, options made
 * plain, until nothing can be taken away. At most `runs` runs.
 */
export function shrinkScenario(
  scenario: Scenario,
  checker: string,
  { lies = {}, runs = 400 }: { lies?: Lies; runs?: number } = {},
): Scenario {
  let smallest = scenario;
  let left = runs;
  const stillFails = (candidate: Scenario): boolean => {
    left--;
    return runScenario(candidate, { lies }).violation?.checker === checker;
  };
  for (let changed = true; changed && left > 0; ) {
    changed = false;
    for (const kind of FAULT_KINDS) {
      if (smallest.faults[kind] === 0) continue;
      const candidate = { ...smallest, faults: { ...smallest.faults, [kind]: 0 } };
      if (left <= 0 || !stillFails(candidate)) continue;
      smallest = candidate;
      changed = true;
    }
    for (const simpler of SIMPLER) {
      const candidate = simpler(smallest);
      if (candidate === undefined || left <= 0 || !stillFails(candidate)) continue;
      smallest = candidate;
      changed = true;
    }
  }
  return smallest;
}
