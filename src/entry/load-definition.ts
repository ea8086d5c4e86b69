import { isTroupeError, TroupeError } from '../kernel/errors.js';
import type { ActorDefinition } from '../wire/definition.js';
import { toFault } from '../wire/fault.js';
import { SERVED_KINDS } from '../wire/served-kinds.js';
import type { Signature } from '../wire/tensor.js';

/** Imports an actor module and checks what it exports. Rejects with ACTOR_INVALID, or ACTOR_LOAD_FAILED where the module itself threw. */
export async function loadDefinition(actor: string | ActorDefinition): Promise<ActorDefinition> {
  if (typeof actor !== 'string') return checkDefinition(actor, 'the definition');
  let module: { readonly default?: unknown };
  try {
    module = (await import(actor)) as { readonly default?: unknown };
  } catch (error) {
    throw importError(actor, error);
  }
  return checkDefinition(module.default, `the default export of ${actor}`);
}

/** Throws ACTOR_INVALID naming the first thing that is wrong. */
export function checkDefinition(value: unknown, what: string): ActorDefinition {
  const fail = (problem: string): never => {
    throw new TroupeError(
      'ACTOR_INVALID',
      `${what} ${problem}; export default defineActor({ predict(batch) { ... } })`,
    );
  };
  if (value === undefined) return fail('is missing');
  if (typeof value !== 'object' || value === null) return fail(`is a ${typeof value}, not a definition`);
  const definition = value as Partial<Record<keyof ActorDefinition, unknown>>;
  if (typeof definition.predict !== 'function') return fail(`has no function predict (${kindOf(definition.predict)})`);
  for (const key of ['load', 'unload'] as const) {
    const member = definition[key];
    if (member !== undefined && typeof member !== 'function')
      return fail(`has a ${key} that is no function (${kindOf(member)})`);
  }
  const { methods, signature, kinds } = definition;
  if (methods !== undefined) {
    if (typeof methods !== 'object' || methods === null)
      return fail(`has methods that are no object (${kindOf(methods)})`);
    for (const [name, method] of Object.entries(methods)) {
      if (typeof method !== 'function') return fail(`has a method "${name}" that is no function (${kindOf(method)})`);
    }
  }
  if (kinds !== undefined) {
    const known = Array.isArray(kinds) && kinds.every((kind) => (SERVED_KINDS as readonly unknown[]).includes(kind));
    if (!known) return fail(`has kinds that are no list of ${SERVED_KINDS.join(', ')}`);
    if (signature !== undefined) return fail('has kinds and a signature; what it answers by kinds are records');
  }
  if (signature !== undefined && typeof signature !== 'function') checkSignature(signature, what);
  return value as ActorDefinition;
}

const DTYPES = new Set([
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

/** Throws ACTOR_INVALID naming the tensor that is wrong. */
export function checkSignature(value: unknown, what: string): Signature {
  const fail = (problem: string): never => {
    throw new TroupeError('ACTOR_INVALID', `The signature of ${what} ${problem}`);
  };
  if (typeof value !== 'object' || value === null) return fail(`is ${kindOf(value)}, expected { inputs, outputs }`);
  const { decoupled } = value as { readonly decoupled?: unknown };
  if (decoupled !== undefined && typeof decoupled !== 'boolean')
    return fail(`has a decoupled that is ${kindOf(decoupled)}, expected true or false`);
  for (const side of ['inputs', 'outputs'] as const) {
    const specs = (value as Partial<Record<string, unknown>>)[side];
    if (!Array.isArray(specs) || specs.length === 0) return fail(`has no ${side}`);
    const names = new Set<string>();
    for (const spec of specs as readonly { name?: unknown; dtype?: unknown; shape?: unknown }[]) {
      const name = spec?.name;
      if (typeof name !== 'string' || name === '') return fail(`has one of its ${side} without a name`);
      if (names.has(name)) return fail(`has "${name}" twice among its ${side}`);
      names.add(name);
      if (typeof spec.dtype !== 'string' || !DTYPES.has(spec.dtype)) {
        return fail(`gives "${name}" the dtype ${String(spec.dtype)}, expected one of ${[...DTYPES].join(', ')}`);
      }
      const isShape =
        Array.isArray(spec.shape) && spec.shape.every((dim) => Number.isSafeInteger(dim) && (dim as number) >= -1);
      if (!isShape) return fail(`gives "${name}" a shape that is no list of sizes (-1 for one that varies)`);
    }
  }
  return value as Signature;
}

function importError(actor: string, error: unknown): TroupeError {
  if (isTroupeError(error)) return error;
  // As a fault: what a module throws may itself throw when it is looked at.
  const { name, message: said, code, fields } = toFault(error);
  const url = fields?.['url'];
  const isMissing = code === 'ERR_MODULE_NOT_FOUND' || code === 'ERR_UNSUPPORTED_DIR_IMPORT';
  if ((isMissing && (url === undefined || url === actor)) || code === 'ERR_INVALID_URL' || name === 'SyntaxError') {
    return new TroupeError('ACTOR_INVALID', `The actor module ${actor} cannot be loaded: ${said}`, { cause: error });
  }
  return new TroupeError('ACTOR_LOAD_FAILED', `The actor module ${actor} threw while it was imported: ${said}`, {
    cause: error,
  });
}

function kindOf(value: unknown): string {
  return value === null ? 'null' : typeof value;
}
