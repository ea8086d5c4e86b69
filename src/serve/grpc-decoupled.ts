import { systemClock } from '../kernel/clock.js';
import { busy, type ByteBudget } from '../stream/http-body.js';
import type { Signature } from '../wire/tensor.js';
import type { GrpcCall } from './grpc-call.js';
import { encodeInferResponse, type InferMessage } from './grpc-infer-message.js';
import type { Send, StreamAnswer } from './grpc-stream.js';
import { answerMany, askOfTensors } from './many-answers.js';
import { refuseLarge } from './oip-answer.js';
import { wantedOutputs } from './oip-records.js';
import { failureOf } from './oip-status.js';
import type { ServedMeter } from './served-meter.js';
import type { ServedModel } from './served-models.js';
import type { ResolvedServe } from './serve-options.js';

export interface DecoupledParts {
  readonly options: ResolvedServe;
  readonly budget: ByteBudget;
  readonly meter: ServedMeter;
}

/** What the budget has of a message, until it is not needed any more. */
export class HeldMessage {
  constructor(
    private readonly budget: ByteBudget,
    private bytes: number,
  ) {}

  release(): void {
    this.budget.give(this.bytes);
    this.bytes = 0;
  }
}

/**
 * One request of a stream to a model that may answer it many times. What is run sends every answer but an empty last one,
 * which it resolves to where the client wants it; rejects with what failed.
 */
export function answerDecoupled(
  { options, budget, meter }: DecoupledParts,
  call: GrpcCall,
  served: ServedModel,
  signature: Signature,
  message: InferMessage,
  held: HeldMessage,
): (send: Send) => Promise<StreamAnswer | undefined> {
  return async (send) => {
    let last: StreamAnswer | undefined;
    const { deadlineAt, signal } = call;
    const work = async (): Promise<number> => {
      const request = message.decode();
      const ask = askOfTensors(served, signature, request, true);
      const wantsEnd = message.wantsEmptyFinal();
      const { traceparent: parents } = call.headers;
      const traceparent = Array.isArray(parents) ? parents.join(', ') : parents;
      const terms = { receivedAt: systemClock.now(), deadlineAt, traceparent, signal };
      let version = '';
      const isTold = await answerMany(
        served,
        { id: message.id, ask, wanted: wantedOutputs(request, signature) },
        options,
        terms,
        async (response, isLast) => {
          version = response.modelVersion;
          const parts = encodeInferResponse(response, true, isLast);
          const size = parts.reduce((total, part) => total + part.length, 0);
          refuseLarge(size, options);
          held.release();
          if (!budget.take(size)) throw busy();
          await send(parts, size);
        },
      );
      const head = { modelName: served.name, modelVersion: version, id: message.id };
      if (wantsEnd && !isTold)
        last = { kind: 'answered', parts: encodeInferResponse({ ...head, outputs: [] }, true), held: 0 };
      return 1;
    };
    try {
      await meter.during(served, work, (error) =>
        call.isLate ? 'late' : signal.aborted ? 'gone' : failureOf(error).outcome,
      );
    } finally {
      held.release();
    }
    return last;
  };
}
