import { availableParallelism } from 'node:os';
import { TroupeError, type LoadContext } from 'troupe/actor';

const OPTIMIZATIONS = ['disabled', 'basic', 'extended', 'all'] as const;
const KEYS = ['intraOpThreads', 'allowSpinning', 'graphOptimization', 'warmUp'] as const;

/** `options` of a pool whose actor is `onnx`. Unknown keys are refused. */
export interface OnnxOptions {
  /** Threads that share one operator. Default: cores divided by replicas, at least 1. */
  readonly intraOpThreads?: number;
  /**
   * Idle threads spin for the next operator instead of sleeping. Default false: with several replicas on one machine
   * spinning takes the cores that the other replicas need.
   */
  readonly allowSpinning?: boolean;
  /** How far the graph is rewritten at load. Default `all`. */
  readonly graphOptimization?: (typeof OPTIMIZATIONS)[number];
  /** Batch sizes that run once before the replica is ready. Default true: 1, 2, 4 … up to the pool's largest batch. */
  readonly warmUp?: boolean | readonly number[];
}

export interface ResolvedOnnxOptions {
  readonly intraOpThreads: number;
  readonly allowSpinning: boolean;
  readonly graphOptimization: (typeof OPTIMIZATIONS)[number];
  /** Ascending; empty for none. */
  readonly warmUpSizes: readonly number[];
}

/** Fills in the defaults. Throws TypeError naming pool, option, expectation and value. */
export function resolveOnnxOptions(context: LoadContext): ResolvedOnnxOptions {
  const { pool, options, maxBatchSize, replicas } = context;
  const wrong = (key: string, expected: string): TypeError =>
    new TypeError(`Pool "${pool}": option ${key} of actor onnx must be ${expected}, got ${show(options[key])}`);

  for (const key of Object.keys(options)) {
    if (!(KEYS as readonly string[]).includes(key)) {
      throw new TypeError(`Pool "${pool}": actor onnx has no option "${key}"; it has ${KEYS.join(', ')}`);
    }
  }
  if (context.device !== 'auto' && context.device !== 'cpu') {
    const message = `Pool "${pool}": actor onnx computes on the CPU; device must be auto or cpu, got ${context.device}`;
    throw new TroupeError('ACTOR_LOAD_FAILED', message, { actor: pool });
  }

  const { intraOpThreads, allowSpinning, graphOptimization, warmUp } = options;
  if (intraOpThreads !== undefined && !isCount(intraOpThreads)) throw wrong('intraOpThreads', 'a whole number from 1');
  if (allowSpinning !== undefined && typeof allowSpinning !== 'boolean') throw wrong('allowSpinning', 'true or false');
  const optimization = OPTIMIZATIONS.find((name) => name === (graphOptimization ?? 'all'));
  if (optimization === undefined) throw wrong('graphOptimization', `one of ${OPTIMIZATIONS.join(', ')}`);

  return {
    intraOpThreads: intraOpThreads ?? Math.max(1, Math.floor(availableParallelism() / replicas)),
    allowSpinning: allowSpinning ?? false,
    graphOptimization: optimization,
    warmUpSizes: resolveWarmUp(),
  };

  function resolveWarmUp(): readonly number[] {
    if (warmUp === undefined || warmUp === true) return doublings(maxBatchSize);
    if (warmUp === false) return [];
    const expected = `true, false or a list of batch sizes from 1 to ${maxBatchSize}`;
    if (!Array.isArray(warmUp)) throw wrong('warmUp', expected);
    const sizes = warmUp.filter((size): size is number => isCount(size) && size <= maxBatchSize);
    if (sizes.length !== warmUp.length) throw wrong('warmUp', expected);
    return [...new Set(sizes)].sort((a, b) => a - b);
  }
}

/** 1, 2, 4 … and `max` itself. */
function doublings(max: number): readonly number[] {
  const sizes: number[] = [];
  for (let size = 1; size < max; size *= 2) sizes.push(size);
  sizes.push(max);
  return sizes;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 1;
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
