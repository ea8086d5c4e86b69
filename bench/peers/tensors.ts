import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { createSystem, silentLog } from 'troupe';
import { type Kind, type Lane, type OpenLane, workerUrl } from './lane.js';

/**
 * Ways to have one large Float32Array echoed. The caller keeps what it sends in each of them, as one that may have to send
 * it again must, and gets an array of its own back; only `given` gives its array away.
 */
export type TensorLane = Lane & { readonly isOurs?: boolean };

export function tensorLanes(values: number, inFlight: number): readonly TensorLane[] {
  return [
    ours('thread', inFlight),
    transfer('transfer'),
    transfer('given'),
    ours('process', inFlight),
    ...sockets(values),
    forked,
  ];
}

function ours(kind: Kind, inFlight: number): TensorLane {
  return {
    id: `troupe-${kind}`,
    kind,
    isOurs: true,
    setup: `isolation ${kind}, batching.maxSize 1, maxInFlight ${inFlight}`,
    async open() {
      const system = createSystem({ log: silentLog });
      const pool = await system.spawn<Float32Array, Float32Array>('echo', {
        actor: workerUrl('echo-actor').href,
        isolation: kind,
        batching: { maxSize: 1, maxInFlight: inFlight },
      });
      return { ask: (input) => pool.ask(input), close: () => system.stop() };
    },
  };
}

function transfer(id: 'transfer' | 'given'): TensorLane {
  return {
    id,
    kind: 'thread',
    setup:
      id === 'given'
        ? 'bare worker; a new array is transferred without a copy, and transferred back'
        : 'bare worker; a copy is transferred, and transferred back',
    async open() {
      const worker = new Worker(workerUrl('echo-transfer'));
      await once(worker, 'online');
      const waiting: ((value: Float32Array) => void)[] = [];
      worker.on('message', (value: Float32Array) => waiting.shift()?.(value));
      return {
        ask: (input) =>
          new Promise((resolve) => {
            waiting.push(resolve);
            let sent = input.slice(0, 0);
            if (id === 'transfer') sent = input.slice();
            else {
              sent = new Float32Array(input.length);
              sent[0] = input[0] as number;
              sent[sent.length - 1] = input[input.length - 1] as number;
            }
            worker.postMessage(sent, [sent.buffer as ArrayBuffer]);
          }),
        close: () => worker.terminate(),
      };
    },
  };
}

function sockets(values: number): TensorLane[] {
  const open = async (): Promise<OpenLane> => {
    const bytes = values * Float32Array.BYTES_PER_ELEMENT;
    const child = fork(fileURLToPath(workerUrl('echo-socket')), [String(bytes)], {
      execArgv: [],
      stdio: ['ignore', 2, 2, 'ipc', 'pipe'],
    });
    await once(child, 'spawn');
    const socket = child.stdio[4] as unknown as Socket;
    const waiting: ((value: Float32Array) => void)[] = [];
    let value = Buffer.allocUnsafeSlow(bytes);
    let fill = 0;
    socket.on('data', (chunk: Buffer) => {
      for (let at = 0; at < chunk.length; ) {
        const length = Math.min(bytes - fill, chunk.length - at);
        value.set(chunk.subarray(at, at + length), fill);
        fill += length;
        at += length;
        if (fill < bytes) continue;
        waiting.shift()?.(new Float32Array(value.buffer));
        value = Buffer.allocUnsafeSlow(bytes);
        fill = 0;
      }
    });
    return {
      ask: (input) =>
        new Promise((resolve) => {
          waiting.push(resolve);
          socket.write(new Uint8Array(input.buffer));
        }),
      async close() {
        const gone = once(child, 'exit');
        child.disconnect();
        await gone;
      },
    };
  };
  return [
    { id: 'socket', kind: 'process', setup: 'bare Unix socket, written from the array, read into a new one', open },
  ];
}

const forked: TensorLane = {
  id: 'fork',
  kind: 'process',
  setup: 'bare fork, advanced serialization',
  async open() {
    const child = fork(workerUrl('echo-fork'), { serialization: 'advanced', execArgv: [] });
    await once(child, 'spawn');
    const waiting: ((value: Float32Array) => void)[] = [];
    child.on('message', ({ value }: { value: Float32Array }) => waiting.shift()?.(value));
    return {
      ask: (value) =>
        new Promise((resolve) => {
          waiting.push(resolve);
          child.send({ id: 0, value });
        }),
      async close() {
        const gone = once(child, 'exit');
        child.disconnect();
        await gone;
      },
    };
  },
};
