import { systemClock } from '../kernel/clock.js';
import { serveControl } from '../wire/control-lane.js';
import { toFault } from '../wire/fault.js';
import { DATA_FD, STATE_WORD_COUNT, type ToEntry } from '../wire/messages.js';
import { copyThroughProcess } from '../wire/process-codec.js';
import { Recycler } from '../wire/recycler.js';
import { openSocketLane } from '../wire/socket-lane.js';
import { createShell } from './shell.js';
import { settings, watched } from './watched.js';

/**
 * What a child process does once it is watched: control lane over the IPC channel, data lane over an inherited socket, and
 * the manners of a child: it outlives Ctrl-C (the host decides), obeys SIGTERM, and never outlives its host.
 */

/** Memory of batches that the actor is done with: the next ones are read into it. */
const spent = new Recycler();
const lane = openSocketLane(DATA_FD, {
  take: spent.take,
  heard: (message) => shell.receive(message as ToEntry),
  broken: (error) => {
    throw error;
  },
});
const data = lane.socket;
const shell = createShell(
  {
    post: (message) => lane.write(message),
    copy: copyThroughProcess,
    // Moved into new objects: an actor that kept a view all the same sees no values in it, instead of those of a later batch.
    giveBack: (buffers) => buffers.forEach((buffer) => spent.give(structuredClone(buffer, { transfer: [buffer] }))),
  },
  new Int32Array(STATE_WORD_COUNT),
  { copiesOutputs: false }, // The lane copies, or has the shell wait.
);
data.on('error', leaveOrphaned);
data.on('end', leaveOrphaned);

let isLeaving = false;
serveControl(
  {
    start: async (spec) => {
      const answer = await shell.start(spec);
      await watched;
      return answer;
    },
    call: (method, args) => shell.call(method, args),
    loadModel: (spec) => shell.loadModel(spec),
    unloadModel: (key) => shell.unloadModel(key),
    stop: async (now, sentCount) => {
      const answer = await shell.stop(now, sentCount);
      isLeaving = true;
      return answer;
    },
  },
  {
    // Leaving before the answer is written would cut it off.
    post: (message) => {
      process.send?.(message, undefined, {}, () => {
        if (isLeaving) process.exit(0);
      });
    },
    listen: (listener) => {
      process.on('message', listener);
    },
  },
);

/** How long the last words may take to be written. */
const LAST_WORDS_MS = 200;

// Also hears unhandled rejections.
process.on('uncaughtException', (error: unknown) => {
  // As a fault: what was thrown may itself throw when it is looked at.
  const fault = toFault(error);
  process.stderr.write(`${fault.stack ?? fault.message}\n`);
  const flushed = lane.write({ kind: 'crash', incarnation: settings.incarnation, fault });
  const leave = (): never => process.exit(1);
  systemClock.at(systemClock.now() + LAST_WORDS_MS, leave);
  if (flushed !== undefined) void flushed.then(leave);
  else if (data.writableLength === 0) leave();
  else data.once('drain', leave);
});

// Ctrl-C reaches the whole process group; the host drains and tells its children.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => {
  void shell.stop(false, 0).then(() => {
    // By the same signal again, so that whoever sent it sees what ended the process.
    process.removeAllListeners('SIGTERM');
    process.kill(process.pid, 'SIGTERM');
  });
});
process.on('disconnect', leaveOrphaned);

/** The host is gone or has dropped us. The watchdog does the same for a child whose loop is blocked. */
function leaveOrphaned(): void {
  process.exit(0);
}
