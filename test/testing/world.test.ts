import test from 'ava';
import { Scheduler, swarmScenario } from '../../src/testing/index.js';
import { EVENT, World } from '../../src/testing/world.js';

/** Runs what `plan` schedules and tells, in order, what was handled and when a turn ended. */
function trace(plan: (world: World) => void, onEvent: (world: World) => void = () => {}): string[] {
  const world = new World(swarmScenario(1), new Scheduler(0));
  const seen: string[] = [];
  plan(world);
  const actor = {
    handle(kind: number): void {
      seen.push(`${kind === EVENT.deliver ? 'deliver' : 'arrive'} at ${world.now}`);
      onEvent(world);
    },
    endTurn(): void {
      seen.push(`turn ends at ${world.now}`);
    },
  };
  world.run(actor, 100, 100);
  return seen;
}

test('a stall of the host ends the turn it strikes in before it puts anything off', (t) => {
  const seen = trace(
    (world) => {
      world.at(5, EVENT.arrive, 0, undefined);
      world.at(5, EVENT.arrive, 1, undefined);
    },
    (world) => {
      world.stalledUntil = 20;
    },
  );
  t.deepEqual(seen, ['arrive at 5', 'turn ends at 5', 'arrive at 20', 'turn ends at 20']);
});

test('what happens in a replica alone gives the host no turn, stalled or not', (t) => {
  const seen = trace(
    (world) => {
      world.at(5, EVENT.arrive, 0, undefined);
      world.at(6, EVENT.deliver, 0, undefined);
      world.at(7, EVENT.arrive, 0, undefined);
    },
    (world) => {
      if (world.now === 6) world.stalledUntil = 9;
    },
  );
  t.deepEqual(seen, ['arrive at 5', 'turn ends at 5', 'deliver at 6', 'arrive at 9', 'turn ends at 9']);
});
