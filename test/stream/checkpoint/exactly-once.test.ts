import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { TroupeError } from '../../../src/kernel/errors.js';
import type { DeadLetter } from '../../../src/stream/envelope.js';
import { runIn, stream, type ToOptions } from '../../../src/stream/pipeline.js';
import type { Report } from '../../../src/stream/report.js';
import { ShufflingTarget } from '../hand-target.js';
import { CrashFile, CrashSource, CrashWorld, type SourceKind } from './crash-world.js';

/**
 * Increasing numbers -> filter -> flatMap -> an actor that fails and mixes -> filter -> verifying sinks, crashed and
 * resumed until it ends. Nothing lost, nothing doubled, nothing out of order, relative to the last durable checkpoint.
 */

const COUNT = 60;

type Order = 'ordered' | 'unordered' | 'keyed';

interface Plan {
  readonly kind: SourceKind;
  readonly order: Order;
  readonly seed: number;
  /** The operation at which each run crashes; the last one runs through. */
  readonly crashes: readonly number[];
}

interface Child {
  readonly n: number;
  readonly child: number;
}

const isWanted = (n: number): boolean => n % 7 !== 3;
const childrenOf = (n: number): Child[] =>
  Array.from({ length: n % 5 === 0 ? 0 : n % 4 === 0 ? 4 : 1 }, (_, child) => ({ n, child }));
const isPoison = ({ n }: Child): boolean => n % 11 === 1;
const isKept = ({ n, child }: Child): boolean => (n + child) % 6 !== 5;

function expected(numbers: readonly number[]): { results: Child[]; dead: Child[] } {
  const children = numbers.filter(isWanted).flatMap(childrenOf);
  return {
    results: children.filter((child) => !isPoison(child) && isKept(child)),
    dead: children.filter(isPoison),
  };
}

interface Ending {
  readonly world: CrashWorld;
  readonly source: CrashSource;
  readonly sink: CrashFile<Child>;
  readonly dead: CrashFile<DeadLetter>;
  readonly report: Report;
  /** Of a source that is neither: what was gone with a crash, because no checkpoint knew of it. */
  readonly gone: ReadonlySet<number>;
}

async function crashAndResume(plan: Plan): Promise<Ending> {
  const random = randomOf(plan.seed);
  const world = new CrashWorld(random);
  const source = new CrashSource(plan.kind, COUNT, world);
  const sink = new CrashFile<Child>('results', world, source);
  const dead = new CrashFile<DeadLetter>('dead', world, source);
  const gone = new Set<number>();
  for (const crashAt of [...plan.crashes, Infinity]) {
    world.restart(crashAt);
    const givenBefore = source.given;
    const report = await runOnce(plan, world, source, sink, dead);
    // A run that went on knows what the one before it had been given when the checkpoint was made.
    const known = sink.resumed?.given ?? 0;
    if (plan.kind === 'neither') for (let n = known; n < givenBefore; n += 1) gone.add(n);
    if (report !== undefined) return { world, source, sink, dead, report, gone };
    sink.crashed();
    dead.crashed();
  }
  throw new Error('the last run ends');
}

/** Undefined when it crashed. */
async function runOnce(
  { order, seed }: Plan,
  world: CrashWorld,
  source: CrashSource,
  sink: CrashFile<Child>,
  dead: CrashFile<DeadLetter>,
): Promise<Report | undefined> {
  const random = randomOf(seed + world.crashes);
  // Nothing of it may matter to a resumed run.
  const between = (low: number, high: number): number => low + Math.floor(random() * (high - low + 1));
  const pool = new ShufflingTarget<Child, Child>(between(1, 20), random, (child) =>
    isPoison(child) ? new TroupeError('PREDICT_FAILED', 'poison') : child,
  );
  const options: ToOptions = {
    checkpoint: { dir: '/c', intervalMs: between(1, 8), resume: true },
    deadLetters: dead.sink(),
  };
  const pipeline = stream(source, { chunkSize: between(1, 16) })
    .filter(isWanted)
    .flatMap(childrenOf)
    .infer(pool, {
      order,
      capacity: between(1, 30),
      ...(order === 'keyed' ? { key: ({ n }: Child) => String(n % 3) } : {}),
    })
    .filter(isKept);
  const running = runIn(world.world, pipeline, sink.sink(), options);
  running.catch(() => undefined);
  let isOver = false;
  const outcome = Promise.race([running, world.process.death.then(() => undefined)]).finally(() => (isOver = true));
  const { clock } = world;
  for (let turns = 0; !isOver; turns += 1) {
    if (turns > 5000)
      throw new Error(`a run hangs: ${world.disk.operations.length} operations, dead: ${world.process.isDead}`);
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (!isOver && !world.process.isDead) clock.advance(1);
  }
  return outcome;
}

/** Small and good enough; the same numbers for the same seed everywhere. */
function randomOf(seed: number): () => number {
  let state = (seed + 1) * 0x9e3779b9;
  return () => {
    state = Math.imul(state ^ (state >>> 15), 0x85ebca6b) + 0x6d2b79f5;
    return ((state ^ (state >>> 13)) >>> 0) / 2 ** 32;
  };
}

const wordsOf = ({ n, child }: Child): string => `${n}.${child}`;

function verify(t: ExecutionContext, plan: Plan, { sink, dead, report, gone, source }: Ending): void {
  const numbers = Array.from({ length: COUNT }, (_, n) => n);
  const { results, dead: failed } = expected(numbers);
  const found = sink.written.map(({ value }) => value);
  const letters = dead.written.map(({ value }) => value.input as Child);
  for (const [what, got, all] of [
    ['results', found, results],
    ['dead letters', letters, failed],
  ] as const) {
    const words = got.map(wordsOf);
    t.is(new Set(words).size, words.length, `${what}: none doubled in ${JSON.stringify(plan)}`);
    const known = new Set(all.map(wordsOf));
    t.deepEqual(
      words.filter((word) => !known.has(word)),
      [],
      `${what}: none of nowhere`,
    );
    const there = new Set(words);
    const lost = all.filter((child) => !there.has(wordsOf(child)) && !gone.has(child.n));
    t.deepEqual(lost, [], `${what}: none lost in ${JSON.stringify(plan)}`);
  }
  if (plan.kind !== 'acknowledging') {
    const inOrder = (children: readonly Child[]): Child[] =>
      [...children].sort((a, b) => a.n - b.n || a.child - b.child);
    if (plan.order === 'ordered') t.deepEqual(found, inOrder(found), 'in the order of the source');
    if (plan.order === 'keyed') {
      for (const key of [0, 1, 2]) {
        const ofKey = found.filter(({ n }) => n % 3 === key);
        t.deepEqual(ofKey, inOrder(ofKey), `in the order of the source, key ${key}`);
      }
    }
  }
  const ids = sink.written.map(({ id }) => id);
  t.is(new Set(ids).size, ids.length, 'no id twice');
  if (plan.kind === 'acknowledging') t.is(source.acknowledged.size, COUNT);
  t.is(report.delivery, plan.kind === 'neither' ? undefined : 'exactly-once');
}

for (const kind of ['replayable', 'acknowledging', 'neither'] as const) {
  test(`D8: a crash at every operation, ${kind} source: nothing lost, doubled or out of order`, async (t) => {
    t.timeout(120_000);
    const whole = await crashAndResume({ kind, order: 'ordered', seed: 1, crashes: [] });
    verify(t, { kind, order: 'ordered', seed: 1, crashes: [] }, whole);
    const { operations } = whole.world.process;
    t.true(operations > 100, `${operations} operations`);
    t.true((whole.report.checkpoints?.written ?? 0) > 3, 'checkpoints were made on the way');
    let crashes = 0;
    let resumed = 0;
    for (let crashAt = 1; crashAt <= operations; crashAt += 1) {
      const plan = {
        kind,
        order: (['ordered', 'unordered', 'keyed'] as const)[crashAt % 3] as Order,
        seed: 1,
        crashes: [crashAt],
      };
      const ending = await crashAndResume(plan);
      verify(t, plan, ending);
      crashes += ending.world.crashes;
      if (ending.report.checkpoints?.resumedFrom !== undefined) resumed += 1;
    }
    t.true(crashes > operations * 0.8, `${crashes} crashes`);
    t.true(resumed > crashes * 0.8, `${resumed} resumed runs`);
    t.log(`${crashes} crashes, ${resumed} resumed from a checkpoint`);
  });
}

test('D8: many crashes of one run, at any operations, any source and order', async (t) => {
  t.timeout(120_000);
  let crashes = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        kind: fc.constantFrom<SourceKind>('replayable', 'acknowledging', 'neither'),
        order: fc.constantFrom<Order>('ordered', 'unordered', 'keyed'),
        seed: fc.nat(1_000_000),
        crashes: fc.array(fc.integer({ min: 1, max: 250 }), { minLength: 1, maxLength: 6 }),
      }),
      async (plan) => {
        const ending = await crashAndResume(plan);
        verify(t, plan, ending);
        crashes += ending.world.crashes;
      },
    ),
    { numRuns: 60 },
  );
  t.true(crashes > 60, `${crashes} crashes`);
});
