import { TroupeError } from '../kernel/errors.js';
import type { ActorDefinition, LoadContext } from '../wire/definition.js';
import type { ModelDescription, ModelSpec } from '../wire/messages.js';
import type { Signature } from '../wire/tensor.js';
import type { WarmUp } from '../wire/warm-up.js';
import { checkSignature } from './load-definition.js';
import type { WarmUpRun } from './warm-up.js';

/** What one load gave: the state, and what it said of it. */
export interface LoadedState {
  readonly state: unknown;
  readonly description: ModelDescription;
}

/** What is run on the state before anybody else has it. */
export interface WarmUpPlan extends Pick<WarmUpRun, 'where' | 'inTurn'> {
  readonly warmUps: readonly WarmUp[] | undefined;
}

/**
 * Runs load() of a definition, reads the signature of what it loaded and warms it up. Rejects with what load threw, or as
 * runWarmUps does; then nothing is held.
 */
export async function loadState(
  definition: ActorDefinition,
  plain: Omit<LoadContext, 'warmedUp' | 'usesBytes' | 'signal'>,
  { warmUps, ...run }: WarmUpPlan,
  signal: AbortSignal,
): Promise<LoadedState> {
  // An abort that came first would never be heard by a listener that load adds.
  if (signal.aborted) throw new TroupeError('CANCELLED', 'The replica was stopped before load()');
  const costs = new Map<number, number>();
  let bytes: number | undefined;
  const context: LoadContext = {
    ...plain,
    warmedUp: (size, ms) => noteCost(costs, size, ms, plain.maxBatchSize),
    usesBytes: (count) => {
      bytes = checkBytes(count);
    },
    signal,
  };
  const state = definition.load === undefined ? undefined : await definition.load(context);
  try {
    const signature = signatureOf(definition, state);
    if (warmUps !== undefined && warmUps.length > 0 && signature !== undefined) {
      const { modelDir, maxBatchSize, version, model } = plain;
      // Most replicas have none, and need not import it.
      const { runWarmUps } = await import('./warm-up.js');
      await runWarmUps(warmUps, {
        ...run,
        definition,
        signature,
        context: { state, signal, version, model },
        modelDir,
        maxBatchSize,
        noteCost: context.warmedUp,
      });
    }
    return { state, description: { signature, bytes, costs: [...costs] } };
  } catch (error) {
    // The state is loaded but will never be used: free it here, nobody else knows of it.
    await definition.unload?.(state);
    throw error;
  }
}

/**
 * What is loaded are the files that were pinned, or nothing is. Here, in the replica, so that it holds for every load there
 * is, and the host need not read the files. Rejects with HASH_MISMATCH.
 */
export async function checkPinned({ modelDir, modelHash }: Pick<ModelSpec, 'modelDir' | 'modelHash'>): Promise<void> {
  if (modelDir === undefined || modelHash === undefined) return;
  // Hashing costs a replica that pins nothing not even its import.
  const { checkContentHash } = await import('../models/content-hash.js');
  await checkContentHash(modelDir, modelHash);
}

function signatureOf({ signature }: ActorDefinition, state: unknown): Signature | undefined {
  if (typeof signature !== 'function') return signature;
  const read = signature(state);
  return read === undefined ? undefined : checkSignature(read, 'the loaded state');
}

function noteCost(costs: Map<number, number>, size: number, ms: number, most: number): void {
  if (!Number.isInteger(size) || size < 1 || size > most)
    throw new TypeError(`warmedUp: size must be a whole number from 1 to ${most}, got ${String(size)}`);
  if (typeof ms !== 'number' || !(ms >= 0 && ms < Infinity))
    throw new TypeError(`warmedUp: ms must be a number of at least 0, got ${String(ms)}`);
  costs.set(size, ms);
}

function checkBytes(bytes: number): number {
  if (!Number.isSafeInteger(bytes) || bytes < 0)
    throw new TypeError(`usesBytes: expected a whole number of bytes of at least 0, got ${String(bytes)}`);
  return bytes;
}
