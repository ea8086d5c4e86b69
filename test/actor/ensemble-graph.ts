import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { type Columns, defineActor, type Signature, type System } from 'troupe';
import { makeTree } from '../models/model-tree.js';

/** Tensors of two numbers each. */
export const pairs = (...names: string[]): Signature['inputs'] =>
  names.map((name) => ({ name, dtype: 'float32', shape: [2] }));

export const pair = (a: number, b: number): Float32Array => Float32Array.of(a, b);

/** Gives one tensor `y`, made value by value of its inputs; NaN is thrown. `batches` is told the size of each batch. */
export function numbers(inputs: readonly string[], make: (...values: number[]) => number, batches: number[] = []) {
  return defineActor({
    signature: { inputs: pairs(...inputs), outputs: pairs('y') },
    predict: ({ count, columns }: Columns): Columns => {
      batches.push(count);
      const data = new Float32Array(2 * count);
      const given = inputs.map((name) => columns[name]?.data as Float32Array);
      data.forEach((_, at) => {
        const value = make(...given.map((values) => values[at] as number));
        if (Number.isNaN(value)) throw new Error('not a number');
        data[at] = value;
      });
      return { count, columns: { y: { dtype: 'float32', shape: [2], data } } };
    },
  });
}

export interface StepText {
  readonly model: string;
  readonly version?: number;
  readonly takes: Readonly<Record<string, string>>;
  readonly gives: Readonly<Record<string, string>>;
}

/** A config.pbtxt whose tensors are pairs of float32. */
export function ensembleText(
  inputs: readonly string[],
  outputs: readonly string[],
  steps: readonly StepText[],
  more = '',
): string {
  const io = (side: string, names: readonly string[]): string =>
    names.map((name) => `${side} { name: ${JSON.stringify(name)} data_type: TYPE_FP32 dims: [ 2 ] }\n`).join('');
  const map = (field: string, names: Readonly<Record<string, string>>): string =>
    Object.entries(names)
      .map(([key, value]) => `    ${field} { key: ${JSON.stringify(key)} value: ${JSON.stringify(value)} }\n`)
      .join('');
  const body = steps.map(({ model, version, takes, gives }) => {
    const pinned = version === undefined ? '' : ` model_version: ${version}`;
    return `  step {\n    model_name: "${model}"${pinned}\n${map('input_map', takes)}${map('output_map', gives)}  }\n`;
  });
  return `platform: "ensemble"\nmax_batch_size: 32\n${io('input', inputs)}${io('output', outputs)}ensemble_scheduling {\n${body.join('')}${more}}\n`;
}

/** A model directory `e` with this graph, in version 1. */
export function ensembleDir(t: ExecutionContext, text: string): string {
  return path.join(makeTree(t, { 'e/1/': '', 'e/config.pbtxt': text }), 'e');
}

/** `in` doubled, then plus one. */
export const CHAIN: readonly StepText[] = [
  { model: 'double', takes: { x: 'in' }, gives: { y: 'doubled' } },
  { model: 'inc', takes: { x: 'doubled' }, gives: { y: 'out' } },
];

/** The pools of CHAIN; `batches` is told the sizes of the first. */
export async function chain(system: System, batches: number[] = []): Promise<void> {
  await system.spawn('double', { actor: numbers(['x'], (x) => 2 * x, batches) });
  await system.spawn('inc', { actor: numbers(['x'], (x) => x + 1) });
}

export const chainDir = (t: ExecutionContext): string => ensembleDir(t, ensembleText(['in'], ['out'], CHAIN));
