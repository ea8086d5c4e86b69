import { numericClassOf } from '../wire/columns.js';
import type { DType } from '../wire/tensor.js';
import type { WarmUp, WarmUpInput } from '../wire/warm-up.js';
import { dtypeOf } from './declared-signature.js';
import type { ModelConfig } from './model-config-fields.js';
import { objectionToPath } from './model-file.js';
import { type TextPosition, TextProtoError } from './text-proto.js';

/**
 * What `model_warmup` of a config.pbtxt asks for, checked as far as it can be without the model: the replica holds it
 * against the tensors of what it has loaded.
 */

type Written = NonNullable<ModelConfig['model_warmup']>[number];
type WrittenInput = NonNullable<Written['inputs']>[string];

/** All inputs of one run together; more is a mistake, and would take the memory of what is to be served. */
const RUN_BYTES_MAX = 2 ** 30;
/** All texts of one run together. */
const RUN_TEXTS_MAX = 1_000_000;
/** What a text takes at least, empty as it may be. */
const TEXT_BYTES = 32;

/** `placeOf`: where a message begins. Those with a `batch_size` of 0 are left out, as Triton does. Throws TextProtoError. */
export function readWarmUps(
  config: ModelConfig,
  file: string,
  placeOf: (message: object) => TextPosition,
): readonly WarmUp[] {
  const { model_warmup: written = [], max_batch_size: maxBatch = 0 } = config;
  return written.flatMap((warmUp) => {
    const { name = '', batch_size: batchSize = 0, count = 0, inputs = {} } = warmUp;
    if (batchSize === 0) return [];
    const at = placeOf(warmUp);
    const refuse = (field: string, problem: string): never => {
      throw new TextProtoError(at, `model_warmup.${field} of ${JSON.stringify(name)}: ${problem}`);
    };
    const most = Math.max(1, maxBatch);
    if (batchSize > most)
      refuse('batch_size', `expected at most ${most}, as max_batch_size is ${maxBatch}; found ${batchSize}`);
    const read = Object.entries(inputs).map(([input, value]) => readInput(config, name, input, value, placeOf(value)));
    const texts = read.reduce((sum, { dtype, dims }) => sum + textsOf(dtype, dims), 0) * batchSize;
    if (texts > RUN_TEXTS_MAX) refuse('inputs', `expected at most ${RUN_TEXTS_MAX} texts in a run, found ${texts}`);
    const bytes = read.reduce((sum, { dtype, dims }) => sum + bytesOf(dtype, dims), 0) * batchSize;
    if (bytes > RUN_BYTES_MAX) refuse('inputs', `expected at most ${RUN_BYTES_MAX} bytes in a run, found ${bytes}`);
    return [
      {
        name,
        file,
        at,
        batchSize,
        count: Math.max(1, count),
        mayHoldBatch: maxBatch <= 0,
        inputs: read,
      },
    ];
  });
}

function readInput(
  { input: declared = [] }: ModelConfig,
  warmUp: string,
  name: string,
  written: WrittenInput,
  at: TextPosition,
): WarmUpInput {
  const refuse = (field: string, problem: string): never => {
    const which = `${JSON.stringify(name)} of ${JSON.stringify(warmUp)}`;
    throw new TextProtoError(at, `model_warmup.inputs.${field}: ${which}: ${problem}`);
  };
  const { data_type: type = 'TYPE_INVALID', dims = [], input_data_file: file } = written;
  const dtype = dtypeOf(written);
  if (type === 'TYPE_INVALID') refuse('data_type', 'needs a data_type');
  if (!isDType(dtype)) return refuse('data_type', `${type} is no type of a tensor here`);
  if (dims.length === 0) refuse('dims', 'needs dims; at least one');
  if (dims.some((dim) => dim < 1))
    refuse('dims', `expected sizes of at least 1, those that vary too; found ${dims.join(', ')}`);
  const seen = seenByModel(
    declared.find((tensor) => tensor.name === name),
    dims,
  );
  if (file === undefined && written.zero_data === undefined && written.random_data === undefined)
    refuse('input_data_type', 'needs one of zero_data, random_data and input_data_file');
  if (file === undefined)
    return { name, dtype, dims: seen, from: written.random_data === undefined ? 'zeros' : 'random' };
  const objection = file === '' ? 'it has no name' : objectionToPath(file);
  if (objection !== undefined)
    refuse(
      'input_data_file',
      `expected a file in the directory warmup of the model, found ${JSON.stringify(file)}: ${objection}`,
    );
  return { name, dtype, dims: seen, from: { file } };
}

/** A declared `reshape` is what the model sees; each size that varies in it stands for the next one that varies in the dims. */
function seenByModel(
  declared: NonNullable<ModelConfig['input']>[number] | undefined,
  dims: readonly number[],
): readonly number[] {
  const { dims: promised = [], reshape } = declared ?? {};
  const fits = promised.length === dims.length && promised.every((dim, at) => dim === -1 || dim === dims[at]);
  if (reshape === undefined || !fits) return dims;
  const varying = dims.filter((_, at) => promised[at] === -1);
  return (reshape.shape ?? []).map((dim) => (dim === -1 ? (varying.shift() as number) : dim));
}

function isDType(word: string): word is DType {
  return word === 'string' || numericClassOf(word as DType) !== undefined;
}

function bytesOf(dtype: DType, dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, numericClassOf(dtype)?.bytes ?? TEXT_BYTES);
}

function textsOf(dtype: DType, dims: readonly number[]): number {
  return dtype === 'string' ? dims.reduce((product, dim) => product * dim, 1) : 0;
}
