import { TroupeError } from '../kernel/errors.js';
import { type InlineEntry, type HostLane, STATE_BUSY, STATE_WORD_COUNT, type ToHost } from '../wire/messages.js';
import { fromFault, toFault } from '../wire/fault.js';
import type { Carrier } from './carrier.js';
import type { Link, StartLink } from './link.js';
import { LinkCore } from './link-core.js';

/** By URL, as the entries of threads and children: host and entry share no code but wire. */
const ENTRY_URL = new URL('../entry/inline.js', import.meta.url).href;

/**
 * Runs a replica in this thread. It is isolated in nothing but its errors: an endless loop blocks the host, an unhandled
 * rejection it leaves behind is the host's, and a hung one can only be fenced.
 */
export const startInline: StartLink = (spec, events): Link => {
  const core = new LinkCore(spec, events);
  const state = new Int32Array(STATE_WORD_COUNT);
  let isFenced = false;
  /** A stop or a kill came before the entry was there: the module of the actor is not even imported then. */
  let isUnwanted = false;
  const lane: HostLane = {
    // Deferred: predict may answer inside our own post.
    post: (message: ToHost) => {
      core.message(message);
      return undefined;
    },
    copy: (value) => value,
  };
  const opened = (import(ENTRY_URL) as Promise<InlineEntry>).then(({ openInline }) => openInline(lane, state));
  let ready: Awaited<typeof opened> | undefined;
  let end = (): void => {
    end = () => undefined;
    core.closedBy({ exitCode: 0 });
  };
  const carrier: Carrier = {
    isLocal: true,
    control: {
      start: async (entrySpec) => {
        const runner = await opened;
        if (isUnwanted) return { ok: false, fault: toFault(new TroupeError('CANCELLED', 'Stopped before its load')) };
        ready = runner;
        return runner.start(entrySpec);
      },
      call: async (method, args) => (await opened).call(method, args),
      loadModel: async (model) => (await opened).loadModel(model),
      unloadModel: async (key) => (await opened).unloadModel(key),
      stop: async (now, sentCount) => {
        isUnwanted = true;
        const answer = await (await opened).stop(now, sentCount);
        // After the link has heard the answer.
        setImmediate(() => end());
        return answer;
      },
    },
    // setImmediate and not a microtask: a busy pool would otherwise never let timers and sockets have their turn.
    post: (message) => {
      setImmediate(() => ready?.receive(message));
      return undefined;
    },
    copy: (value) => value,
    terminate: () => undefined,
    kill: () => {
      const isIdle = Atomics.load(state, STATE_BUSY) === 0;
      if (!isFenced) {
        isFenced = true;
        isUnwanted = true;
        ready?.fence();
        void opened
          .then((runner) => runner.stop(true, 0))
          .then((answer) => {
            if (!answer.ok) process.emitWarning(fromFault(answer.fault));
            end();
          });
      }
      return isIdle;
    },
    release: () => undefined,
  };
  core.begin(carrier);
  return core;
};
