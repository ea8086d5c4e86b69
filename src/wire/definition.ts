import type { ServedKind } from './served-kinds.js';
import type { Signature } from './tensor.js';

/** What load() learns. Everything is plain data but `signal`, which aborts when the replica is to stop while it loads. */
export interface LoadContext {
  /** Name of the pool. */
  readonly pool: string;
  /** Name of the model that is to be loaded, in a pool that holds many (option `models`); undefined elsewhere. */
  readonly model?: string | undefined;
  /** Absolute path of the version directory (`<model>/<version>`), where the pool has a model. */
  readonly modelDir: string | undefined;
  /** The model's config.pbtxt, where it has one, with Triton's field names (type `ModelConfig`). */
  readonly modelConfig?: Readonly<Record<string, unknown>> | undefined;
  readonly version: string | undefined;
  /** `options` of the pool, as given. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly device: string;
  /** 0-based place of this replica, and how many there are. */
  readonly replica: number;
  readonly replicas: number;
  /** The largest batch predict will be given: what to warm up for. */
  readonly maxBatchSize: number;
  /**
   * Tells what a batch of this size took in a warm-up run, in milliseconds: the batcher starts from it instead of finding
   * out. Of several runs of one size the last counts. Throws a TypeError where size or time is none.
   */
  warmedUp(size: number, ms: number): void;
  /**
   * Tells how much memory the loaded model holds: what it counts for against `models.maxBytes`, in a pool that holds many.
   * Without it, the bytes of the files in `modelDir` count. The last call counts. Throws a TypeError for no such number.
   */
  usesBytes(bytes: number): void;
  readonly signal: AbortSignal;
}

export interface PredictContext<State> {
  readonly state: State;
  /** Aborts when every record of the batch has been given up, or the replica must stop now. */
  readonly signal: AbortSignal;
  readonly version: string | undefined;
  /** Name of the model this batch is for, in a pool that holds many; `state` is what load() gave for it. */
  readonly model?: string | undefined;
}

export type Isolation = 'inline' | 'thread' | 'process';

/**
 * What an actor is, before it runs. With rows, `batch` is an array of records and outputs[i] answers batch[i]; an
 * Error in an output's place fails that record alone. With a `signature` (given, or returned by `describe` after load)
 * `batch` is `Columns` and predict returns `Columns` with the same count, or, where that is `decoupled`, a stream per record.
 *
 * An output may be an async iterable (a token stream): its record is answered with a stream of the pieces as it begins, and
 * the replica takes further batches while it runs. `return()` of its iterator is called when nobody reads it any more.
 */
export interface ActorDefinition<In = unknown, Out = unknown, State = unknown> {
  /** Once per replica and version; in a pool that holds many models, once for each of them whenever it is wanted. */
  load?(context: LoadContext): State | Promise<State>;
  // The batch is `In[]` for rows and `Columns` for tensors; defineActor gives each form its exact type.
  predict(batch: any, context: PredictContext<State>): unknown;
  /** Once for each load that succeeded, after the last batch. */
  unload?(state: State): void | Promise<void>;
  /** Further calls, outside the batch path: pool.call(name, ...args). */
  methods?: Readonly<Record<string, (state: State, ...args: any[]) => unknown>>;
  /** Fixed tensor signature, or one read from the loaded state (a model file knows its own); undefined means rows. */
  signature?: Signature | ((state: State) => Signature | undefined);
  /** The safe default for this kind; a pool may ask for another. */
  isolation?: Isolation;
  /**
   * True: predict and load run native code that cannot be interrupted. In a thread such an actor is never terminated
   * while it is busy, because that aborts the whole process; it is set aside until its call returns. Default false.
   */
  native?: boolean;
  /** True (default): predict may run again for the same record after a crash. */
  repeatable?: boolean;
  /**
   * True: predict keeps no array of its batch once it has answered, and what it returns are arrays it does not use again.
   * They then cross without a copy on the actor's side, and the memory of a batch serves a later one; an array that was kept
   * all the same has no values left. Default false: both stay the actor's.
   */
  handsOver?: boolean;
  /**
   * True: it runs no model but passes its records on to other pools. It is given rows and answers rows whatever its
   * signature, which only tells callers what they hold, and an error with the code of a Troupe error keeps its code.
   * Default false.
   */
  relays?: boolean;
  /**
   * What of OpenAI's routes it answers, in the shapes of `ChatRecord`, `CompletionRecord` and `EmbeddingRecord`. Default none.
   * Not with a signature.
   */
  kinds?: readonly ServedKind[];
  /** Compile-time only: carries the record types to the caller. */
  readonly types?: { readonly input: In; readonly output: Out };
}
