import test from 'ava';
import fc from 'fast-check';
import { TroupeError } from '../../src/kernel/errors.js';
import { seededRandom } from '../../src/kernel/random.js';
import { Control, type Envelope, Watermark } from '../../src/stream/envelope.js';
import { FlatMapStage, filterOperation, mapOperation, OperationStage } from '../../src/stream/operators.js';
import { parallelPlan, startParallel } from '../../src/stream/parallel.js';
import type { Tracker } from '../../src/stream/stage.js';
import { ShufflingTarget } from './hand-target.js';
import { contextOf, drain, inferStage, PushStage } from './stage-rig.js';

/** B5: in the operators of others, outputs lose their timestamps and watermarks overtake what is buffered. */

const isControl = ({ kind }: Envelope): boolean => kind === 'control';

/** The controls whose place is wrong: something older came after one, or something younger before it. */
function crossed(out: readonly Envelope[]): Envelope[] {
  return out.filter((control, at) => {
    if (!isControl(control)) return false;
    const older = out.slice(at).some(({ seq }) => seq < control.seq);
    return older || out.slice(0, at).some(({ seq }) => seq > control.seq);
  });
}

test('controls keep their place, and records their timestamp, metadata and ids, through every kind of step (B5)', async (t) => {
  let seen = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.boolean(), { minLength: 5, maxLength: 60 }),
      fc.constantFrom('ordered' as const, 'unordered' as const, 'keyed' as const),
      fc.integer({ min: 1, max: 10 }),
      fc.integer(),
      async (kinds, order, capacity, seed) => {
        const random = seededRandom(seed);
        const run = contextOf({ chunkSize: 7 });
        const target = new ShufflingTarget<number, number>(6, random, (n) =>
          n % 5 === 2 ? new TroupeError('PREDICT_FAILED', 'no') : n,
        );
        const source = new PushStage();
        source.push(...kinds.map((value, seq) => (value ? seq : new Watermark(seq)))).end();
        const map = new OperationStage(
          'map',
          mapOperation((n: number) => {
            if (n % 7 === 3) throw new Error('map');
            return n;
          }),
          source,
          run,
          0,
        );
        const filter = new OperationStage(
          'filter',
          filterOperation((n: number) => n % 4 !== 1),
          map,
          run,
          1,
        );
        const flat = new FlatMapStage('flatMap', (n: number) => Array.from({ length: n % 3 }, () => n), filter, run, 2);
        const key = (n: number): string => `k${n % 3}`;
        const options = order === 'keyed' ? { order, key, capacity } : { order, capacity };
        const out = await drain(inferStage(target, options, flat, run, 3), 3);
        seen += out.filter(isControl).length;
        if (crossed(out).length > 0)
          throw new Error(
            `crossed: ${crossed(out)
              .map(({ seq }) => seq)
              .join()}`,
          );
        for (const { seq, timestamp, metadata } of out) {
          if (timestamp !== 1000 + seq || (metadata as { line: number }).line !== seq) throw new Error('facts lost');
        }
        const expected = kinds.flatMap((isValue, seq) => {
          if (!isValue || seq % 7 === 3) return [`${seq}`];
          if (seq % 4 === 1) return [];
          return Array.from({ length: seq % 3 }, (_, child) => `${seq}.${child}`);
        });
        const byId = (a: string, b: string): number => Number.parseFloat(a) - Number.parseFloat(b);
        const ids = out.map(({ id }) => id);
        if (order !== 'ordered') ids.sort(byId);
        t.deepEqual(ids, order === 'ordered' ? expected : expected.sort(byId));
        if (order === 'keyed') {
          for (const rest of [0, 1, 2]) {
            const seqs = out.filter((one) => one.kind !== 'control' && one.value === one.seq && one.seq % 3 === rest);
            t.deepEqual(
              seqs.map(({ seq }) => seq),
              seqs.map(({ seq }) => seq).sort((a, b) => a - b),
            );
          }
        }
      },
    ),
    { numRuns: 300, seed: 5 },
  );
  t.true(seen > 500, `${seen} controls`);
});

test('controls and failed records pass mapParallel untouched and in their place', async (t) => {
  const run = contextOf();
  const source = new PushStage().push(1, new Watermark(9), 2, new Control('end of day', { day: 3 }), 3).end();
  source.pending[2]?.fail(new TroupeError('PARSE_FAILED', 'line 3'));
  const module = new URL('./parallel-work.js', import.meta.url);
  const stage = await startParallel(parallelPlan({ module, concurrency: 1 }), source, run, 0);
  t.teardown(() => stage.close());
  const out = await drain(stage);
  t.deepEqual(
    out.map(({ kind, value }) => (kind === 'control' ? (value as Control).name : `${kind} ${String(value)}`)),
    ['value 1', 'watermark', 'failed 2', 'end of day', 'value 9'],
  );
});

test('children of nested flatMaps are named by their places, and the tracker hears how many there were', async (t) => {
  const told: string[] = [];
  const tracker: Tracker = {
    filtered: ({ id }) => void told.push(`filtered ${id}`),
    expanded: ({ id }, count) => void told.push(`expanded ${id} ${count}`),
  };
  const run = contextOf({ tracker });
  const source = new PushStage().push(2, 0, -1).end();
  const give = (n: number): number[] => {
    if (n < 0) throw new Error('negative');
    return Array.from({ length: n }, (_, child) => child);
  };
  const outer = new FlatMapStage('flatMap', give, source, run, 0);
  const inner = new FlatMapStage('flatMap', (n: number) => [n, n], outer, run, 1);
  const kept = filterOperation((_: number, { id }) => id !== '0.1.0');
  const out = await drain(new OperationStage('filter', kept, inner, run, 2));
  t.deepEqual(
    out.map(({ id, kind }) => `${id} ${kind}`),
    ['0.0.0 value', '0.0.1 value', '0.1.1 value', '2.0 failed'],
  );
  t.deepEqual(told, [
    'expanded 0 2',
    'expanded 1 0',
    'expanded 2 1',
    'expanded 0.0 2',
    'expanded 0.1 2',
    'filtered 0.1.0',
  ]);
});

test('every function of a step is told what is known of the record, as its last argument', async (t) => {
  const run = contextOf();
  const calls: string[] = [];
  const note =
    <T>(name: string, value: T) =>
    (...given: any[]): T => {
      const { id, seq, timestamp, metadata } = given.at(-1);
      calls.push(`${name} ${id} ${seq} ${timestamp} ${metadata.line} (${given.length})`);
      return value;
    };
  const target = new ShufflingTarget<number, number>(
    8,
    () => 0,
    (n) => (n === 2 ? new TroupeError('PREDICT_FAILED', 'two') : n),
  );
  const source = new PushStage().push(0).end();
  const map = new OperationStage('map', mapOperation(note('map', 1)), source, run, 0);
  const filter = new OperationStage('filter', filterOperation(note('filter', true)), map, run, 1);
  const flat = new FlatMapStage('flatMap', note('flatMap', [1, 2]), filter, run, 2);
  const options = {
    order: 'keyed' as const,
    key: note('key', 'k'),
    bypass: note('bypass', undefined),
    input: (n: number, ...rest: unknown[]) => note('input', n)(n, ...rest),
    priority: note('priority', 0),
    output: note('output', 'out'),
    fallback: () => {
      throw new Error('none');
    },
    failed: note('failed', 'sub'),
  };
  const out = await drain(inferStage(target, options, flat, run, 3));
  t.deepEqual(
    out.map(({ value }) => value),
    ['out', 'sub'],
  );
  t.deepEqual(
    calls.filter((call) => !call.includes('0.1')),
    [
      'map 0 0 1000 0 (2)',
      'filter 0 0 1000 0 (2)',
      'flatMap 0 0 1000 0 (2)',
      'key 0.0 0 1000 0 (2)',
      'bypass 0.0 0 1000 0 (2)',
      'input 0.0 0 1000 0 (2)',
      'priority 0.0 0 1000 0 (2)',
      'output 0.0 0 1000 0 (4)',
    ],
  );
  t.deepEqual(
    calls.filter((call) => call.startsWith('failed')),
    ['failed 0.1 0 1000 0 (3)'],
  );
});

test('a key that throws or is no string fails its record, which then keeps its place among all', async (t) => {
  const run = contextOf();
  const target = new ShufflingTarget<number, number>(
    8,
    () => 0.9,
    (n) => n,
  );
  const key = (n: number): string => {
    if (n === 2) throw new Error('no user');
    return n === 4 ? (7 as never) : `k${n}`;
  };
  const source = new PushStage().push(0, 1, 2, 3, 4, 5).end();
  const out = await drain(inferStage(target, { order: 'keyed', key }, source, run));
  t.deepEqual(
    out.filter(({ kind }) => kind === 'failed').map(({ error }) => error?.message),
    [
      'key of infer("hand") for record 2 threw: no user',
      'key of infer("hand") for record 4 threw: expected a string, got number',
    ],
  );
  t.deepEqual([out[2]?.seq, out[4]?.seq], [2, 4]);
});
