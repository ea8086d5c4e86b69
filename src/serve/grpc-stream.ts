import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import type { HeldBytes, Refusal } from '../stream/http-body.js';
import type { GrpcCall } from './grpc-call.js';

/** An answer to one message of a stream, or why there is none and what is said instead. */
export type StreamAnswer =
  | { readonly kind: 'answered'; readonly parts: readonly Uint8Array[]; readonly held: number }
  | { readonly kind: 'failed'; readonly error: unknown; readonly parts: readonly Uint8Array[] };

/** Of one stream; what comes behind waits unread, so that its client stops sending. */
const UNDER_WAY_MAX = 64;

/**
 * Answers the messages of a stream, several at a time, in their order. One that fails is answered so and the stream goes on,
 * unless `failsWhole`: then it ends with the status of that error. `answer` must not reject, gives back what the message
 * holds, and takes what its answer holds, which the call gives back.
 */
export async function answerStream(
  call: GrpcCall,
  failsWhole: boolean,
  answer: (message: HeldBytes | Refusal) => Promise<StreamAnswer>,
): Promise<void> {
  let underWay = 0;
  let room: Deferred<void> | undefined;
  let last: Promise<void> = Promise.resolve();
  const send = async (before: Promise<void>, answering: Promise<StreamAnswer>): Promise<void> => {
    await before;
    const got = await answering;
    if (got.kind === 'failed' && failsWhole) call.fail(got.error);
    else await call.send(got.parts, got.kind === 'answered' ? got.held : 0);
    underWay--;
    room?.resolve();
  };
  try {
    for (;;) {
      if (underWay === UNDER_WAY_MAX) {
        room = deferred();
        await room.promise;
        room = undefined;
      }
      const message = await call.next();
      if (message === undefined) break;
      underWay++;
      last = send(last, answer(message));
    }
  } finally {
    await last;
  }
  if (call.isDraining) throw new TroupeError('POOL_STOPPED', 'The server is stopping');
  call.end();
}
