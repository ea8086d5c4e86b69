/**
 * The ready-made actor `http`: a model behind any endpoint that takes and gives JSON (Ray Serve, BentoML, TorchServe, a
 * service of your own), by a mapping in its options. One request for a batch, or one for each record.
 *
 * It waits and does not compute, so it lives inline; `replicas` is how many batches are under way at once.
 */

import { setMaxListeners } from 'node:events';
import { defineActor, TroupeError, type LoadContext, type PredictContext } from 'troupe/actor';
import type { RemoteCounts } from 'troupe/remote';
import { find } from './http/mapping.js';
import { resolveHttp, type ResolvedHttp } from './http/options.js';

export type { HttpOptions } from './http/options.js';

type Context = PredictContext<ResolvedHttp>;

export default defineActor<unknown, unknown, ResolvedHttp>({
  isolation: 'inline',

  async load(context) {
    const state = resolveHttp(context);
    try {
      await probe(state, context);
      return state;
    } finally {
      state.health?.close();
    }
  },

  predict(batch: unknown[], context: Context): Promise<readonly unknown[]> {
    return context.state.isBatch ? predictTogether(batch, context) : predictOneByOne(batch, context);
  },

  unload: ({ endpoint }) => endpoint.close(),

  methods: {
    /** Requests so far, and how many of them were further tries. */
    counts: ({ endpoint }): RemoteCounts => endpoint.counts,
  },
});

async function probe({ health }: ResolvedHttp, { pool, signal }: LoadContext): Promise<void> {
  if (health === undefined) return;
  try {
    await health.call({ method: 'GET', retryForMs: 0, signal });
  } catch (error) {
    if (!(error instanceof TroupeError)) throw error;
    const message = `Pool "${pool}": ${error.message}; start the server, or correct options.url or options.health`;
    throw new TroupeError(error.code, message, { actor: pool, ran: 'not-started', cause: error.cause });
  }
}

async function predictTogether(batch: readonly unknown[], { state, signal }: Context): Promise<readonly unknown[]> {
  const { endpoint, method, request, each, at } = state;
  const count = batch.length;
  const body = request({ batch: batch.map((record) => each({ record })) });
  const found = find(await endpoint.callJson({ method, count, signal }, body), at);
  if (Array.isArray(found) && found.length === count) return found.map((output) => resultOf(output, state));
  const what = Array.isArray(found) ? `${found.length} outputs` : 'no list of outputs at response.at';
  const words = `${endpoint.name} answered ${count} records with ${what}`;
  // One record may be the reason: of several, the batch is halved.
  throw new TroupeError(count > 1 ? 'PREDICT_FAILED' : 'PROTOCOL_VIOLATION', words);
}

/** A server that is away is waited for once in a batch and not once for each record. */
async function predictOneByOne(batch: readonly unknown[], { state, signal }: Context): Promise<readonly unknown[]> {
  const { endpoint, method, request, at, concurrency, retryForMs } = state;
  // Each request listens to it, and Node takes more than ten for a leak.
  setMaxListeners(2 * concurrency, signal);
  const outputs = new Array<unknown>(batch.length);
  const until = performance.now() + retryForMs;
  let away: TroupeError | undefined;
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < batch.length) {
      const index = next++;
      if (away !== undefined) {
        const { code, message, retryAfterMs, cause } = away;
        const details = retryAfterMs === undefined ? {} : { retryAfterMs };
        outputs[index] = new TroupeError(code, message, { ...details, ran: 'not-started', cause });
        continue;
      }
      const leftMs = Math.max(0, until - performance.now());
      const call = { method, count: 1, retryForMs: leftMs, signal };
      try {
        outputs[index] = resultOf(find(await endpoint.callJson(call, request({ record: batch[index] })), at), state);
      } catch (error) {
        outputs[index] = error;
        if (error instanceof TroupeError && error.code === 'REMOTE_UNAVAILABLE') away = error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, batch.length) }, work));
  return outputs;
}

function resultOf(output: unknown, { endpoint, error, result }: ResolvedHttp): unknown {
  const why = error === undefined ? undefined : (find(output, error) ?? undefined);
  if (why !== undefined) {
    const words = typeof why === 'string' ? why : JSON.stringify(why);
    return new TroupeError('PREDICT_FAILED', `${endpoint.name}: ${words.slice(0, 500)}`);
  }
  const found = find(output, result);
  if (found !== undefined) return found;
  return new TroupeError(
    'PROTOCOL_VIOLATION',
    `${endpoint.name}: the answer has nothing where response says a result lies`,
  );
}
