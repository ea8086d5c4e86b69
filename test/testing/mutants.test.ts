import test from 'ava';
import { type Mutant, MutantRig } from './mutant-rig.js';

// The tester is tested: deliberate defects are put into a copy of the compiled cores, one at a time, and the swarm must
// find each of them within a bounded number of seeds. The production code carries no switches for this.

const SEEDS = 1500;

const MUTANTS: readonly Mutant[] = [
  {
    name: 'replies of a dead incarnation count',
    file: 'core/ledger.js',
    from: 'return flights.splice(0);',
    to: 'return flights.slice();',
  },
  {
    name: 'a record whose caller has gone is settled again by its late result',
    file: 'core/replies.js',
    from: "if (request.place === 'settled') {\n                this.#counts.lateResults++;",
    to: 'if (false) {\n                this.#counts.lateResults++;',
  },
  {
    name: 'a settled record keeps its deadline',
    file: 'core/settlement.js',
    from: 'this.deadlines.remove(request);',
    to: '',
  },
  {
    name: 'expired work runs',
    file: 'core/pool-core.js',
    from: 'dispatch(now) {\n        this.#settlement.expire(now);',
    to: 'dispatch(now) {',
  },
  {
    name: 'a record that was sent ends when it would have waited too long',
    file: 'core/feeder.js',
    from: 'else if (request.dueAt < request.deadlineAt)',
    to: 'else if (false)',
  },
  {
    name: 'drained is told while retries are held',
    file: 'core/pool-core.js',
    from: "this.state !== 'draining' || this.heldCount > 0",
    to: "this.state !== 'draining' || this.mailbox.held + this.ledger.size > 0",
  },
  {
    name: 'a suspect gets company',
    file: 'core/feeder.js',
    from: "cell.solo = formed.trigger === 'quarantine';",
    to: 'cell.solo = false;',
  },
  {
    name: 'a split loses the middle record',
    file: 'core/salvage.js',
    from: 'left.slice(half)]',
    to: 'left.slice(half + 1)]',
  },
  {
    name: 'a split sends the first half twice',
    file: 'core/salvage.js',
    from: '[left.slice(0, half), left.slice(half)]',
    to: '[left.slice(0, half), left.slice(0, half)]',
  },
  {
    name: 'a record may die once more than its attempts allow',
    file: 'core/salvage.js',
    from: 'request.deathCount >= this.#limits.attempts',
    to: 'request.deathCount > this.#limits.attempts',
  },
  {
    name: 'versions mix while a roll-out is under way',
    file: 'core/succession.js',
    from: 'return cell.generation === this.#serving || cell.generation === this.#onShare;',
    to: 'return true;',
  },
  {
    name: 'a canary takes all that it has room for',
    file: 'core/feeder.js',
    from: 'SIDE.new | (split.newTakesAny ? SIDE.any : 0) : SIDE.old | SIDE.any',
    to: 'SIDE.new | SIDE.any : SIDE.old | SIDE.any',
  },
  {
    name: 'keys go to whichever version has room',
    file: 'core/traffic-split.js',
    from: 'return hash(key) < this.share * 2 ** 32 ? SIDE.new : SIDE.old;',
    to: 'return SIDE.any;',
  },
  {
    name: 'what waits when a canary begins is not sorted by its key',
    file: 'core/mailbox.js',
    from: 'for (const request of moved) {',
    to: 'for (const request of []) {',
  },
  {
    name: 'a version that is rolled back goes on serving',
    file: 'core/succession.js',
    from: 'if (this.#serving !== fromGeneration)',
    to: 'if (false)',
  },
  {
    name: 'a bake never ends',
    file: 'core/trial-judge.js',
    from: 'if (rollout.bakedAt > now)',
    to: 'if (true)',
  },
  {
    name: 'a place is taken before it is free',
    file: 'core/slots.js',
    from: "if (waitsFor === 'nothing')",
    to: 'if (true)',
  },
  {
    name: 'the places that a version took are not given back',
    file: 'core/succession.js',
    from: 'if (rollout.takesPlaces)\n            this.#giveBack(',
    to: 'if (false)\n            this.#giveBack(',
  },
  {
    name: 'a shadow is shown more than its share',
    file: 'core/shadow.js',
    from: 'this.#owed -= size;',
    to: '',
  },
  {
    name: 'a version that is kept is not let go when its time is over',
    file: 'core/fleet.js',
    from: 'this.#succession.keptUntil <= now)',
    to: 'false)',
  },
  {
    name: 'a version is taken back and its replicas are kept',
    file: 'core/succession.js',
    from: 'else if (hadWork && cell.isProved)\n                this.#slots.drain(cell);',
    to: 'else if (hadWork && cell.isProved)\n                continue;',
  },
  {
    name: 'the mailbox holds one more than its capacity',
    file: 'core/mailbox.js',
    from: 'this.held < this.limits.capacity && this.heldBytes + request.bytes <= this.limits.capacityBytes;',
    to: 'this.held <= this.limits.capacity && this.heldBytes + request.bytes <= this.limits.capacityBytes;',
  },
  {
    name: 'a removed record leaves its bytes behind',
    file: 'core/mailbox.js',
    from: 'this.leftCount++;\n        this.heldBytes -= request.bytes;',
    to: 'this.leftCount++;',
  },
  {
    name: 'removing the last of a queue loses those before it',
    file: 'core/mailbox.js',
    from: 'queue.tail = request.prev;',
    to: 'queue.tail = queue.head = undefined;',
  },
  {
    name: 'one restart too few is forgiven',
    file: 'core/restart-window.js',
    from: 'this.#deathsAt.length > this.limits.max',
    to: 'this.#deathsAt.length >= this.limits.max',
  },
  {
    name: 'a finished batch does not end the backoff',
    file: 'core/restart-window.js',
    from: 'progressed() {\n        this.#streak = 0;',
    to: 'progressed() {',
  },
  {
    name: 'a held batch is not waited for',
    file: 'core/batcher.js',
    from: 'return Math.min(oldestAt + maxDelayMs,',
    to: 'return Math.min(Infinity,',
  },
  {
    name: 'a replica that changes its state is not surveyed again',
    file: 'core/slots.js',
    from: 'this.hasChanged = true;\n        cell.state = transition(',
    to: 'cell.state = transition(',
  },
  {
    name: 'a replica that has answered is not known to be idle',
    file: 'core/feeder.js',
    from: 'if (length === 0)\n            this.#idleCount++;',
    to: '',
  },
  {
    name: 'a replica that was given a batch is looked for as if it had none',
    file: 'core/feeder.js',
    from: 'if (flights.length === maxInFlight)\n            this.#roomCount--;',
    to: 'this.#roomCount = 0;',
  },
  {
    name: 'a failed roll-out stops every replica',
    file: 'core/succession.js',
    from: 'if (cell.generation !== generation)\n                continue;',
    to: '',
  },
  {
    name: 'a pool at 0 sleeps on while records wait',
    file: 'core/scaling.js',
    from: 'if (mailbox.held > 0 || !retries.isEmpty)',
    to: 'if (false)',
  },
  {
    name: 'a pool shrinks as soon as fewer replicas would do',
    file: 'core/autoscaler.js',
    from: 'if (now - this.#calmSince < downAfterMs)',
    to: 'if (false)',
  },
  {
    name: 'a pool grows while a replica of it is down',
    file: 'core/autoscaler.js',
    from: 'load.ready !== replicas',
    to: 'false',
  },
  {
    name: 'a pool scales amid a roll-out',
    file: 'core/scaling.js',
    from: 'if (fleet.rollout !== undefined || fleet.isHeld || !fleet.isSettled)',
    to: 'if (fleet.isHeld)',
  },
  {
    name: 'a pool that goes to 0 is taken for one that has failed',
    file: 'core/succession.js',
    from: 'if (this.#slots.replicas === 0)\n                return;',
    to: '',
  },
];

const rig = new MutantRig();
test.after.always(() => rig.dispose());

for (const mutant of MUTANTS) {
  // One after the other: each has processes of its own.
  test.serial(`the swarm catches the mutant: ${mutant.name}`, async (t) => {
    t.timeout(120_000);
    const found = await rig.simulate(t, mutant, ['--seeds', String(SEEDS)]);
    t.is(found.violations.length, 1, `${SEEDS} seeds found nothing`);
    const [violation] = found.violations;
    t.log(`caught by ${violation?.checker} at seed ${violation?.seed}: ${violation?.what}`);
  });
}

test.serial('the same seeds find nothing in the cores as they are', async (t) => {
  t.timeout(120_000);
  const found = await rig.simulate(t, undefined, ['--seeds', String(SEEDS)]);
  t.deepEqual(found.violations, []);
  t.is(found.seeds, SEEDS);
});
