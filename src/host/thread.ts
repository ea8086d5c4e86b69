import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { callControl } from '../wire/control-lane.js';
import { STATE_NATIVE, STATE_WORD_COUNT, type ThreadData, type ToHost } from '../wire/messages.js';
import { Paced } from '../wire/paced.js';
import { fromPort, postToEntry } from '../wire/port-lane.js';
import type { Carrier, RawEnd } from './carrier.js';
import type { Link, StartLink } from './link.js';
import { LinkCore } from './link-core.js';
import { forwardOutput } from './output.js';

const ENTRY_URL = new URL('../entry/thread.js', import.meta.url);

/**
 * Runs a replica in a worker thread: a control port for comlink, a data port with one message per batch. A thread shares
 * the process: a native crash or the wrong kind of heap exhaustion in it ends everything, which is why native engines
 * belong into child processes.
 */
export const startThread: StartLink = (spec, events): Link => {
  const core = new LinkCore(spec, events);
  const state = new Int32Array(new SharedArrayBuffer(STATE_WORD_COUNT * Int32Array.BYTES_PER_ELEMENT));
  const control = new MessageChannel();
  const data = new MessageChannel();
  const workerData: ThreadData = { incarnation: spec.incarnation, state, control: control.port2, data: data.port2 };
  let worker: Worker;
  try {
    worker = new Worker(ENTRY_URL, {
      name: `troupe ${spec.pool}/${spec.replica}`,
      workerData,
      transferList: [control.port2, data.port2],
      stdout: true,
      stderr: true,
      ...(spec.memoryLimitBytes === undefined ? {} : { resourceLimits: limitsOf(spec.memoryLimitBytes) }),
    });
  } catch (cause) {
    core.failToStart(cause);
    return core;
  }
  let error: unknown;
  // First of all listeners: a worker error without one ends the host.
  worker.on('error', (thrown: unknown) => {
    error = thrown;
  });
  worker.on('messageerror', (thrown: unknown) => core.garbled(thrown));
  forwardOutput(worker.stdout);
  const stderrTail = forwardOutput(worker.stderr);

  // The worker itself keeps the host alive, and only as long as it runs; open ports alone must not.
  const heard = new Paced((message) => core.message(fromPort(message) as ToHost));
  listen(data.port1, heard.take, (thrown) => core.garbled(thrown));
  // That a native thread is idle now proves nothing: the batch it takes up next may wait in its port already.
  const mayTerminate = (): boolean => Atomics.load(state, STATE_NATIVE) === 0;
  const calls = callControl({
    post: (message) => control.port1.postMessage(message),
    listen: (listener) => listen(control.port1, listener, (thrown) => core.garbled(thrown)),
  });
  const carrier: Carrier = {
    isLocal: false,
    control: calls,
    post: (message) => {
      postToEntry(data.port1, message);
      return undefined;
    },
    copy: (value) => structuredClone(value),
    terminate: () => undefined,
    kill: () => {
      if (mayTerminate()) {
        void worker.terminate();
        return true;
      }
      // Terminating a thread inside native code aborts the process. It ends itself, at once or when its call returns; the
      // answer to this stop may come long after the link has told its end.
      calls.stop(true, 0).catch(() => undefined);
      return false;
    },
    release: () => calls.release(),
  };
  worker.on('exit', (exitCode) => {
    // Replies posted before the end have arrived, though their events may still wait in the port.
    heard.goOn();
    for (let last = receiveMessageOnPort(data.port1); last !== undefined; last = receiveMessageOnPort(data.port1)) {
      core.message(fromPort(last.message) as ToHost);
    }
    control.port1.close();
    data.port1.close();
    core.closedBy(endOf(exitCode, error, stderrTail()));
  });
  core.begin(carrier);
  return core;
};

function listen(port: MessagePort, heard: (message: unknown) => void, failed: (error: unknown) => void): void {
  port.on('message', heard);
  port.on('messageerror', failed);
  port.unref();
}

function endOf(exitCode: number, error: unknown, stderrTail: string): RawEnd {
  if (error === undefined) return { exitCode, stderrTail };
  const isOutOfMemory = (error as { code?: unknown }).code === 'ERR_WORKER_OUT_OF_MEMORY';
  return { exitCode, error, isOutOfMemory, stderrTail };
}

/** The limit holds for the JS heap; buffers are outside of it, and a hard limit needs a child process. */
function limitsOf(memoryLimitBytes: number): { maxOldGenerationSizeMb: number } {
  return { maxOldGenerationSizeMb: Math.max(8, Math.floor(memoryLimitBytes / 2 ** 20)) };
}
