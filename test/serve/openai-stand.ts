import type { ExecutionContext } from 'ava';
import OpenAI from 'openai';
import {
  type ChatRecord,
  type CompletionRecord,
  defineActor,
  type EmbeddingRecord,
  type ServeOptions,
  type TextAnswer,
  type TextPart,
} from 'troupe';
import { stand, type Stand } from './oip-stand.js';

/** Pools that answer the routes of OpenAI, and the real client before them. */

/** What an actor of these tests has seen. */
export interface Witness {
  readonly batches: number[];
  readonly records: unknown[];
  /** Streams that were left before their end. */
  left: number;
}

async function* wordsOf(
  text: string,
  witness: Witness,
  signal: AbortSignal,
  promptTokens: number,
): AsyncGenerator<TextPart> {
  const words = text.split(' ');
  let isWhole = false;
  try {
    for (const [index, word] of words.entries()) {
      if (word === 'HANG') await new Promise((resolve) => signal.addEventListener('abort', resolve));
      if (word === 'FAIL') throw new Error('out of words');
      yield { text: index === 0 ? word : ` ${word}` };
    }
    yield { finishReason: 'length', usage: { promptTokens, completionTokens: words.length } };
    isWhole = true;
  } finally {
    if (!isWhole) witness.left++;
  }
}

/** Says what was asked: as a stream where one is wanted, else whole. `STREAM` in front makes it a stream all the same. */
export function echo(witness: Witness) {
  return defineActor<ChatRecord | CompletionRecord, TextAnswer, void>({
    kinds: ['chat', 'completions'],
    predict: (batch: (ChatRecord | CompletionRecord)[], { signal }) => {
      witness.batches.push(batch.length);
      witness.records.push(...batch);
      return batch.map((record) => {
        const said = record.kind === 'chat' ? (record.messages.at(-1)?.content ?? '') : record.prompt;
        const text = typeof said === 'string' ? said : JSON.stringify(said);
        if (text === 'BAD') return new Error('a bad record');
        if (text === 'TEXT') return 'plain text';
        if (text === 'ODD') return 7 as never;
        if (text === 'TOOLS')
          return {
            finishReason: 'tool_calls',
            toolCalls: [{ id: 'c1', type: 'function', function: { name: 'f', arguments: '{}' } }],
          };
        if (text === 'CALLS') return callsInPieces();
        if (record.stream === true || text.startsWith('STREAM')) return wordsOf(text, witness, signal, 4);
        return { text, usage: { promptTokens: 4, completionTokens: text.split(' ').length } };
      });
    },
  });
}

/** As OpenAI streams two calls of tools, side by side, and a whole one. */
async function* callsInPieces() {
  yield { toolCalls: [{ index: 0, id: 'c0', type: 'function', function: { name: 'f', arguments: '' } }] };
  yield { toolCalls: [{ index: 1, id: 'c1', type: 'custom', custom: { name: 'g', input: 'a' } }] };
  yield {
    toolCalls: [
      { index: 0, function: { arguments: '{"x"' } },
      { id: 'c2', type: 'function', function: {} },
    ],
  };
  yield {
    toolCalls: [
      { index: 1, id: null, custom: { input: 'b' } },
      { index: 0, function: { arguments: ':1}' } },
    ],
  };
  yield { finishReason: 'tool_calls' };
}

/** The vector of a text is its length and its first character; of tokens, how many there are. */
export function embedder(witness: Witness) {
  return defineActor<EmbeddingRecord, unknown, void>({
    kinds: ['embeddings'],
    predict: (batch: EmbeddingRecord[]) => {
      witness.batches.push(batch.length);
      witness.records.push(...batch);
      return batch.map(({ input }) =>
        typeof input === 'string'
          ? { embedding: [input.length, input.charCodeAt(0) / 2], tokens: 3 }
          : new Float32Array([input.length, 0.1]),
      );
    },
  });
}

export const witness = (): Witness => ({ batches: [], records: [], left: 0 });

export const TOKEN = 'a-token-for-tests-0123456789';

export interface OpenAiStand extends Stand {
  readonly client: OpenAI;
  readonly chat: Witness;
  readonly embed: Witness;
}

export async function openAiStand(t: ExecutionContext, options: ServeOptions = {}): Promise<OpenAiStand> {
  t.timeout(60_000);
  const at = await stand(t, { tokens: { infer: [TOKEN] }, ...options });
  const [chat, embed] = [witness(), witness()];
  await at.system.spawn('echo', { actor: echo(chat) });
  await at.system.spawn('embed', { actor: embedder(embed) });
  const { port } = at.serving.addresses[0] ?? { port: 0 };
  const client = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: TOKEN, maxRetries: 0 });
  return { ...at, client, chat, embed };
}
