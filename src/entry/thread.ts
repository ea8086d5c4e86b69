import { type MessagePort, workerData } from 'node:worker_threads';
import { serveControl } from '../wire/control-lane.js';
import { toFault } from '../wire/fault.js';
import type { ThreadData, ToEntry } from '../wire/messages.js';
import { Paced } from '../wire/paced.js';
import { fromPort, postToHost } from '../wire/port-lane.js';
import { createShell } from './shell.js';

/** First file of a worker thread: two ports in, one shell. The host listens on both before this file runs. */

const { incarnation, state, ...ports } = workerData as ThreadData;
const control = ports.control as MessagePort;
const data = ports.data as MessagePort;

const shell = createShell(
  {
    post: (message) => {
      postToHost(data, message);
      return undefined;
    },
    copy: (value) => structuredClone(value),
    giveBack: (buffers) => postToHost(data, { kind: 'spent', incarnation, buffers }),
  },
  state,
);

// Also hears unhandled rejections. Last words go over the data lane because an Error in the worker's 'error' event keeps
// less of its fields than a fault; messages posted before exit are always delivered.
process.on('uncaughtException', (error) => {
  data.postMessage({ kind: 'crash', incarnation, fault: toFault(error) });
  process.exit(1);
});

data.on('message', new Paced((message) => shell.receive(fromPort(message) as ToEntry)).take);
serveControl(
  {
    start: (spec) => shell.start(spec),
    call: (method, args) => shell.call(method, args),
    loadModel: (spec) => shell.loadModel(spec),
    unloadModel: (key) => shell.unloadModel(key),
    stop: async (now, sentCount) => {
      const answer = await shell.stop(now, sentCount);
      // After the answer has been posted. Ends timers and handles the actor forgot; safe, because nothing native runs now.
      setImmediate(() => process.exit(0));
      return answer;
    },
  },
  {
    post: (message) => control.postMessage(message),
    listen: (listener) => {
      control.on('message', listener);
    },
  },
);
