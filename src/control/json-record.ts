import { TroupeError } from '../kernel/errors.js';
import { numericClassOf } from '../wire/columns.js';
import type { Signature, TensorSpec } from '../wire/tensor.js';

/**
 * A record as JSON has it, for an actor with a tensor signature: lists of numbers, nested or not, become the typed arrays
 * of their inputs. What does not fit is left as it is, so that the pool says what it thinks of it; integers of 64 bits may be
 * given as text.
 */
export function tensorsOf(record: unknown, signature: Signature | undefined): unknown {
  if (signature === undefined || typeof record !== 'object' || record === null || Array.isArray(record)) return record;
  const specs = new Map(signature.inputs.map((spec) => [spec.name, spec]));
  return Object.fromEntries(
    Object.entries(record).map(([name, value]) => {
      const spec = specs.get(name);
      return [name, spec === undefined || !Array.isArray(value) ? value : arrayOf(spec, value)];
    }),
  );
}

function arrayOf(spec: TensorSpec, value: readonly unknown[]): unknown {
  const flat: readonly unknown[] = value.flat(spec.shape.length);
  const made = numericClassOf(spec.dtype)?.make(flat.length);
  if (made === undefined) return flat;
  const isBig = made instanceof BigInt64Array || made instanceof BigUint64Array;
  for (const [index, item] of flat.entries()) {
    const isFitting = isBig ? /^-?\d+$/.test(String(item)) : typeof item === 'number' || typeof item === 'boolean';
    if (!isFitting) {
      throw new TroupeError(
        'INPUT_INVALID',
        `Input "${spec.name}": expected ${spec.dtype}, got ${typeof item} at ${index}`,
        {
          ran: 'not-started',
        },
      );
    }
    made[index] = isBig ? BigInt(item as string) : Number(item);
  }
  return made;
}
