import type { Signature, TensorSpec } from './tensor.js';

/**
 * What callers of the one would notice of the other, a line each: tensors that are missing, new, or of another type or
 * shape. Empty where there is nothing. Tensors go by name, so their order does not count.
 */
export function signatureDifferences(old: Signature | undefined, other: Signature | undefined): readonly string[] {
  if (old === undefined && other === undefined) return [];
  if (old === undefined) return ['it has a signature of tensors, the other takes records of any kind'];
  if (other === undefined) return ['it takes records of any kind, the other has a signature of tensors'];
  return [
    ...(hasMany(old) === hasMany(other) ? [] : [`it answers a record ${times(old)}, the other ${times(other)}`]),
    ...sideDifferences('input', old.inputs, other.inputs),
    ...sideDifferences('output', old.outputs, other.outputs),
  ];
}

function hasMany({ decoupled = false }: Signature): boolean {
  return decoupled;
}

function times(signature: Signature): string {
  return hasMany(signature) ? 'any number of times' : 'once';
}

function sideDifferences(side: string, old: readonly TensorSpec[], other: readonly TensorSpec[]): string[] {
  const lines: string[] = [];
  const others = new Map(other.map((spec) => [spec.name, spec]));
  for (const spec of old) {
    const now = others.get(spec.name);
    others.delete(spec.name);
    if (now === undefined) lines.push(`${side} "${spec.name}" (${tensorText(spec)}) is missing`);
    else if (tensorText(now) !== tensorText(spec))
      lines.push(`${side} "${spec.name}" is ${tensorText(now)}, not ${tensorText(spec)}`);
  }
  for (const spec of others.values()) lines.push(`${side} "${spec.name}" (${tensorText(spec)}) is new`);
  return lines;
}

function tensorText({ dtype, shape }: TensorSpec): string {
  return `${dtype}[${shape.join(',')}]`;
}
