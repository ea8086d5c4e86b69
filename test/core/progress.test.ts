import test from 'ava';
import fc from 'fast-check';
import { Intervals } from '../../src/core/intervals.js';
import { Positions } from '../../src/core/positions.js';
import { Progress, type ProgressState } from '../../src/core/progress.js';

test('intervals know their floor and gaps in whatever order numbers come', (t) => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat(60), { maxLength: 61 }), (numbers) => {
      const intervals = new Intervals();
      const model = new Set<number>();
      for (const n of numbers) {
        intervals.add(n);
        model.add(n);
        let floor = 0;
        while (model.has(floor)) floor += 1;
        t.is(intervals.floor, floor);
        t.is(intervals.count, model.size);
        const above: number[] = [];
        for (const [from, end] of intervals.aboveFloor()) for (let at = from; at < end; at += 1) above.push(at);
        t.deepEqual(
          above,
          [...model].filter((one) => one > floor).sort((a, b) => a - b),
        );
        const again = new Intervals(intervals.floor, intervals.aboveFloor());
        for (let at = floor; at < 62; at += 1) t.is(again.hadInitially(at), model.has(at));
      }
    }),
    { numRuns: 300 },
  );
});

test('a million records that settle around one stuck record are a single interval', (t) => {
  const intervals = new Intervals();
  for (let n = 1; n <= 1_000_000; n += 1) intervals.add(n);
  t.deepEqual(intervals.aboveFloor(), [[1, 1_000_001]]);
  t.is(intervals.floor, 0);
  intervals.add(0);
  t.is(intervals.floor, 1_000_001);
  t.deepEqual(intervals.aboveFloor(), []);
});

/** A record as the source gives it: it leaves as itself, or as its children. */
interface Tree {
  readonly children: readonly Tree[] | undefined;
}

const { tree } = fc.letrec<{ tree: Tree; children: readonly Tree[] | undefined }>((tie) => ({
  tree: fc.record({ children: tie('children') }),
  children: fc.option(fc.array(tie('tree'), { maxLength: 4 }), { nil: undefined, depthSize: 'small' }),
}));

type Event =
  | { readonly kind: 'settle'; readonly seq: number; readonly path: string }
  | { readonly kind: 'expand'; readonly seq: number; readonly path: string; readonly count: number };

function eventsOf(seq: number, path: string, node: Tree): Event[] {
  if (node.children === undefined) return [{ kind: 'settle', seq, path }];
  const below = node.children.flatMap((child, index) => eventsOf(seq, `${path}.${index}`, child));
  return [...below, { kind: 'expand', seq, path, count: node.children.length }];
}

/** The slow and obvious way: a record has settled when every event of its tree has come. */
class Model {
  readonly #left: Set<Event>[];

  constructor(trees: readonly Tree[]) {
    this.#left = trees.map((node, seq) => new Set(eventsOf(seq, '', node)));
  }

  take(event: Event): boolean {
    const left = this.#left[event.seq] as Set<Event>;
    for (const one of left) if (one.kind === event.kind && one.path === event.path) left.delete(one);
    return left.size === 0;
  }

  get settled(): boolean[] {
    return this.#left.map((left) => left.size === 0);
  }
}

const apply = (progress: Progress, event: Event): boolean =>
  event.kind === 'settle'
    ? progress.settle(event.seq, event.path)
    : progress.expand(event.seq, event.path, event.count);

const settledOf = (state: ProgressState, count: number): boolean[] =>
  Array.from(
    { length: count },
    (_, seq) => seq < state.lowest || state.settled.some(([from, end]) => from <= seq && seq < end),
  );

/** Events in any order in which children may settle before their parent knows how many it has. */
const history = fc.array(tree, { maxLength: 6 }).chain((trees) => {
  const events = trees.flatMap((node, seq) => eventsOf(seq, '', node));
  const inAnyOrder = fc.shuffledSubarray(events, { minLength: events.length });
  // After a restart they come in another order.
  return fc.record({ trees: fc.constant(trees), events: inAnyOrder, again: inAnyOrder, cut: fc.nat(events.length) });
});

test('a record settles exactly when it and all its children have, in whatever order', (t) => {
  fc.assert(
    fc.property(history, ({ trees, events }) => {
      const progress = new Progress();
      const model = new Model(trees);
      for (const event of events) {
        const before = model.settled[event.seq];
        const after = model.take(event);
        t.is(apply(progress, event), !before && after);
        t.deepEqual(settledOf(progress.snapshot(), trees.length), model.settled);
      }
      t.is(progress.lowest, trees.length);
    }),
    { numRuns: 500 },
  );
});

test('a run that goes on from a snapshot settles everything once, and nothing that had settled comes again', (t) => {
  fc.assert(
    fc.property(history, ({ trees, events, again, cut }) => {
      const first = new Progress();
      const delivered = new Set<string>();
      for (const event of events.slice(0, cut)) {
        apply(first, event);
        if (event.kind === 'settle') delivered.add(`${event.seq}${event.path}`);
      }
      const state = JSON.parse(JSON.stringify(first.snapshot())) as ProgressState;
      const second = new Progress(state);
      t.deepEqual(second.snapshot(), state);
      const before = settledOf(state, trees.length);
      // The source gives the unsettled records again, and flatMaps make all their children anew.
      for (const event of again) {
        if (before[event.seq] === true) continue;
        const id = `${event.seq}${event.path}`;
        if (event.kind === 'settle') t.is(second.hadSettled(event.seq, event.path), delivered.has(id), id);
        apply(second, event);
      }
      t.is(second.lowest, trees.length);
      t.deepEqual(second.snapshot().open, []);
    }),
    { numRuns: 500 },
  );
});

test('a child that was delivered before is known also when it comes after its parent has settled', (t) => {
  const before = new Progress();
  before.settle(0, '.1');
  const after = new Progress(before.snapshot());
  after.settle(0, '.0');
  t.true(after.expand(0, '', 2));
  t.true(after.hadSettled(0, '.1'));
  t.deepEqual(after.snapshot(), { lowest: 1, settled: [], open: [] });
});

test('a record that fails as a whole, some of its children delivered before, leaves nothing behind', (t) => {
  const before = new Progress();
  before.settle(0, '.1');
  before.settle(1, '.0.1');
  const after = new Progress(before.snapshot());
  t.true(after.settle(0, ''));
  t.false(after.settle(1, '.0'));
  t.true(after.expand(1, '', 1));
  t.deepEqual(after.snapshot(), { lowest: 2, settled: [], open: [] });
});

test('an expanded record without children settles at once', (t) => {
  const progress = new Progress();
  t.true(progress.expand(0, '', 0));
  t.is(progress.lowest, 1);
});

test('the place to go on from is at or before the lowest unsettled record, and nothing unsettled is lost', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ size: fc.integer({ min: 1, max: 3 }), settle: fc.array(fc.nat(500), { maxLength: 4 }) }), {
        maxLength: 400,
      }),
      (chunks) => {
        const progress = new Progress();
        const positions = new Positions();
        const unsettled: number[] = [];
        const places: { seq: number; position: number }[] = [];
        let seq = 0;
        chunks.forEach(({ size, settle }, position) => {
          places.push({ seq, position });
          positions.add({ seq, position }, () => progress.snapshot());
          for (let n = 0; n < size; n += 1) unsettled.push(seq++);
          for (const pick of settle) {
            const [one] = unsettled.splice(pick % Math.max(1, unsettled.length), 1);
            if (one !== undefined) progress.settle(one, '');
          }
          const { lowest } = progress;
          if (lowest === seq) return;
          t.deepEqual(
            positions.at(lowest),
            places.findLast((place) => place.seq <= lowest),
          );
        });
      },
    ),
    { numRuns: 100 },
  );
});

test('positions of chunks that have settled are forgotten while one old record is stuck', (t) => {
  const progress = new Progress();
  const positions = new Positions();
  let most = 0;
  for (let chunk = 0; chunk < 100_000; chunk += 1) {
    positions.add({ seq: chunk * 2, position: chunk }, () => progress.snapshot());
    if (chunk > 0) progress.settle(chunk * 2, '');
    progress.settle(chunk * 2 + 1, '');
    most = Math.max(most, positions.count);
  }
  t.true(most <= 64, `${most} positions`);
  t.deepEqual(positions.at(progress.lowest), { seq: 0, position: 0 });
});
