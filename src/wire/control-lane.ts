import { expose, releaseProxy, wrap, type Endpoint } from 'comlink';
import type { ControlApi } from './messages.js';

/**
 * The door to comlink: the control lane's calls over any two-way channel. A comlink call to a dead peer never settles, so
 * every caller races its call against the death of the replica and, where there is one, a deadline.
 */
export interface ControlChannel {
  post(message: unknown): void;
  /** Hears every message of the other side, for as long as the channel lives. */
  listen(listener: (message: unknown) => void): void;
}

/** Serves the calls on this side. */
export function serveControl(api: ControlApi, channel: ControlChannel): void {
  // Own closures instead of the runner itself: comlink walks any property path it is sent.
  const served: ControlApi = {
    start: (spec) => api.start(spec),
    call: (method, args) => api.call(method, args),
    stop: (now, sentCount) => api.stop(now, sentCount),
    loadModel: (spec) => api.loadModel(spec),
    unloadModel: (key) => api.unloadModel(key),
  };
  expose(served, endpointOf(channel));
}

/** The calls, and an end of them. */
export interface ControlCalls extends ControlApi {
  /**
   * To be called when the other side has ended; no call may follow. comlink keeps the channel of every proxy alive until
   * the proxy is garbage, and a channel that leads back to its proxy would keep both for ever.
   */
  release(): void;
}

/** Calls the other side. A message that cannot be copied rejects with a DataCloneError. */
export function callControl(channel: ControlChannel): ControlCalls {
  const remote = wrap<ControlApi>(endpointOf(channel));
  return {
    start: (spec) => remote.start(spec),
    call: (method, args) => remote.call(method, args),
    stop: (now, sentCount) => remote.stop(now, sentCount),
    loadModel: (spec) => remote.loadModel(spec),
    unloadModel: (key) => remote.unloadModel(key),
    release: () => remote[releaseProxy](),
  };
}

function endpointOf(channel: ControlChannel): Endpoint {
  const listeners = new Set<(event: MessageEvent) => void>();
  channel.listen((data) => {
    const event = { data } as MessageEvent;
    for (const listener of listeners) listener(event);
  });
  return {
    postMessage: (message: unknown) => channel.post(message),
    addEventListener: (_type, listener) => {
      listeners.add(listener as (event: MessageEvent) => void);
    },
    removeEventListener: (_type, listener) => {
      listeners.delete(listener as (event: MessageEvent) => void);
    },
  };
}
