import type { DType, Signature, TensorSpec } from '../wire/tensor.js';
import { dtypeOf, tensorText } from './declared-signature.js';
import { type EnsembleStep, type Refuse, stepsOf } from './ensemble.js';
import type { ModelConfig } from './model-config-fields.js';

/**
 * The tensors of an ensemble against those of the models of its steps: names, types and shapes. Two shapes fit where their
 * dimensions are equal or one of them varies; or where both are known and hold as many values, for records carry values and
 * no shape.
 */

/** What the model of a step takes and gives; undefined where it is not known yet. */
export type SignatureOf = (step: EnsembleStep) => Signature | undefined;

/** The signature of the ensemble; `refuse` is told of the first thing that does not fit. */
export function ensembleSignature(config: ModelConfig, signatureOf: SignatureOf, refuse: Refuse): Signature {
  const steps = stepsOf(config);
  const raw = config.ensemble_scheduling?.step ?? [];
  const users = usersOf(steps, signatureOf);
  const inputs = declaredSpecs(config, 'input', users);
  /** Of each tensor what is given, and by whom; without a spec where that is not known. */
  const given = new Map<string, Given>(inputs.map((spec) => [spec.name, { spec, by: 'the ensemble takes it as' }]));
  for (const step of steps) {
    const signature = signatureOf(step);
    const { input_map: inputMap, output_map: outputMap } = raw[step.index] ?? {};
    const refuseInput = (key: string, problem: string): never =>
      refuse('ensemble_scheduling.step.input_map', `${step.title}: ${problem}`, inputMap, key);
    for (const [key, tensor] of step.inputs) {
      if (signature === undefined) continue;
      const spec = find(signature.inputs, key);
      if (spec === undefined) return refuseInput(key, unknown('input', key, signature.inputs));
      const problem = misfit(tensor, given.get(tensor), spec, `its input ${quoted(key)} is`);
      if (problem !== undefined) return refuseInput(key, problem);
    }
    const missing = signature?.inputs.find(({ name }) => !step.inputs.some(([key]) => key === name));
    if (missing !== undefined)
      return refuse(
        'ensemble_scheduling.step.input_map',
        `${step.title}: no tensor is mapped to its input ${quoted(missing.name)}`,
        raw,
        step.index,
      );
    for (const [key, tensor] of step.outputs) {
      const spec = signature === undefined ? undefined : find(signature.outputs, key);
      if (signature !== undefined && spec === undefined)
        return refuse(
          'ensemble_scheduling.step.output_map',
          `${step.title}: ${unknown('output', key, signature.outputs)}`,
          outputMap,
          key,
        );
      given.set(tensor, { spec, by: `${step.title} gives it as` });
    }
  }
  const givers = new Map([...given].flatMap(([tensor, { spec }]) => (spec === undefined ? [] : [[tensor, spec]])));
  const outputs = declaredSpecs(config, 'output', givers);
  outputs.forEach((spec, index) => {
    const problem = misfit(spec.name, given.get(spec.name), spec, 'it is declared as');
    if (problem !== undefined) refuse('output', problem, config.output, index);
  });
  return { inputs, outputs };
}

interface Given {
  readonly spec: TensorSpec | undefined;
  readonly by: string;
}

/** By tensor, what the first step that takes it makes of it. */
function usersOf(steps: readonly EnsembleStep[], signatureOf: SignatureOf): ReadonlyMap<string, TensorSpec> {
  const users = new Map<string, TensorSpec>();
  for (const step of steps)
    for (const [key, tensor] of step.inputs) {
      const spec = find(signatureOf(step)?.inputs ?? [], key);
      if (spec !== undefined && !users.has(tensor)) users.set(tensor, spec);
    }
  return users;
}

/** Without a `max_batch_size` above 0 the dims may hold the dimension of the batch: the other end of the tensor tells. */
function declaredSpecs(
  config: ModelConfig,
  side: 'input' | 'output',
  others: ReadonlyMap<string, TensorSpec>,
): readonly TensorSpec[] {
  const { max_batch_size: maxBatch = 0 } = config;
  return (config[side] ?? []).map((tensor) => {
    const { name = '', dims = [], reshape } = tensor;
    const shape = reshape === undefined ? dims : (reshape.shape ?? []);
    const other = others.get(name);
    const hasBatch = maxBatch <= 0 && other !== undefined && shape.length === other.shape.length + 1 && shape[0] === -1;
    // The types of config.pbtxt but TYPE_BF16, which an ensemble may not have.
    return { name, dtype: dtypeOf(tensor) as DType, shape: hasBatch ? shape.slice(1) : shape };
  });
}

function misfit(tensor: string, given: Given | undefined, spec: TensorSpec, wanted: string): string | undefined {
  if (given?.spec === undefined || (given.spec.dtype === spec.dtype && fits(given.spec.shape, spec.shape)))
    return undefined;
  const one = tensorText(given.spec.dtype, given.spec.shape);
  return `${quoted(tensor)} does not fit: ${given.by} ${one}, ${wanted} ${tensorText(spec.dtype, spec.shape)}`;
}

function fits(one: readonly number[], other: readonly number[]): boolean {
  if (one.length === other.length && one.every((dim, at) => dim === other[at] || dim === -1 || other[at] === -1))
    return true;
  return !one.includes(-1) && !other.includes(-1) && product(one) === product(other);
}

function product(dims: readonly number[]): number {
  return dims.reduce((count, dim) => count * dim, 1);
}

function find(specs: readonly TensorSpec[], name: string): TensorSpec | undefined {
  return specs.find((spec) => spec.name === name);
}

function unknown(side: 'input' | 'output', name: string, specs: readonly TensorSpec[]): string {
  const there = specs.slice(0, SHOWN_MAX).map((spec) => quoted(spec.name));
  return `its model has no ${side} ${quoted(name)}, but ${there.join(', ')}${specs.length > SHOWN_MAX ? ' …' : ''}`;
}

const SHOWN_MAX = 8;

function quoted(name: string): string {
  return JSON.stringify(name.slice(0, 128));
}
