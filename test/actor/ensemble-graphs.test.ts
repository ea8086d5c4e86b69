import test from 'ava';
import fc from 'fast-check';
import { createSystem, silentLog, type TensorRecord } from 'troupe';
import { ensembleDir, ensembleText, numbers, pair, type StepText } from './ensemble-graph.js';

/** A step: what it does to the tensors that it takes, chosen from those before it. */
interface Node {
  readonly takes: readonly number[];
  readonly plus: number;
}

const INPUTS = ['in0', 'in1'];
/** Whole numbers below 1000 stay exact in float32. */
const make = (plus: number, values: readonly number[]): number =>
  values.reduce((sum, value, at) => sum + (at + 1) * value, plus) % 997;

const nodes = fc.array(fc.record({ takes: fc.array(fc.nat(), { minLength: 1, maxLength: 3 }), plus: fc.nat(2) }), {
  minLength: 1,
  maxLength: 7,
});

/** Names of the tensors that each node takes: of the inputs, and of the nodes before it. */
function namesOf(graph: readonly Node[]): readonly (readonly string[])[] {
  return graph.map(({ takes }, index) => {
    const before = [...INPUTS, ...graph.slice(0, index).map((_, at) => `t${at}`)];
    return takes.map((choice) => before[choice % before.length] as string);
  });
}

test('any graph of steps answers as its nodes do one after another, whatever their order in the file', async (t) => {
  await using system = createSystem({ log: silentLog });
  for (const arity of [1, 2, 3])
    for (const plus of [0, 1, 2]) {
      const inputs = ['a', 'b', 'c'].slice(0, arity);
      await system.spawn(`node-${arity}-${plus}`, { actor: numbers(inputs, (...values) => make(plus, values)) });
    }
  let count = 0;
  await fc.assert(
    fc.asyncProperty(
      nodes,
      fc.infiniteStream(fc.nat()),
      fc.array(fc.nat(996), { maxLength: 8 }),
      async (graph, order, values) => {
        const taken = namesOf(graph);
        const used = new Set(taken.flat());
        const inputs = INPUTS.filter((name) => used.has(name));
        const outputs = graph.map((_, at) => `t${at}`).filter((name) => !used.has(name));
        const steps = graph.map(({ plus }, at): StepText => {
          const names = taken[at] ?? [];
          return {
            model: `node-${names.length}-${plus}`,
            takes: Object.fromEntries(names.map((name, place) => ['abc'[place] as string, name])),
            gives: { y: `t${at}` },
          };
        });
        const shuffled = steps
          .map((step) => ({ step, rank: order.next().value as number }))
          .sort((one, other) => one.rank - other.rank)
          .map(({ step }) => step);
        const model = ensembleDir(t, ensembleText(inputs, outputs, shuffled));
        const pool = await system.spawn<TensorRecord, TensorRecord>(`e${++count}`, { actor: 'ensemble', model });
        const records = values.map((value) =>
          Object.fromEntries(inputs.map((name, at) => [name, pair(value, at + 1)])),
        );
        const expected = records.map((record) => {
          const held = new Map<string, readonly number[]>(
            Object.entries(record).map(([name, data]) => [name, [...data]]),
          );
          graph.forEach(({ plus }, at) => {
            const given = (taken[at] ?? []).map((name) => held.get(name) as readonly number[]);
            const result = [0, 1].map((place) =>
              make(
                plus,
                given.map((pairOf) => pairOf[place] as number),
              ),
            );
            held.set(`t${at}`, result);
          });
          return Object.fromEntries(outputs.map((name) => [name, Float32Array.from(held.get(name) ?? [])]));
        });
        const answers = await pool.askMany(records);
        await pool.stop();
        t.deepEqual(
          answers.map((answer) => (answer.ok ? answer.value : answer.error.message)),
          expected,
        );
      },
    ),
    { numRuns: 40 },
  );
});
