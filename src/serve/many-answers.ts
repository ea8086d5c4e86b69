/**
 * A request to a model that may answer it any number of times, whichever protocol brought it: asked, and told answer by answer.
 *
 * M1 an answer is told when the one before it was taken, so that a reader who is slow stops the actor. M2 a client that leaves,
 * and an answer that cannot be told, give the rest up. M3 the deadline is for the first answer, or for the whole where that is
 * wanted as one.
 */
import { TroupeError } from '../kernel/errors.js';
import type { ModelLabels } from '../models/labels.js';
import { Refusal } from '../stream/http-body.js';
import type { Signature, TensorRecord, TensorSpec } from '../wire/tensor.js';
import { inferAll } from './infer-call.js';
import { labelsFor, priorityOf, type RequestTerms, timeoutOf, versionOf } from './oip-answer.js';
import { recordsFrom, tensorsOf } from './oip-records.js';
import type { OipRequest, RequestedOutput } from './oip-request.js';
import type { OipResponse } from './oip-response.js';
import { PieceStream } from './piece-stream.js';
import type { ServedModel } from './served-models.js';
import type { ResolvedServe } from './serve-options.js';
import { TEXT_OUTPUT, TEXT_SIGNATURE, textAsk, textFields } from './text-model.js';
import { TextStream } from './text-stream.js';

/** What a request asks. */
export interface ManyAsk {
  readonly record: unknown;
  /** Of which `timeout` and `priority` are looked at. */
  readonly parameters: ReadonlyMap<string, unknown>;
  /** Answers are wanted as they come, not one that is the whole. */
  readonly inPieces: boolean;
  readonly open: (answer: unknown) => Pieces;
}

interface Pieces {
  /** There is one, which is all. */
  readonly isWhole: boolean;
  /** Undefined at the end. Rejects with what ended it early, or DEADLINE_PASSED. */
  next(deadlineAt?: number): Promise<TensorRecord | undefined>;
  /** All as one. Rejects as `next`, and where that cannot be. */
  whole(deadlineAt: number, charsMax: number): Promise<TensorRecord>;
  readonly giveUp: () => void;
}

/** `mayStream`: more than one answer can be sent. Throws INPUT_INVALID, or a refusal. */
export function askOfText({ pool }: ServedModel, fields: ReadonlyMap<string, unknown>, mayStream: boolean): ManyAsk {
  const asked = textAsk(pool.kinds, fields, mayStream);
  return { ...asked, parameters: fields, open: (answer) => new TextPieces(answer) };
}

/** As above, for a request of tensors. */
export function askOfTensors(
  served: ServedModel,
  signature: Signature,
  request: OipRequest,
  mayStream: boolean,
): ManyAsk {
  if (signature === TEXT_SIGNATURE) return askOfText(served, textFields(request), mayStream);
  const [record] = recordsFrom(request.inputs, signature, 1);
  const open = (answer: unknown): Pieces => new TensorPieces(answer, served.name);
  return { record, parameters: request.parameters, inPieces: mayStream, open };
}

/** Resolves when the answer has been taken, so that there is room for the next. `isLast`: no other follows. */
export type Tell = (response: OipResponse, isLast: boolean) => Promise<void>;

export interface ManyRequest {
  readonly id: string;
  readonly ask: ManyAsk;
  readonly wanted: ReadonlyMap<TensorSpec, RequestedOutput>;
}

/**
 * Resolves when all answers are told, to whether the last of them was told as such. Rejects with what failed, before the
 * first or later.
 */
export async function answerMany(
  served: ServedModel,
  { id, ask, wanted }: ManyRequest,
  { timeoutMs, maxBodyBytes }: Pick<ResolvedServe, 'timeoutMs' | 'maxBodyBytes'>,
  { receivedAt, deadlineAt: callDeadlineAt, traceparent, signal }: RequestTerms,
  tell: Tell,
): Promise<boolean> {
  const deadlineAt = Math.min(callDeadlineAt, receivedAt + timeoutOf(ask, timeoutMs));
  const priority = priorityOf(ask, served.pool.priorityLevels);
  const { values, versions } = await inferAll<unknown, unknown>(served.pool, [ask.record], {
    deadlineAt,
    priority,
    model: served.model,
    traceparent,
    signal,
  });
  const pieces = ask.open(values[0]);
  signal.addEventListener('abort', pieces.giveUp); // M2
  try {
    const head = { modelName: served.name, modelVersion: versionOf(served, versions), id };
    const labels = await labelsFor(served, wanted, versions);
    const answer = async (record: TensorRecord, isLast: boolean): Promise<void> => {
      refuseGone(signal);
      await tell({ ...head, outputs: outputsOf(record, wanted, labels) }, isLast);
      refuseGone(signal);
    };
    refuseGone(signal);
    if (!ask.inPieces || pieces.isWhole) {
      await answer(await pieces.whole(deadlineAt, maxBodyBytes), true);
      return true;
    }
    let piece = await pieces.next(deadlineAt); // M3
    while (piece !== undefined) {
      await answer(piece, false); // M1
      piece = await pieces.next();
    }
    refuseGone(signal);
    return false;
  } catch (error) {
    pieces.giveUp(); // M2
    throw error;
  } finally {
    signal.removeEventListener('abort', pieces.giveUp);
  }
}

class TextPieces implements Pieces {
  readonly #stream: TextStream;
  readonly giveUp: () => void;

  constructor(answer: unknown) {
    this.#stream = new TextStream(answer);
    this.giveUp = this.#stream.giveUp;
  }

  get isWhole(): boolean {
    return this.#stream.isWhole;
  }

  async next(deadlineAt?: number): Promise<TensorRecord | undefined> {
    for (;;) {
      const part = await this.#stream.next(deadlineAt);
      if (part === undefined) return undefined;
      // One without text says why it ended, for which there is no tensor.
      if (part.text !== undefined && part.text !== '') return { [TEXT_OUTPUT]: [part.text] };
    }
  }

  async whole(deadlineAt: number, charsMax: number): Promise<TensorRecord> {
    const { text = '' } = await this.#stream.whole(deadlineAt, charsMax);
    return { [TEXT_OUTPUT]: [text] };
  }
}

/** The replica has held each piece against the signature. */
class TensorPieces extends PieceStream<TensorRecord> implements Pieces {
  readonly #model: string;

  constructor(answer: unknown, model: string) {
    super(answer, (value) => value as TensorRecord);
    this.#model = model;
  }

  async whole(deadlineAt: number): Promise<TensorRecord> {
    const first = await this.next(deadlineAt);
    const second = first === undefined ? undefined : await this.next(deadlineAt);
    if (first !== undefined && second === undefined) return first;
    const many = first === undefined ? 'none' : 'more than one';
    throw new Refusal(
      501,
      `generate has room for exactly one answer, and model "${this.#model}" gave ${many}; ask it by generate_stream`,
    );
  }
}

/** As tensors of one record: a request without batches is answered without. */
function outputsOf(
  record: TensorRecord,
  wanted: ManyRequest['wanted'],
  labels: ModelLabels | undefined,
): OipResponse['outputs'] {
  return tensorsOf([record], wanted, labels).map((output) => ({ ...output, shape: output.shape.slice(1) }));
}

function refuseGone({ aborted }: RequestTerms['signal']): void {
  if (aborted) throw new TroupeError('CANCELLED', 'The client has gone');
}
