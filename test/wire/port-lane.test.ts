import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import test from 'ava';
import type { ToEntry, ToHost } from '../../src/wire/messages.js';
import { fromPort, postToEntry, postToHost } from '../../src/wire/port-lane.js';
import { packRows } from '../../src/wire/rows.js';

const fault = { name: 'Error', message: 'no', code: undefined } as never;

const arrived = (message: ToEntry | ToHost): unknown => {
  const { port1, port2 } = new MessageChannel();
  switch (message.kind) {
    case 'batch':
    case 'abandon':
    case 'pull':
    case 'end-stream':
      postToEntry(port1, message);
      break;
    default:
      postToHost(port1, message);
  }
  const came = receiveMessageOnPort(port2)?.message as unknown;
  port1.close();
  return fromPort(came);
};

test('every kind of message comes over a port as it was posted', (t) => {
  const even = (): ReturnType<typeof packRows> => packRows([new Float32Array([1, 2]), new Float32Array([3, 4])]);
  const uneven = (): ReturnType<typeof packRows> => packRows([new Uint8Array([1]), new Uint8Array([2, 3])]);
  const large = (): ReturnType<typeof packRows> => packRows([new Float64Array(5000).fill(7)]);
  const rows = (): ReturnType<typeof packRows> => packRows(['one', { two: 2 }]);
  for (const make of [even, uneven, large, rows]) {
    const messages: (() => ToEntry | ToHost)[] = [
      () => ({ kind: 'batch', incarnation: 3, id: 8, payload: make() }),
      () => ({ kind: 'reply', incarnation: 3, id: 8, payload: make(), faults: undefined }),
      () => ({ kind: 'reply', incarnation: 3, id: 8, payload: make(), faults: [[0, fault]] }),
    ];
    for (const message of messages) t.deepEqual(arrived(message()), message());
  }
  const others: (ToEntry | ToHost)[] = [
    { kind: 'abandon', incarnation: 1, id: 2 },
    { kind: 'failed', incarnation: 1, id: 2, fault },
    { kind: 'crash', incarnation: 1, fault },
    { kind: 'pull', incarnation: 1, id: 2, index: 0, count: 16 },
    { kind: 'end-stream', incarnation: 1, id: 2, index: 0 },
    { kind: 'piece', incarnation: 1, id: 2, index: 0, value: { text: 'a' } },
    { kind: 'stream-ended', incarnation: 1, id: 2, index: 0, fault },
    { kind: 'reply', incarnation: 1, id: 2, payload: packRows([undefined]), faults: undefined, streams: [0] },
  ];
  for (const message of others) t.deepEqual(arrived(message), message);
});
