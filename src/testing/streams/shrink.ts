import { STREAM_FAULT_KINDS } from './faults.js';
import { runStream } from './run.js';
import type { StreamScenario, StreamShape } from './scenario.js';
import type { StreamLies } from './world.js';

type Simpler = (scenario: StreamScenario) => StreamScenario | undefined;

/** Simplifications tried in turn, the ones that explain most first. */
const SIMPLER: readonly Simpler[] = [
  (s) => (s.records > 1 ? { ...s, records: Math.ceil(s.records / 2) } : undefined),
  (s) => (s.records > 1 ? { ...s, records: s.records - 1 } : undefined),
  ...[0, 1, 2, 3].map(
    (index): Simpler =>
      (s) =>
        s.steps.length > 1 && index < s.steps.length
          ? { ...s, steps: s.steps.filter((_, at) => at !== index) }
          : undefined,
  ),
  (s) => (s.pool === 'core' ? { ...s, pool: 'model' } : undefined),
  (s) => (s.ends > 0 ? { ...s, ends: s.ends - 1 } : undefined),
  (s) => (s.disturbances > 0 ? { ...s, disturbances: 0 } : undefined),
  (s) => (s.requests > 0 ? { ...s, requests: 0 } : undefined),
  (s) => (s.controlEvery > 0 ? { ...s, controlEvery: 0 } : undefined),
  (s) => (s.breaker === undefined ? undefined : { ...s, breaker: undefined }),
  (s) => (s.retry === undefined ? undefined : { ...s, retry: undefined }),
  (s) => (s.fallback === 'none' ? undefined : { ...s, fallback: 'none' }),
  (s) => (s.timeoutMs > 0 ? { ...s, timeoutMs: 0 } : undefined),
  (s) => (s.chunkSize > 1 ? { ...s, chunkSize: 1 } : undefined),
  (s) => (s.shapes.length > 1 ? { ...s, shapes: [s.shapes[0] as StreamShape] } : undefined),
  ...(
    ['readMs', 'writeMs', 'prepareMs', 'saveMs', 'commitMs', 'acknowledgeMs', 'restartMs', 'maxDelayMs'] as const
  ).map(
    (key): Simpler =>
      (s) =>
        s[key] === 0 ? undefined : { ...s, [key]: 0 },
  ),
];

/** A smaller scenario that breaks the same check, as `shrinkScenario` does it for pools. At most `runs` runs. */
export function shrinkStream(
  scenario: StreamScenario,
  checker: string,
  { lies = {}, runs = 600 }: { lies?: StreamLies; runs?: number } = {},
): StreamScenario {
  let smallest = scenario;
  let left = runs;
  const keep = (candidate: StreamScenario | undefined): boolean => {
    if (candidate === undefined || left <= 0) return false;
    left--;
    if (runStream(candidate, { lies }).violation?.checker !== checker) return false;
    smallest = candidate;
    return true;
  };
  for (let changed = true; changed && left > 0; ) {
    changed = false;
    for (const kind of STREAM_FAULT_KINDS) {
      if (smallest.faults[kind] === 0) continue;
      if (keep({ ...smallest, faults: { ...smallest.faults, [kind]: 0 } })) changed = true;
    }
    for (const simpler of SIMPLER) if (keep(simpler(smallest))) changed = true;
  }
  return smallest;
}
