import type { InferenceSession } from 'onnxruntime-node';
import { TroupeError, type DType, type LoadContext, type Signature, type TensorSpec } from 'troupe/actor';
import { where } from './model-file.js';

/** Element types the engine runs and a batch can carry; bfloat16 and 4-bit integers are not among them. */
const DTYPES: ReadonlySet<string> = new Set<DType>([
  'bool',
  'uint8',
  'uint16',
  'uint32',
  'uint64',
  'int8',
  'int16',
  'int32',
  'int64',
  'float16',
  'float32',
  'float64',
  'string',
]);

/**
 * The signature of a loaded session. The first dimension of every input and output must vary, for it is the batch;
 * other symbolic dimensions become -1. Throws SIGNATURE_MISMATCH naming file and tensor.
 */
export function readSignature(session: InferenceSession, file: string, context: LoadContext): Signature {
  return {
    inputs: session.inputMetadata.map((tensor) => toSpec('input', tensor, file, context)),
    outputs: session.outputMetadata.map((tensor) => toSpec('output', tensor, file, context)),
  };
}

function toSpec(
  side: 'input' | 'output',
  tensor: InferenceSession.ValueMetadata,
  file: string,
  context: LoadContext,
): TensorSpec {
  const { name } = tensor;
  const refuse = (problem: string): TroupeError => mismatch(context, file, `${side} "${name}" ${problem}`);
  if (!tensor.isTensor) throw refuse('is a sequence or map, not a tensor; export the model with tensors alone');
  if (!isDType(tensor.type)) throw refuse(`has dtype ${tensor.type}; a batch carries ${[...DTYPES].join(', ')}`);
  const [batch, ...shape] = tensor.shape;
  if (batch === undefined) throw refuse('is a scalar; its first dimension must be the batch, of varying size');
  if (typeof batch === 'number' && batch !== -1) {
    const shown = tensor.shape.join(', ');
    throw refuse(`has shape [${shown}]; export the model with a symbolic first dimension, for it is the batch`);
  }
  return { name, dtype: tensor.type, shape: shape.map((dim) => (typeof dim === 'number' ? dim : -1)) };
}

/** SIGNATURE_MISMATCH naming pool, file and what does not fit. */
export function mismatch(context: LoadContext, file: string, problem: string): TroupeError {
  return new TroupeError('SIGNATURE_MISMATCH', `Pool "${context.pool}": ${file}: ${problem}`, where(context));
}

function isDType(type: string): type is DType {
  return DTYPES.has(type);
}
