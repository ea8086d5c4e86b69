import type { Signature, TensorSpec } from '../wire/tensor.js';
import type { ModelConfig } from './model-config-fields.js';

/**
 * Whether a loaded model has the tensors that its config.pbtxt declares. The rules are those of Triton's ONNX Runtime
 * backend: a declared input is a promise to callers, so the model may take more than that (its dimension varies) and not
 * less; a declared output is what they get, so its dimensions are the same. A side of which the file says nothing is not
 * compared, and neither is a model that says nothing of its tensors.
 *
 * One rule is wider: without a `max_batch_size` above 0 the dims may hold the dimension of the batch or leave it out, for
 * every actor here has batches, whether its model has or not.
 */

type Declared = NonNullable<ModelConfig['input']>[number];

/** A line for each tensor that differs, empty where none does. */
export function declaredDifferences(config: ModelConfig, signature: Signature | undefined): readonly string[] {
  if (signature === undefined) return [];
  const { input: inputs = [], output: outputs = [], max_batch_size: maxBatch = 0 } = config;
  const scattered = new Set((config.batch_output ?? []).flatMap(({ target_name: names = [] }) => names));
  return [
    ...decoupledDifference(config, signature),
    ...inputs.flatMap((tensor) => {
      const { optional = false, allow_ragged_batch: isRagged = false } = tensor;
      const found = specOf(signature.inputs, tensor);
      // A default within the model stands in for one that need not be given.
      if (found === undefined) return optional ? [] : [missing('input', tensor, signature.inputs)];
      return difference('input', tensor, found, maxBatch, isRagged);
    }),
    ...(inputs.length === 0 ? [] : undeclared(config, signature.inputs)),
    ...outputs.flatMap((tensor) => {
      const found = specOf(signature.outputs, tensor);
      if (found === undefined) return [missing('output', tensor, signature.outputs)];
      return difference('output', tensor, found, maxBatch, scattered.has(tensor.name ?? ''));
    }),
  ];
}

function decoupledDifference(config: ModelConfig, { decoupled = false }: Signature): readonly string[] {
  const declared = config.model_transaction_policy?.decoupled ?? decoupled;
  if (declared === decoupled) return [];
  const times = decoupled ? 'any number of times: its signature is decoupled' : 'once: its signature is not decoupled';
  return [`model_transaction_policy.decoupled is declared as ${declared}, and the actor answers a record ${times}`];
}

type Side = 'input' | 'output';

function specOf(specs: readonly TensorSpec[], { name }: Pick<Declared, 'name'>): TensorSpec | undefined {
  return specs.find((spec) => spec.name === name);
}

function missing(
  side: Side,
  tensor: Pick<Declared, 'name' | 'data_type' | 'dims'>,
  specs: readonly TensorSpec[],
): string {
  const { name = '', dims = [] } = tensor;
  const there = specs.slice(0, SHOWN_MAX).map((spec) => JSON.stringify(spec.name));
  const holds = there.length === 0 ? 'none' : `${there.join(', ')}${specs.length > SHOWN_MAX ? ' …' : ''}`;
  const declared = tensorText(dtypeOf(tensor), dims);
  return `${side} ${JSON.stringify(name)} is declared as ${declared}, and the model has none of that name, but ${holds}`;
}

const SHOWN_MAX = 8;

function difference(
  side: Side,
  tensor: Pick<Declared, 'name' | 'data_type' | 'dims' | 'reshape'>,
  spec: TensorSpec,
  maxBatch: number,
  isAnyShape: boolean,
): readonly string[] {
  // What the model sees is the shape after the reshape; an empty one is a single value per record.
  const dims = tensor.reshape === undefined ? (tensor.dims ?? []) : (tensor.reshape.shape ?? []);
  const dtype = dtypeOf(tensor);
  const hasBatch = maxBatch <= 0 && dims.length === spec.shape.length + 1;
  const shape = hasBatch ? [-1, ...spec.shape] : spec.shape;
  const fits = (model: number, declared: number | undefined): boolean =>
    model === declared || (side === 'input' && model === -1);
  const isSameShape = isAnyShape || (dims.length === shape.length && shape.every((dim, at) => fits(dim, dims[at])));
  if (dtype === spec.dtype && isSameShape) return [];
  const shown = `${side} ${JSON.stringify(spec.name)} is ${tensorText(spec.dtype, shape)}, declared as ${tensorText(dtype, dims)}`;
  const isSingle = shape.length === 0 && dims.length === 1 && dims[0] === 1;
  return [
    isSingle && dtype === spec.dtype ? `${shown}; a single value is dims: [ 1 ] with reshape: { shape: [ ] }` : shown,
  ];
}

/** What the model wants and callers were not told of. Triton itself fills the tensors of sequences and batch sizes. */
function undeclared(config: ModelConfig, specs: readonly TensorSpec[]): readonly string[] {
  const sequence = config.sequence_batching;
  const known = new Set<string | undefined>([
    ...(config.input ?? []).map(({ name }) => name),
    ...(config.batch_input ?? []).flatMap(({ target_name: names = [] }) => names),
    ...(sequence?.control_input ?? []).map(({ name }) => name),
    ...(sequence?.state ?? []).map(({ input_name: name }) => name),
  ]);
  return specs
    .filter(({ name }) => !known.has(name))
    .map(({ name, dtype, shape }) => `input ${JSON.stringify(name)} is ${tensorText(dtype, shape)}, and not declared`);
}

/** `TYPE_FP32` -> `float32`, as the tensors of a signature are called. */
export function dtypeOf({ data_type: type = 'TYPE_INVALID' }: Pick<Declared, 'data_type'>): string {
  const word = type.slice('TYPE_'.length).toLowerCase();
  return word.replace(/^bf/, 'bfloat').replace(/^fp/, 'float');
}

export function tensorText(dtype: string, dims: readonly number[]): string {
  return `${dtype}[${dims.join(',')}]`;
}
