/**
 * The ready-made actor `triton`: a model behind any server of the Open Inference Protocol v2, over HTTP/1.1 or gRPC (NVIDIA
 * Triton, KServe, MLServer, `troupe serve`). A batch is one request whose first dimension is the number of its records; what
 * the model takes and gives, and how many at once, is read from the server when a replica loads.
 *
 * It waits and does not compute, so it lives inline; `replicas` is how many requests are under way at once.
 */

import {
  defineActor,
  TroupeError,
  type Columns,
  type LoadContext,
  type PredictContext,
  type Signature,
  type TensorRecord,
} from 'troupe/actor';
import {
  type GrpcEndpoint,
  OipClient,
  openEndpoint,
  REMOTE_KEYS,
  type RemoteCounts,
  type RemoteEndpoint,
  type RemoteOptions,
} from 'troupe/remote';

/** `options` of a pool whose actor is `triton`. Unknown keys are refused. */
export interface TritonOptions extends RemoteOptions {
  /** Where the server listens: http://127.0.0.1:8000, where a path before /v2 belongs to it, https, grpc://127.0.0.1:8001, or grpcs. */
  readonly endpoint: string;
  /** Name of the model at the server. Default: the name of the pool. */
  readonly model?: string;
  /** Default: the one that the server chooses. */
  readonly version?: string | number;
  /** Which of its outputs are asked for. Default: all. */
  readonly outputs?: readonly string[];
  /** How tensors travel over HTTP; auto: as bytes where the server says that it takes them, else as JSON. Default auto. */
  readonly tensors?: 'auto' | 'binary' | 'json';
  /** What the model takes and gives, as in `defineActor`: the batch dimension is left out. Default: what the server tells. */
  readonly signature?: Signature;
  /** How long a replica that loads waits for a server or a model that is not ready yet. Default 0. */
  readonly waitMs?: number;
}

interface TritonState {
  readonly endpoint: RemoteEndpoint | GrpcEndpoint;
  readonly client: OipClient;
}

interface Opened extends TritonState {
  readonly waitMs: number;
}

const OWN_KEYS = ['endpoint', 'model', 'version', 'outputs', 'tensors', 'signature', 'waitMs'];
const KEYS: readonly string[] = [...OWN_KEYS, ...REMOTE_KEYS];

export default defineActor<TensorRecord, TensorRecord, TritonState>({
  isolation: 'inline',

  async load(context) {
    let opened: Opened | undefined;
    try {
      opened = open(context);
      await opened.client.open(context.signal, opened.waitMs);
      return opened;
    } catch (error) {
      opened?.endpoint.close();
      throw told(error, context);
    }
  },

  predict: (batch: Columns, { state, signal }: PredictContext<TritonState>) => state.client.infer(batch, signal),

  unload: ({ endpoint }) => endpoint.close(),

  signature: ({ client }) => client.signature as Signature, // load() has opened it.

  methods: {
    /** Requests so far, and how many of them were further tries. */
    counts: ({ endpoint }): RemoteCounts => endpoint.counts,
  },
});

function open(context: LoadContext): Opened {
  const where = `Pool "${context.pool}": actor triton`;
  for (const key of Object.keys(context.options))
    if (!KEYS.includes(key)) throw new TypeError(`${where} has no option "${key}"; it has ${KEYS.join(', ')}`);
  // Each of them is checked where it is used.
  const options = context.options as Partial<TritonOptions>;
  const { model = context.model ?? context.pool, version, outputs, tensors = 'auto', signature, waitMs = 0 } = options;
  if (typeof waitMs !== 'number' || !(waitMs >= 0))
    throw new TypeError(`${where}: waitMs must be a number of milliseconds of at least 0, got ${String(waitMs)}`);
  const endpoint = openEndpoint(where, 'endpoint', options.endpoint, options);
  const client = new OipClient(where, endpoint, {
    model,
    tensors,
    ...(version === undefined ? {} : { version: String(version) }),
    ...(outputs === undefined ? {} : { outputs }),
    ...(signature === undefined ? {} : { signature }),
  });
  return { endpoint, client, waitMs };
}

const ADVICE: Readonly<Record<string, string>> = {
  REMOTE_UNAVAILABLE: 'start the server, correct options.endpoint, or set options.waitMs to wait for it',
  REMOTE_REFUSED: 'correct options.endpoint, options.allow or options.token',
  MODEL_NOT_FOUND: 'correct options.model or options.version',
  NAME_INVALID: 'correct options.model or options.version',
  ACTOR_INVALID: 'correct options.signature',
};

/** Which pool it was, and what to do. */
function told(error: unknown, { pool }: LoadContext): unknown {
  if (!(error instanceof TroupeError)) return error;
  const advice = ADVICE[error.code];
  const message = `Pool "${pool}": ${error.message}${advice === undefined ? '' : `; ${advice}`}`;
  return new TroupeError(error.code, message, { actor: pool, ran: 'not-started', cause: error.cause });
}
