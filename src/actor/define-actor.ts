import type { ActorDefinition, PredictContext } from '../wire/definition.js';
import type { Columns, Signature, TensorRecord } from '../wire/tensor.js';

interface Common<In, Out, State> extends Omit<ActorDefinition<In, Out, State>, 'predict' | 'signature' | 'types'> {}

/** An actor whose batch is an array of records. */
export interface RowsDefinition<In, Out, State> extends Common<In, Out, State> {
  readonly signature?: undefined;
  /**
   * Answers `batch[i]` with `outputs[i]`; an Error in an output's place fails that record alone. Records that are typed
   * arrays may be views over one buffer of the whole batch, so mind `byteOffset` where you use `buffer`, and `slice()`
   * what you keep after the batch: a kept view keeps the batch.
   */
  predict(batch: In[], context: PredictContext<State>): RowAnswers<Out> | PromiseLike<RowAnswers<Out>>;
}

/**
 * The second half matches nothing. TypeScript fixes the result of an annotated predict while it tries the first overload;
 * without a mention of Columns there, `dtype: 'float32'` would widen to string and fit no overload any more.
 */
type RowAnswers<Out> = readonly (Out | Error)[] | (Columns & { readonly rows: never });

/** An actor whose batch is columns, one contiguous array per tensor; its records are tensors by name. */
export interface TensorDefinition<In, Out, State> extends Common<In, Out, State> {
  readonly signature: Signature | ((state: State) => Signature);
  /** Answers with columns of the same count, named as the outputs of the signature. */
  predict(batch: Columns, context: PredictContext<State>): Columns | PromiseLike<Columns>;
}

/** An actor that answers each record any number of times, with streams of tensors by name. */
export interface DecoupledDefinition<In, Out, State> extends Common<In, Out, State> {
  readonly signature:
    | (Signature & { readonly decoupled: true })
    | ((state: State) => Signature & { readonly decoupled: true });
  /** Answers with a stream, or an Error, for each record; its pieces are named as the outputs of the signature. */
  predict(batch: Columns, context: PredictContext<State>): Streams | PromiseLike<Streams>;
}

type Streams = readonly (AsyncIterable<TensorRecord> | Error)[];

/** An actor that learns only from what it loaded whether it takes rows or tensors. */
export interface EitherDefinition<In, Out, State> extends Common<In, Out, State> {
  readonly signature: (state: State) => Signature | undefined;
  predict(batch: In[] | Columns, context: PredictContext<State>): unknown;
}

/**
 * Gives an actor definition its types; returns it as it is. The record types come from predict (annotate `batch`, as in
 * `batch: string[]`), the state from load; with a `signature`, predict takes and returns `Columns`, or streams where that is
 * `decoupled`.
 */
export function defineActor<In, Out, State>(
  definition: RowsDefinition<In, Out, State>,
): ActorDefinition<In, Out, State>;
export function defineActor<In = TensorRecord, Out = TensorRecord, State = unknown>(
  definition: TensorDefinition<In, Out, State>,
): ActorDefinition<In, Out, State>;
export function defineActor<In = TensorRecord, Out = AsyncIterable<TensorRecord>, State = unknown>(
  definition: DecoupledDefinition<In, Out, State>,
): ActorDefinition<In, Out, State>;
export function defineActor<In, Out, State>(
  definition: EitherDefinition<In, Out, State>,
): ActorDefinition<In, Out, State>;
export function defineActor<In, Out, State>(definition: object): ActorDefinition<In, Out, State> {
  return definition as ActorDefinition<In, Out, State>;
}
