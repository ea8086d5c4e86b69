/**
 * A request to a model that may answer it any number of times, whichever protocol brought it: asked, and told answer by answer.
 *
 * M1 an answer is told when the one before it was taken, so that a reader who is slow stops the actor. M2 a client that leaves,
 * and an answer that cannot be told, give the rest up. M3 the deadline is for the first answer, or for the whole where that is
 * wanted as one.
 */
import { TroupeError } from '../kernel/errors.js';
import type { TensorRecord, TensorSpec } from '../wire/tensor.js';
import { inferAll } from './infer-call.js';
import { priorityOf, type RequestTerms, timeoutOf, versionOf } from './oip-answer.js';
import { tensorsOf } from './oip-records.js';
import type { RequestedOutput } from './oip-request.js';
import type { OipResponse } from './oip-response.js';
import type { ServedModel } from './served-models.js';
import type { ResolvedServe } from './serve-options.js';
import { TEXT_OUTPUT, textAsk } from './text-model.js';
import { TextStream } from './text-stream.js';

export interface ManyRequest {
  readonly id: string;
  /** Inputs and parameters. */
  readonly fields: ReadonlyMap<string, unknown>;
  /** More than one answer can be sent. */
  readonly mayStream: boolean;
  readonly wanted: ReadonlyMap<TensorSpec, RequestedOutput>;
}

/** Resolves when the answer has been taken, so that there is room for the next. `isLast`: no other follows. */
export type Tell = (response: OipResponse, isLast: boolean) => Promise<void>;

/**
 * Resolves when all answers are told, to whether the last of them was told as such. Rejects with what failed, before the
 * first or later.
 */
export async function answerMany(
  served: ServedModel,
  { id, fields, mayStream, wanted }: ManyRequest,
  { timeoutMs, maxBodyBytes }: Pick<ResolvedServe, 'timeoutMs' | 'maxBodyBytes'>,
  { receivedAt, deadlineAt: callDeadlineAt, traceparent, signal }: RequestTerms,
  tell: Tell,
): Promise<boolean> {
  const { record, inPieces } = textAsk(served.pool.kinds, fields, mayStream);
  const terms = { parameters: fields };
  const deadlineAt = Math.min(callDeadlineAt, receivedAt + timeoutOf(terms, timeoutMs));
  const priority = priorityOf(terms);
  const { values, versions } = await inferAll<unknown, unknown>(served.pool, [record], {
    deadlineAt,
    priority,
    model: served.model,
    traceparent,
    signal,
  });
  const stream = new TextStream(values[0]);
  signal.addEventListener('abort', stream.giveUp); // M2
  try {
    const head = { modelName: served.name, modelVersion: versionOf(served, versions), id };
    const answer = async (text: string, isLast: boolean): Promise<void> => {
      await tell({ ...head, outputs: outputsOf({ [TEXT_OUTPUT]: [text] }, wanted) }, isLast);
      refuseGone(signal);
    };
    refuseGone(signal);
    if (!inPieces || stream.isWhole) {
      const { text = '' } = await stream.whole(deadlineAt, maxBodyBytes);
      refuseGone(signal);
      await answer(text, true);
      return true;
    }
    let piece = await stream.next(deadlineAt); // M3
    while (piece !== undefined) {
      if (piece.text !== undefined && piece.text !== '') await answer(piece.text, false); // M1
      piece = await stream.next();
    }
    refuseGone(signal);
    return false;
  } catch (error) {
    stream.giveUp(); // M2
    throw error;
  } finally {
    signal.removeEventListener('abort', stream.giveUp);
  }
}

/** As tensors of one record: a request without batches is answered without. */
function outputsOf(record: TensorRecord, wanted: ManyRequest['wanted']): OipResponse['outputs'] {
  return tensorsOf([record], wanted).map((output) => ({ ...output, shape: output.shape.slice(1) }));
}

function refuseGone({ aborted }: RequestTerms['signal']): void {
  if (aborted) throw new TroupeError('CANCELLED', 'The client has gone');
}
