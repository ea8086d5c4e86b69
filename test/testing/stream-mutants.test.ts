import test from 'ava';
import { type Mutant, MutantRig } from './mutant-rig.js';

// As mutants.test.ts, for what makes a stream exact: the operator, emission, retries, budget, breaker, progress and
// tracking by the swarm of streams; the coordinator, delivery, the store and the edge of infer by their own tests.

const SEEDS = 3000;

const MUTANTS: readonly Mutant[] = [
  {
    name: 'records share one backoff',
    file: 'core/retry-policy.js',
    from: 'waitMs(backoff, attemptsSoFar, random)',
    to: 'waitMs(backoff, (this.tries = (this.tries ?? 0) + 1), random)',
  },
  {
    name: 'what the other side asks to wait is not waited',
    file: 'core/retry-policy.js',
    from: 'Math.max(waitMs(backoff, attemptsSoFar, random), leastMs(error))',
    to: 'waitMs(backoff, attemptsSoFar, random)',
  },
  {
    name: 'one try more than attempts',
    file: 'core/retry-policy.js',
    from: 'attemptsSoFar >= backoff.attempts',
    to: 'attemptsSoFar > backoff.attempts',
  },
  {
    name: 'a retry is not charged to the budget',
    file: 'core/retry-budget.js',
    from: 'this.#tokens--;',
    to: ';',
  },
  {
    name: 'a failed record leaves before its retry has ended',
    file: 'core/operator.js',
    from: "slot.state = 'backoff';",
    to: "slot.state = 'backoff';\n                slot.isSettled = true;\n                this.#emission.settled(slot);",
  },
  {
    name: 'a retry has no timer',
    file: 'core/operator.js',
    from: 'this.#wakes.add(slot);\n                return;',
    to: 'return;',
  },
  {
    name: 'a record that waits to be tried again has no deadline',
    file: 'core/operator.js',
    from: 'if (slot.hasStarted) {\n            slot.dueAt',
    to: 'if (false) {\n            slot.dueAt',
  },
  {
    name: 'an expired record is sent',
    file: 'core/operator.js',
    from: 'if (slot.deadlineAt <= now) {',
    to: 'if (false) {',
  },
  {
    name: 'tries of an earlier run are forgotten',
    file: 'core/operator.js',
    from: 'slot.attempts = saved.attempts;',
    to: ';',
  },
  {
    name: 'the lease of a failed try is not returned',
    file: 'core/operator.js',
    from: 'if (slot.lease !== undefined)\n            this.#release(slot, outcome, now);',
    to: 'if (slot.lease !== undefined && outcome.ok)\n            this.#release(slot, outcome, now);',
  },
  {
    name: 'one probe more than allowed',
    file: 'core/breaker.js',
    from: 'this.#probes.size < this.limits.probes',
    to: 'this.#probes.size <= this.limits.probes',
  },
  {
    name: 'an open breaker lets a probe through at once',
    file: 'core/breaker.js',
    from: 'now >= this.#retryAt',
    to: 'true',
  },
  {
    name: 'a breaker opens after one failure',
    file: 'core/breaker.js',
    from: 'calls >= this.limits.minCalls && ',
    to: '',
  },
  {
    name: 'a fence does not wait for those before it',
    file: 'core/emission.js',
    from: 'if (fence === undefined || head.openCount > 0)',
    to: 'if (fence === undefined)',
  },
  {
    name: 'records of one key do not wait for each other',
    file: 'core/emission.js',
    from: 'segment.chains.get(key);',
    to: 'undefined;',
  },
  {
    name: 'the last record of a settled interval is forgotten',
    file: 'core/intervals.js',
    from: 'this.#initial[middle][1] <= n',
    to: 'this.#initial[middle][1] <= n + 1',
  },
  {
    name: 'a child counts twice',
    file: 'core/progress.js',
    from: 'settled.count < childCount',
    to: 'settled.count * 2 < childCount',
  },
  {
    name: 'children that were delivered before come again',
    file: 'core/progress.js',
    from: 'family = family.open.get(place);\n            if (family === undefined)\n                return false;',
    to: 'return false;',
  },
  {
    name: 'a run goes on one record too far',
    file: 'core/positions.js',
    from: 'place.seq <= lowest',
    to: 'place.seq <= lowest + 1',
  },
  {
    name: 'a record that has left stays in the checkpoint',
    file: 'stream/tracking.js',
    from: 'this.#items.delete(seq);',
    to: ';',
  },
  {
    name: 'a record is taken for settled while it is under way',
    file: 'stream/tracking.js',
    from: 'this.#tokens.set(key, open);',
    to: 'this.#settled.push({ token });\n        this.#tokens.set(key, open);',
  },
];

/** Named tests that must fail with the defect, and do not without. */
const BY_TESTS: readonly (Mutant & { readonly test: string; readonly only?: string })[] = [
  {
    name: 'sinks commit before the checkpoint is durable',
    file: 'stream/checkpoint/coordinator.js',
    from: 'this.#work = this.#save(storage.store, data, at, round);',
    to: 'for (const [index, sink] of sinks.entries())\n if (states[index] !== undefined)\n await sink.commit?.(states[index]);\nthis.#work = this.#save(storage.store, data, at, round);',
    test: 'dist/test/stream/checkpoint/durable-first.test.js',
  },
  {
    name: 'the source is acknowledged before the checkpoint is durable',
    file: 'stream/checkpoint/coordinator.js',
    from: 'this.#work = this.#save(storage.store, data, at, round);',
    to: 'await this.#options.reader.acknowledge?.(round.outcomes);\nthis.#work = this.#save(storage.store, data, at, round);',
    test: 'dist/test/stream/checkpoint/durable-first.test.js',
  },
  {
    name: 'a run that ends while it reads again forgets what had settled',
    file: 'stream/tracking.js',
    from: 'next: Math.max(this.#next, this.#knownUpTo),',
    to: 'next: this.#next,',
    test: 'dist/test/stream/tracking.test.js',
  },
  {
    name: 'children that a checkpoint knows are delivered again',
    file: 'stream/delivery.js',
    from: "path === '' || !tracking.hadSettled(seq, path)",
    to: 'true',
    test: 'dist/test/stream/checkpoint/exactly-once.test.js',
  },
  {
    name: 'a checkpoint is not synced',
    file: 'stream/checkpoint/store.js',
    from: 'await file.sync();',
    to: ';',
    test: 'dist/test/stream/checkpoint/store.test.js',
  },
  {
    name: 'a partial batch is not flushed',
    file: 'stream/infer.js',
    from: '#flush() {\n        if (!this.#isUnflushed)',
    to: '#flush() {\n        if (true)',
    test: 'dist/test/stream/infer-flush.test.js',
    // The others would wait for ever, each for itself.
    only: 'a pool without room is flushed*',
  },
];

const rig = new MutantRig();
test.after.always(() => rig.dispose());

for (const mutant of MUTANTS) {
  test.serial(`the swarm of streams catches the mutant: ${mutant.name}`, async (t) => {
    t.timeout(180_000);
    const found = await rig.simulate(t, mutant, ['--streams', '--seeds', String(SEEDS)]);
    const [violation] = found.violations;
    t.true(violation !== undefined && violation.seed > 0, `${SEEDS} seeds found nothing`);
    t.log(`caught by ${violation?.checker} at seed ${violation?.seed}: ${violation?.what}`);
  });
}

test.serial('the same seeds of streams find nothing in the code as it is', async (t) => {
  t.timeout(180_000);
  const found = await rig.simulate(t, undefined, ['--streams', '--seeds', String(SEEDS)]);
  t.deepEqual(found.violations, []);
  t.is(found.seeds, SEEDS);
});

for (const mutant of BY_TESTS) {
  test.serial(`the tests catch the mutant: ${mutant.name}`, async (t) => {
    t.timeout(180_000);
    const failed = await rig.test(t, mutant, mutant.test, mutant.only);
    t.true(failed.length > 0, `${mutant.test} found nothing`);
    t.log(`caught by: ${failed[0]}`);
  });
}

for (const file of new Set(BY_TESTS.map(({ test: one }) => one))) {
  test.serial(`${file} finds nothing in the code as it is`, async (t) => {
    t.timeout(180_000);
    t.deepEqual(await rig.test(t, undefined, file), []);
  });
}
