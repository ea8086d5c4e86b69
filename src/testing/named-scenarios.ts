import { noFaults } from './faults.js';
import { ROW_SCENARIOS } from './rows.js';
import { type Scenario, swarmScenario } from './scenario.js';
import type { Lies } from './sim-pool.js';

export interface NamedScenario {
  readonly scenario: (seed: number) => Scenario;
  readonly lies: Lies;
}

/** A healthy pool under the swarm's load: whatever is found there, the lie did it. */
function healthy(seed: number): Scenario {
  const swarm = swarmScenario(seed);
  return {
    ...swarm,
    transfer: true,
    limits: {
      ...swarm.limits,
      mailbox: { ...swarm.limits.mailbox, maxWaitMs: Infinity },
      attempts: 5,
      batching: { ...swarm.limits.batching, maxSize: 8, maxWeight: Infinity },
    },
    faults: noFaults(),
  };
}

export const NAMED_SCENARIOS: Readonly<Record<string, NamedScenario>> = {
  ...Object.fromEntries(Object.entries(ROW_SCENARIOS).map(([id, scenario]) => [id, { scenario, lies: {} }])),
  swarm: { scenario: swarmScenario, lies: {} },
  healthy: { scenario: healthy, lies: {} },
  // Must fail: the tester itself is tested with it.
  canary: { scenario: healthy, lies: { mixesUp: true } },
  // Must fail too: a link that transfers what the host still needs loses inputs on the second send (Node <= 20).
  'careless-transfer': {
    scenario: (seed) => ({ ...healthy(seed), repeatable: true, faults: { ...noFaults(), throw: 0.3 } }),
    lies: { carelessTransfer: true },
  },
};
