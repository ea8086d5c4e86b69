import test from 'ava';
import { BatchContext } from '../../src/entry/batch-context.js';
import { OutgoingStreams } from '../../src/entry/outgoing-streams.js';
import { deferred } from '../../src/kernel/deferred.js';
import { toFault } from '../../src/wire/fault.js';
import type { ToHost } from '../../src/wire/messages.js';

interface Bench {
  readonly streams: OutgoingStreams;
  readonly posted: string[];
}

function openBench(): Bench {
  const posted: string[] = [];
  const post = (message: ToHost): undefined => {
    if (message.kind === 'piece' || message.kind === 'stream-ended')
      posted.push(`${message.kind} ${message.id}.${message.index}`);
  };
  const nothing = (): void => undefined;
  return { streams: new OutgoingStreams({ post, faultOf: toFault, enter: nothing, leave: nothing }), posted };
}

async function* untilAborted(signal: AbortSignal, waits: () => void): AsyncGenerator<string> {
  yield 'first';
  waits();
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
}

async function* short(): AsyncGenerator<string> {
  yield 'only';
}

test('the signal of a batch comes when of its streams only such are left as were given up', async (t) => {
  const { streams, posted } = openBench();
  const context = new BatchContext(undefined, undefined, undefined);
  const { signal } = context;
  const { promise: isWaiting, resolve } = deferred<void>();
  const outputs = [
    [0, untilAborted(signal, resolve)],
    [1, short()],
  ] as const;
  streams.begin(1, 0, outputs, context, {});
  streams.pull({ kind: 'pull', incarnation: 0, id: 1, index: 0, count: 2 });
  await isWaiting;
  streams.giveUp(1, 0);
  t.false(signal.aborted, 'the other one runs');
  streams.pull({ kind: 'pull', incarnation: 0, id: 1, index: 1, count: 2 });
  await streams.ended();
  t.true(signal.aborted);
  t.deepEqual(
    posted.filter((line) => line.startsWith('stream-ended')),
    ['stream-ended 1.1', 'stream-ended 1.0'],
  );
});

test('the signal of a batch whose streams came to their own end stays silent', async (t) => {
  const { streams } = openBench();
  const context = new BatchContext(undefined, undefined, undefined);
  streams.begin(
    1,
    0,
    [
      [0, short()],
      [1, short()],
    ],
    context,
    {},
  );
  for (const index of [0, 1]) streams.pull({ kind: 'pull', incarnation: 0, id: 1, index, count: 2 });
  await streams.ended();
  t.false(context.signal.aborted);
});

test('an unload waits for the streams that may use the model, and for no others', async (t) => {
  const { streams } = openBench();
  const context = new BatchContext(undefined, undefined, undefined);
  const [fr, de] = [{}, {}];
  streams.begin(1, 0, [[0, short()]], context, fr);
  streams.begin(2, 0, [[0, short()]], context, de);
  const order: string[] = [];
  const all = streams.ended().then(() => order.push('all'));
  const ofFr = streams.ended(fr).then(() => order.push('fr'));
  streams.pull({ kind: 'pull', incarnation: 0, id: 1, index: 0, count: 2 });
  await ofFr;
  t.deepEqual(order, ['fr'], 'that of the other one runs');
  streams.pull({ kind: 'pull', incarnation: 0, id: 2, index: 0, count: 2 });
  await all;
  await streams.ended(de);
  t.deepEqual(order, ['fr', 'all']);
});
