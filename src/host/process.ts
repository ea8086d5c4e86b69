import { type ChildProcess, fork } from 'node:child_process';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { systemClock } from '../kernel/clock.js';
import { callControl } from '../wire/control-lane.js';
import { DATA_FD, type ProcessData, PULSE_BEAT, PULSE_FD, PULSE_OUT_OF_MEMORY, type ToHost } from '../wire/messages.js';
import { copyThroughProcess } from '../wire/process-codec.js';
import { openSocketLane } from '../wire/socket-lane.js';
import type { Carrier, RawEnd } from './carrier.js';
import { childEnv, childExecArgv } from './child-options.js';
import type { Link, ReplicaSpec, StartLink } from './link.js';
import { LinkCore } from './link-core.js';
import { forwardOutput } from './output.js';
import { Pulse } from './pulse.js';

const ENTRY_PATH = fileURLToPath(new URL('../entry/process.js', import.meta.url));

/** How long after its end the pipes of a child are still read, where a grandchild holds one of them open. */
const LAST_BYTES_MS = 200;
/** A child that has closed its data lane and lives on is broken. */
const CLOSED_LANE_MS = 1000;

/**
 * Runs a replica in a child process, which contains whatever native code does. Control lane: the IPC channel. Data lane
 * and pulse: socket pairs the child inherits; they have no name, so nobody else can connect and nothing is left behind.
 */
export const startProcess: StartLink = (spec, events): Link => {
  const core = new LinkCore(spec, events);
  let child: ChildProcess;
  try {
    // A child's parent-death signal and its ppid follow the thread and the process that started it.
    if (!isMainThread)
      throw new Error('child processes are started from the main thread only, and this is a worker thread');
    child = fork(ENTRY_PATH, [JSON.stringify(dataOf(spec)), `${spec.pool}/${spec.replica}`], {
      serialization: 'advanced',
      execArgv: childExecArgv(process.execArgv, spec.memoryLimitBytes),
      env: childEnv(process.env),
      // Its stdout is our stderr: results stand on ours. 3 is the IPC channel, then DATA_FD and PULSE_FD.
      stdio: ['ignore', 2, 'pipe', 'ipc', 'pipe', 'pipe'],
    });
  } catch (cause) {
    core.failToStart(cause);
    return core;
  }
  child.on('error', (error) => {
    // Also told when a message to a dead child cannot be sent; then its 'exit' says the rest.
    if (child.pid === undefined) core.failToStart(error);
  });
  if (child.pid === undefined) return core;

  const stdio = child.stdio as readonly unknown[];
  const lane = openSocketLane(stdio[DATA_FD] as Socket, {
    heard: (message) => core.message(message as ToHost),
    broken: (error) => core.garbled(error),
    take: core.arrived.take,
    lends: true, // The results of a reply are copies of it, or arrays that arrived in their own memory.
  });
  const data = lane.socket;
  const pulsePipe = stdio[PULSE_FD] as Socket;
  const stderrTail = forwardOutput(child.stderr);
  let isOutOfMemory = false;
  const pulse = new Pulse(
    spec.heartbeatMs,
    (silentMs) => core.silent(`no heartbeat for ${Math.round(silentMs)} ms`),
    () => core.isLoading,
  );
  pulsePipe.on('data', (bytes: Buffer) => {
    if (bytes.includes(PULSE_OUT_OF_MEMORY)) isOutOfMemory = true;
    if (bytes.includes(PULSE_BEAT)) pulse.beat();
  });
  // A broken pipe is the sign of an end, and 'exit' tells which.
  pulsePipe.on('error', () => undefined);
  data.on('error', () => undefined);
  data.on('end', () => {
    const timer = systemClock.at(systemClock.now() + CLOSED_LANE_MS, () => {
      core.garbled(new Error('the replica closed its data lane and did not end'));
    });
    child.once('exit', () => timer.cancel());
  });

  const calls = callControl({
    // A message to a dead child is dropped: its 'exit' tells the link.
    post: (message) => void (child.connected && child.send(message as object, () => undefined)),
    listen: (listener) => {
      child.on('message', listener);
    },
  });
  const carrier: Carrier = {
    isLocal: false,
    control: calls,
    post: (message) => lane.write(message),
    copy: copyThroughProcess,
    terminate: () => void child.kill('SIGTERM'),
    kill: () => {
      child.kill('SIGKILL');
      return true;
    },
    release: () => calls.release(),
  };
  child.once('exit', (code, signal) => {
    pulse.stop();
    const pipes = [data, pulsePipe, child.stderr].filter((pipe): pipe is Socket => pipe !== null);
    whenRead(pipes, () => {
      for (const pipe of pipes) pipe.destroy();
      if (child.connected) child.disconnect();
      core.closedBy(endOf(code, signal, stderrTail(), isOutOfMemory));
    });
  });
  core.begin(carrier);
  return core;
};

function dataOf(spec: ReplicaSpec): ProcessData {
  const { incarnation, heartbeatMs, memoryLimitBytes } = spec;
  return { incarnation, parentPid: process.pid, heartbeatMs, memoryLimitBytes };
}

/** Calls `done` when every pipe was read to its end, or after LAST_BYTES_MS. */
function whenRead(pipes: readonly Readable[], done: () => void): void {
  let open = 0;
  let isDone = false;
  const finish = (): void => {
    if (isDone) return;
    isDone = true;
    timer.cancel();
    done();
  };
  // Through a poll phase: a busy host sees the timer first, and what the child wrote only then.
  const timer = systemClock.at(systemClock.now() + LAST_BYTES_MS, () => void setImmediate(finish));
  for (const pipe of pipes) {
    if (pipe.closed || pipe.readableEnded) continue;
    open++;
    pipe.once('close', () => {
      if (--open === 0) finish();
    });
  }
  if (open === 0) setImmediate(finish);
}

/** V8 says so on stderr and then aborts. 134 = 128 + SIGABRT, where a shell stands between. */
function endOf(code: number | null, signal: NodeJS.Signals | null, stderrTail: string, wasOverLimit: boolean): RawEnd {
  const hasAborted = signal === 'SIGABRT' || signal === 'SIGTRAP' || code === 134;
  const isOutOfMemory = wasOverLimit || (hasAborted && /out of memory/i.test(stderrTail));
  return {
    ...(code === null ? {} : { exitCode: code }),
    ...(signal === null ? {} : { signal }),
    stderrTail,
    isOutOfMemory,
  };
}
