import test from 'ava';
import { POOL_LIFECYCLE, REPLICA_LIFECYCLE } from '../../src/core/lifecycles.js';
import { ROLLOUT_LIFECYCLE } from '../../src/core/rollout.js';
import { SUPERVISOR_LIFECYCLE } from '../../src/core/supervisor.js';
import { transition } from '../../src/kernel/lifecycle.js';

type Table = Readonly<Record<string, Readonly<Record<string, string>>>>;
const TABLES: readonly (readonly [string, Table, string])[] = [
  ['replica', REPLICA_LIFECYCLE as Table, 'idle'],
  ['pool', POOL_LIFECYCLE as Table, 'starting'],
  ['rollout', ROLLOUT_LIFECYCLE as Table, 'loading'],
  ['supervisor', SUPERVISOR_LIFECYCLE as Table, 'running'],
];

for (const [name, table, first] of TABLES) {
  test(`every state of a ${name} can be reached from ${first}, and every event leads to a state of the table`, (t) => {
    const reached = new Set([first]);
    for (const state of reached) {
      for (const next of Object.values(table[state] ?? {})) {
        t.true(next in table, next);
        reached.add(next);
      }
    }
    t.deepEqual([...reached].sort(), Object.keys(table).sort());
  });

  test(`a ${name} can be stopped in every state in which it is not about to end anyway`, (t) => {
    for (const [state, events] of Object.entries(table)) t.true('stop' in events, state);
  });
}

test('a state is stopped for good: stop leads nowhere else from there', (t) => {
  for (const [, table] of TABLES) for (const next of Object.values(table.stopped ?? {})) t.is(next, 'stopped');
});

test('an event that a state does not list is a defect and says where', (t) => {
  t.throws(() => transition('pool', POOL_LIFECYCLE, 'stopped', 'up'), {
    code: 'INTERNAL',
    message: 'Invariant broken: lifecycle "pool": event "up" in state "stopped"',
  });
});
