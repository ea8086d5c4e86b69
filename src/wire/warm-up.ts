import type { DType } from './tensor.js';

/**
 * A warm-up that a model's config.pbtxt asks for (`model_warmup`), read and checked by the host and run by the replica.
 * Plain data.
 */
export interface WarmUp {
  /** As written; need not be there, and need not be of one alone. */
  readonly name: string;
  /** Where it stands: the config.pbtxt, and the place in it. */
  readonly file: string;
  readonly at: { readonly line: number; readonly col: number };
  /** Records of one run. */
  readonly batchSize: number;
  /** Runs; at least 1. */
  readonly count: number;
  /** The dims may begin with the dimension of the batch: the model has no `max_batch_size`. */
  readonly mayHoldBatch: boolean;
  readonly inputs: readonly WarmUpInput[];
}

/** What every record of a warm-up holds for one input. */
export interface WarmUpInput {
  readonly name: string;
  readonly dtype: DType;
  /** As the model sees them, without a dimension of the batch; each at least 1. */
  readonly dims: readonly number[];
  readonly from: 'zeros' | 'random' | { readonly file: string };
}
