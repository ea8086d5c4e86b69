/**
 * The ready-made actor `openai`: embeddings, completions and chats of a server that speaks OpenAI's HTTP, through OpenAI's own
 * client. Embeddings of a batch are one call; every text is a call of its own, all those of a batch at once, and what is
 * asked for with `stream: true` is answered with a token stream as soon as the server has begun to answer.
 *
 * It waits and does not compute, so it lives inline; `replicas` is how many batches are under way at once. Nothing is tried
 * again in here: errors say whether that is of use, and the retries of a step, or the caller, go by it.
 */
import { setMaxListeners } from 'node:events';
import type OpenAI from 'openai';
import {
  defineActor,
  TroupeError,
  type ChatRecord,
  type CompletionRecord,
  type EmbeddingRecord,
  type LoadContext,
  type PredictContext,
  type TextPart,
} from 'troupe/actor';
import { guardedFetch } from 'troupe/remote';
import { RemoteCall } from './openai/remote-call.js';
import { blamed, faultOf } from './openai/faults.js';
import { resolveOpenAi, type ResolvedOpenAi } from './openai/options.js';
import { askedBy, type OpenAiInput } from './openai/records.js';
import { chatParams, completionParams, type Piece, pieceOfChat, pieceOfCompletion } from './openai/shapes.js';
import { RemoteText } from './openai/remote-text.js';

export type { OpenAiOptions } from './openai/options.js';
export type { OpenAiInput } from './openai/records.js';

interface OpenAiState {
  readonly client: OpenAI;
  readonly close: () => void;
  readonly options: ResolvedOpenAi;
}

type Context = PredictContext<OpenAiState>;

export default defineActor<OpenAiInput, unknown, OpenAiState>({
  isolation: 'inline',
  kinds: ['embeddings', 'completions', 'chat'],

  async load(context) {
    const options = resolveOpenAi(context);
    const { OpenAI: Client } = await importClient(context);
    const { baseURL, apiKey, headers, timeoutMs, allow, ca, maxReplyBytes } = options;
    const { fetch, close } = guardedFetch('options.baseURL', baseURL, {
      allow,
      maxReplyBytes,
      ...(ca === undefined ? {} : { ca }),
    });
    const client = new Client({
      baseURL,
      apiKey,
      defaultHeaders: headers,
      timeout: timeoutMs,
      maxRetries: 0,
      fetch,
      logLevel: 'off',
    });
    try {
      if (options.probe) await probe(client, options, context);
    } catch (error) {
      close();
      throw error;
    }
    return { client, close, options };
  },

  async predict(batch: OpenAiInput[], context: Context): Promise<unknown[]> {
    // Every call listens to it, and Node takes more than ten for a leak.
    setMaxListeners(2 * batch.length + 10, context.signal);
    const outputs = new Array<unknown>(batch.length);
    const groups = new Map<string, [number, EmbeddingRecord][]>();
    const calls: Promise<void>[] = [];
    for (const [index, input] of batch.entries()) {
      const record = askedBy(input, context.state.options);
      if (record instanceof Error) outputs[index] = record;
      else if (record.kind === 'embeddings') {
        const name = `${typeof record.input} ${record.dimensions ?? ''}`;
        groups.set(name, [...(groups.get(name) ?? []), [index, record]]);
      } else
        calls.push(
          textOf(record, context).then(
            (output) => void (outputs[index] = output),
            (error: unknown) => void (outputs[index] = error),
          ),
        );
    }
    // The pool halves a batch that throws, and would ask for the texts in it once more.
    for (const group of groups.values())
      calls.push((group.length === batch.length ? embed : embedApart)(group, outputs, context));
    await Promise.all(calls);
    return outputs;
  },

  unload: ({ close }) => close(),
});

/** What says that a server tells nobody of its models. */
const NO_LIST = new Set([404, 405, 501]);

async function probe(client: OpenAI, options: ResolvedOpenAi, { pool, signal }: LoadContext): Promise<void> {
  const call = new RemoteCall(signal, options.timeoutMs);
  let models: unknown;
  try {
    ({ data: models } = await client.models.list({ signal: call.signal }));
  } catch (cause) {
    const status = cause instanceof Error && 'status' in cause ? cause.status : undefined;
    if (typeof status === 'number' && NO_LIST.has(status)) return;
    const { code, message } = faultOf(call.reasonOf(cause), options.name, 0);
    const words = `Pool "${pool}": ${message}; start the server, or correct options.baseURL, options.apiKey or options.allow`;
    throw new TroupeError(code, words, { actor: pool, ran: 'not-started', cause });
  } finally {
    call.end();
  }
  const names = Array.isArray(models) ? models.map((model: { id?: unknown } | null) => model?.id) : [];
  if (names.length === 0 || names.includes(options.model)) return;
  const words = `Pool "${pool}": ${options.name} has no model "${options.model}"; correct options.model`;
  throw new TroupeError('MODEL_NOT_FOUND', words, { actor: pool });
}

/** Of one shape, so that one call can hold them; with their places in the batch. */
type Group = readonly (readonly [number, EmbeddingRecord])[];

/** Beside other records: never rejects, and what one record may have caused halves the group until the culprit is alone. */
async function embedApart(group: Group, outputs: unknown[], context: Context): Promise<void> {
  try {
    await embed(group, outputs, context);
  } catch (error) {
    if (group.length > 1 && error instanceof TroupeError && error.code === 'PREDICT_FAILED') {
      const half = group.length >> 1;
      const halves = [group.slice(0, half), group.slice(half)];
      await Promise.all(halves.map((one) => embedApart(one, outputs, context)));
    } else for (const [index] of group) outputs[index] = error;
  }
}

/** Rejects with what is to be told of the whole group. */
async function embed(group: Group, outputs: unknown[], { state: { client, options }, signal }: Context): Promise<void> {
  const count = group.length;
  const inputs = group.map(([, { input }]) => input);
  const { dimensions } = group[0]?.[1] ?? {};
  const call = new RemoteCall(signal, options.timeoutMs);
  let answer: OpenAI.CreateEmbeddingResponse;
  try {
    answer = await client.embeddings.create(
      {
        model: options.model,
        input: inputs as string[],
        encoding_format: 'float',
        ...(dimensions === undefined ? {} : { dimensions }),
      },
      { signal: call.signal },
    );
  } catch (error) {
    throw faultOf(call.reasonOf(error), options.name, count);
  } finally {
    call.end();
  }
  const vectors = new Map((Array.isArray(answer.data) ? answer.data : []).map((one) => [one.index, one.embedding]));
  for (const [place, [index]] of group.entries()) {
    const vector: unknown = vectors.get(place);
    if (!Array.isArray(vector) || !vector.every((value) => typeof value === 'number'))
      throw blamed('PROTOCOL_VIOLATION', `${options.name} gave no vector for input ${place} of ${count}`, count);
    outputs[index] = vector;
  }
}

/** The whole text, or a stream of it once the server has begun. */
async function textOf(
  record: ChatRecord | CompletionRecord,
  { state, signal }: Context,
): Promise<TextPart | AsyncIterable<TextPart>> {
  const { client, options } = state;
  const call = new RemoteCall(signal, options.timeoutMs);
  const at = { signal: call.signal };
  const isChat = record.kind === 'chat';
  const read = isChat ? pieceOfChat : pieceOfCompletion;
  try {
    // Which of the two it gives is decided by a field of the parameters, and theirs are not all of those that servers know.
    const answer: unknown = isChat
      ? await client.chat.completions.create(chatParams(record, options.model) as never, at)
      : await client.completions.create(completionParams(record, options.model) as never, at);
    if (record.stream === true) return new RemoteText(answer as AsyncIterable<Piece>, read, call, options.name);
    const part = read(answer as Piece);
    if (part.text === undefined && part.toolCalls === undefined && part.finishReason === undefined)
      throw new TroupeError('PROTOCOL_VIOLATION', `${options.name} gave no text`);
    call.end();
    return part;
  } catch (error) {
    call.end();
    throw faultOf(call.reasonOf(error), options.name, 1);
  }
}

async function importClient({ pool }: LoadContext): Promise<typeof import('openai')> {
  try {
    return await import('openai');
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ERR_MODULE_NOT_FOUND';
    if (!isMissing || !cause.message.includes("'openai'")) throw cause;
    const message = `Pool "${pool}" needs the package openai, the client of its actor: npm install openai@6`;
    throw new TroupeError('ENGINE_NOT_INSTALLED', message, { actor: pool, cause });
  }
}
