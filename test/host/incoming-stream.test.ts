import { serialize } from 'node:v8';
import test from 'ava';
import { differenceOf } from '../../src/actor/value-difference.js';
import { IncomingStream } from '../../src/host/incoming-stream.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { PIECE_CREDIT } from '../../src/wire/token-stream.js';

function opened(pieceMs = 1000): { stream: IncomingStream; clock: VirtualClock; told: string[] } {
  const clock = new VirtualClock();
  const told: string[] = [];
  const lane = { pull: (count: number) => void told.push(`pull ${count}`), giveUp: () => void told.push('give up') };
  return { stream: new IncomingStream('p', lane, clock, pieceMs), clock, told };
}

test('nothing is asked for before somebody reads, and never more than the credit is on the way', async (t) => {
  const { stream, told } = opened();
  t.deepEqual(told, []);
  const first = stream.next();
  t.deepEqual(told, [`pull ${PIECE_CREDIT}`]);
  for (let n = 0; n < PIECE_CREDIT; n++) stream.piece(n);
  t.deepEqual(await first, { done: false, value: 0 });
  for (let n = 1; n < 8; n++) t.deepEqual(await stream.next(), { done: false, value: n });
  t.deepEqual(told.slice(1), ['pull 8'], 'credit comes back by half');
  for (let n = 8; n < 16; n++) await stream.next();
  t.deepEqual(told.slice(1), ['pull 8', 'pull 8']);
});

test('what came before an error is read before it, the error once, and then it is over', async (t) => {
  const { stream } = opened();
  const first = stream.next();
  stream.piece('a');
  stream.piece('b');
  stream.ended(new TroupeError('ACTOR_CRASHED', 'it died'));
  stream.piece('too late');
  t.is((await first).value, 'a');
  t.is((await stream.next()).value, 'b');
  await t.throwsAsync(stream.next(), { code: 'ACTOR_CRASHED' });
  t.true((await stream.next()).done);
});

test('a loop over it that is left gives it up, once', async (t) => {
  const { stream, told } = opened();
  setImmediate(() => ['a', 'b', 'c'].forEach((piece) => stream.piece(piece)));
  for await (const piece of stream) if (piece === 'b') break;
  await stream.return();
  t.deepEqual(told, [`pull ${PIECE_CREDIT}`, 'give up']);
  t.true((await stream.next()).done, 'what came and was not read is gone');
});

test('a stream cannot be copied to another process as if it were a value, and is never compared by its pieces', (t) => {
  const { stream } = opened();
  const { stream: other } = opened();
  t.throws(() => structuredClone(stream), { any: true, message: /could not be cloned/ });
  t.throws(() => serialize(stream), { any: true, message: /could not be cloned/ });
  t.is(differenceOf(stream, other, 0, 'output'), undefined);
  t.is(typeof differenceOf('whole', other, 0, 'output'), 'string');
});

test('readers that wait are told of the end', async (t) => {
  const { stream } = opened();
  const reads = [stream.next(), stream.next()];
  stream.ended(undefined);
  t.deepEqual(
    (await Promise.all(reads)).map(({ done }) => done),
    [true, true],
  );
});

test('an actor that makes no piece in time ends with DEADLINE_PASSED, counted from the piece before', async (t) => {
  const { stream, clock, told } = opened();
  const first = stream.next();
  clock.advance(900);
  stream.piece('a');
  await first;
  const second = stream.next();
  const late = t.throwsAsync(second, { code: 'DEADLINE_PASSED', message: /made no piece .* 1000 ms/ });
  clock.advance(999);
  t.false(told.includes('give up'));
  clock.advance(1);
  await late;
  t.true(told.includes('give up'));
});

test('a piece that may take for ever leaves a minute to take the next one', async (t) => {
  const { stream, clock, told } = opened(Infinity);
  const first = stream.next();
  clock.advance(3_600_000);
  t.deepEqual(told, ['pull 16']);
  stream.piece('a');
  t.deepEqual(await first, { done: false, value: 'a' });
  stream.piece('b');
  clock.advance(59_999);
  t.deepEqual(told, ['pull 16', 'pull 1']);
  clock.advance(1);
  t.deepEqual(told, ['pull 16', 'pull 1', 'give up']);
});

test('a stream that nobody reads is given up after a minute', async (t) => {
  const { stream, clock, told } = opened();
  clock.advance(59_999);
  t.deepEqual(told, []);
  clock.advance(1);
  t.deepEqual(told, ['give up']);
  await t.throwsAsync(stream.next(), { code: 'CANCELLED' });
});

test('a slow reader gives back what it took with each piece, and the credit stays as it is', async (t) => {
  const { stream, clock, told } = opened();
  const first = stream.next();
  for (let n = 0; n < PIECE_CREDIT; n++) stream.piece(n);
  await first;
  for (let n = 1; n < 4; n++) {
    clock.advance(30_000);
    await stream.next();
  }
  t.deepEqual(told, ['pull 16', 'pull 2', 'pull 1', 'pull 1']);
});

test('more pieces than were asked for end the stream', async (t) => {
  const { stream, told } = opened();
  const first = stream.next();
  for (let n = 0; n < PIECE_CREDIT; n++) stream.piece(n);
  t.is((await first).value, 0);
  t.deepEqual(told, ['pull 16']);
  stream.piece('too much');
  t.deepEqual(told, ['pull 16', 'give up']);
  await t.throwsAsync(stream.next(), { code: 'PROTOCOL_VIOLATION' });
});
