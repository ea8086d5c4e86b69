import type { ChatRecord, CompletionRecord, TextPart, TextWishes } from 'troupe/actor';

/** Records as the parameters of OpenAI's client, and what it gives as parts of texts. */

/** What is read of an answer or of a piece of one; all of it may be missing or be something else. */
export interface Piece {
  readonly choices?: readonly {
    readonly text?: unknown;
    readonly message?: Said;
    readonly delta?: Said;
    readonly finish_reason?: unknown;
  }[];
  readonly usage?: { readonly prompt_tokens?: unknown; readonly completion_tokens?: unknown } | null;
}

interface Said {
  readonly content?: unknown;
  readonly tool_calls?: unknown;
}

export function chatParams(record: ChatRecord, model: string): Record<string, unknown> {
  const { maxTokens } = record;
  const most = maxTokens === undefined ? {} : { max_completion_tokens: maxTokens };
  return { ...record.more, ...wishes(record), ...most, model, messages: record.messages };
}

export function completionParams(record: CompletionRecord, model: string): Record<string, unknown> {
  const { maxTokens } = record;
  const most = maxTokens === undefined ? {} : { max_tokens: maxTokens };
  return { ...record.more, ...wishes(record), ...most, model, prompt: record.prompt };
}

export function pieceOfChat({ choices, usage }: Piece): TextPart {
  const choice = choices?.[0];
  const said = choice?.delta ?? choice?.message;
  const calls = said?.tool_calls;
  return part(
    said?.content,
    choice?.finish_reason,
    usage,
    Array.isArray(calls) && calls.length > 0 ? calls : undefined,
  );
}

export function pieceOfCompletion({ choices, usage }: Piece): TextPart {
  return part(choices?.[0]?.text, choices?.[0]?.finish_reason, usage);
}

function part(text: unknown, finishReason: unknown, usage: Piece['usage'], toolCalls?: readonly unknown[]): TextPart {
  const { prompt_tokens: prompt, completion_tokens: completion } = usage ?? {};
  const counts = typeof prompt === 'number' && typeof completion === 'number';
  return {
    ...(typeof text === 'string' ? { text } : {}),
    ...(typeof finishReason === 'string' ? { finishReason } : {}),
    ...(counts ? { usage: { promptTokens: prompt, completionTokens: completion } } : {}),
    ...(toolCalls === undefined ? {} : { toolCalls }),
  };
}

function wishes({ stream, temperature, topP, stop, seed, presencePenalty, frequencyPenalty }: TextWishes): object {
  const all = {
    temperature,
    top_p: topP,
    stop,
    seed,
    presence_penalty: presencePenalty,
    frequency_penalty: frequencyPenalty,
    ...(stream === true ? { stream: true, stream_options: { include_usage: true } } : {}),
  };
  return Object.fromEntries(Object.entries(all).filter(([, wish]) => wish !== undefined));
}
