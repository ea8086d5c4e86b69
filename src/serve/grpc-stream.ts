import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import type { HeldBytes, Refusal } from '../stream/http-body.js';
import type { GrpcCall } from './grpc-call.js';

/** An answer to one message of a stream, or why there is none and what is said instead. */
export type StreamAnswer =
  | { readonly kind: 'answered'; readonly parts: readonly Uint8Array[]; readonly held: number }
  | { readonly kind: 'failed'; readonly error: unknown; readonly parts: readonly Uint8Array[] };

/** Sends a message, of which the budget has `held`. Resolves when there is room for another. */
export type Send = (parts: readonly Uint8Array[], held: number) => Promise<void>;

/**
 * How a message is answered, none of which may reject: once, in its turn; or any number of times, as answers come, before the
 * last one or undefined.
 */
export type StreamWork =
  | { readonly kind: 'once'; readonly answer: Promise<StreamAnswer> }
  | { readonly kind: 'many'; readonly run: (send: Send) => Promise<StreamAnswer | undefined> };

/** Of one stream; what comes behind waits unread, so that its client stops sending. */
const UNDER_WAY_MAX = 64;

/**
 * Answers the messages of a stream, several at a time: those that have one answer in their order, those that may have many
 * beside them. One that fails is answered so and the stream goes on, unless `failsWhole`: then it ends with the status of that
 * error. `begin` must not reject; it gives back what the message holds; the call gives back what answers hold.
 */
export async function answerStream(
  call: GrpcCall,
  failsWhole: boolean,
  begin: (message: HeldBytes | Refusal) => Promise<StreamWork>,
): Promise<void> {
  const underWay = new Set<Promise<void>>();
  let room: Deferred<void> | undefined;
  let lastOnce: Promise<void> = Promise.resolve();
  let lastSent: Promise<void> = Promise.resolve();
  // One at a time: the call tells of room for one sender.
  const send: Send = (parts, held) => (lastSent = lastSent.then(() => call.send(parts, held)));
  const tell = async (got: StreamAnswer | undefined): Promise<void> => {
    if (got === undefined) return;
    if (got.kind === 'failed' && failsWhole) call.fail(got.error);
    else await send(got.parts, got.kind === 'answered' ? got.held : 0);
  };
  const answerOnce = async (before: Promise<void>, answering: Promise<StreamAnswer>): Promise<void> => {
    await before;
    await tell(await answering);
  };
  const answer = (work: StreamWork): Promise<void> => {
    if (work.kind === 'many') return work.run(send).then(tell);
    lastOnce = answerOnce(lastOnce, work.answer);
    return lastOnce;
  };
  try {
    for (;;) {
      if (underWay.size === UNDER_WAY_MAX) {
        room = deferred();
        await room.promise;
        room = undefined;
      }
      const message = await call.next();
      if (message === undefined) break;
      const one = answer(await begin(message)).then(() => {
        underWay.delete(one);
        room?.resolve();
      });
      underWay.add(one);
    }
  } finally {
    await Promise.all(underWay);
  }
  if (call.isDraining) throw new TroupeError('POOL_STOPPED', 'The server is stopping');
  call.end();
}
