import test from 'ava';
import { checkDefinition, loadDefinition } from '../../src/entry/load-definition.js';

const predict = (batch: unknown[]): unknown[] => batch;

test('a definition with predict is accepted as it is', async (t) => {
  const definition = { predict };
  t.is(await loadDefinition(definition), definition);
});

test('what is wrong with a definition is named', (t) => {
  const cases: readonly (readonly [value: unknown, message: RegExp])[] = [
    [undefined, /is missing/],
    [predict, /is a function, not a definition/],
    [{}, /has no function predict \(undefined\)/],
    [{ predict, load: 1 }, /has a load that is no function \(number\)/],
    [{ predict, methods: null }, /has methods that are no object \(null\)/],
    [{ predict, methods: { a: 1 } }, /has a method "a" that is no function/],
    [{ predict, signature: { inputs: [] } }, /has no inputs/],
    [
      { predict, signature: { inputs: [{ name: 'x', dtype: 'f32', shape: [] }], outputs: [] } },
      /gives "x" the dtype f32/,
    ],
    [{ predict, signature: { inputs: [{ name: 'x', dtype: 'int8', shape: [-2] }], outputs: [] } }, /gives "x" a shape/],
  ];
  for (const [value, message] of cases)
    t.throws(() => checkDefinition(value, 'it'), { code: 'ACTOR_INVALID', message });
});

test('a module that throws while it is imported is a failed load with its cause', async (t) => {
  const actor = 'data:text/javascript,throw new RangeError("at the top")';
  const error = await t.throwsAsync(loadDefinition(actor), { code: 'ACTOR_LOAD_FAILED' });
  t.like(error?.cause, { name: 'RangeError', message: 'at the top' });
  await t.throwsAsync(loadDefinition('data:text/javascript,export default {'), { code: 'ACTOR_INVALID' });
  await t.throwsAsync(loadDefinition('file:///nowhere/actor.js'), { code: 'ACTOR_INVALID', message: /nowhere/ });
});
