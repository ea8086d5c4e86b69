import { TroupeError } from '../kernel/errors.js';
import type { EmbeddingAnswer, TextPart, TextUsage } from '../wire/served-kinds.js';

/** What actors answer, in the shapes of OpenAI. */

/** What all answers to one request have in common. */
export interface AnswerHead {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
  /** The version that made it, where the pool has a model. */
  readonly version: string | undefined;
}

export type TextKind = 'chat' | 'completions';

export function embeddingsBody(head: AnswerHead, answers: readonly unknown[], isBase64: boolean): unknown {
  let tokens = 0;
  const data = answers.map((answer, index) => {
    const { vector, tokenCount } = vectorOf(answer, isBase64);
    tokens += tokenCount;
    return { object: 'embedding', index, embedding: isBase64 ? base64Of(vector) : [...vector] };
  });
  return { object: 'list', data, model: head.model, usage: { prompt_tokens: tokens, total_tokens: tokens } };
}

export function textBody(kind: TextKind, head: AnswerHead, parts: readonly TextPart[]): unknown {
  const usages = parts.flatMap(({ usage }) => (usage === undefined ? [] : [usage]));
  const choices = parts.map(({ text = '', finishReason = 'stop', toolCalls }, index) => {
    const end = { logprobs: null, finish_reason: finishReason };
    if (kind === 'completions') return { index, text, ...end };
    const calls = toolCalls === undefined ? {} : { tool_calls: toolCalls };
    const content = text === '' && toolCalls !== undefined ? null : text;
    return { index, message: { role: 'assistant', content, refusal: null, ...calls }, ...end };
  });
  const usage = usages.length === 0 ? {} : { usage: usageBody(usages) };
  return { ...headBody(kind === 'chat' ? 'chat.completion' : 'text_completion', head), choices, ...usage };
}

/** The events of one streamed text, from its first to the last before `[DONE]`. */
export class TextEvents {
  readonly #kind: TextKind;
  readonly #head: object;
  readonly #includeUsage: boolean;
  #finishReason: string | undefined;
  #usage: TextUsage | undefined;
  #callCount = 0;

  constructor(kind: TextKind, head: AnswerHead, includeUsage: boolean) {
    this.#kind = kind;
    this.#head = headBody(kind === 'chat' ? 'chat.completion.chunk' : 'text_completion', head);
    this.#includeUsage = includeUsage;
  }

  /** What stands before the first piece. */
  begin(): readonly unknown[] {
    return this.#kind === 'chat' ? [this.#event({ delta: { role: 'assistant', content: '' } })] : [];
  }

  piece({ text = '', finishReason, usage, toolCalls }: TextPart): readonly unknown[] {
    this.#finishReason = finishReason ?? this.#finishReason;
    this.#usage = usage ?? this.#usage;
    if (text === '' && toolCalls === undefined) return [];
    if (this.#kind === 'completions') return [this.#event({ text })];
    const content = text === '' ? {} : { content: text };
    const calls = toolCalls === undefined ? {} : { tool_calls: toolCalls.map((call) => this.#indexed(call)) };
    return [this.#event({ delta: { ...content, ...calls } })];
  }

  end(): readonly unknown[] {
    const nothing = this.#kind === 'chat' ? { delta: {} } : { text: '' };
    const last = this.#event(nothing, this.#finishReason ?? 'stop');
    if (!this.#includeUsage || this.#usage === undefined) return [last];
    return [last, { ...this.#head, choices: [], usage: usageBody([this.#usage]) }];
  }

  /** By its index a client finds the call that a piece belongs to. A call that says none is whole, and the next one. */
  #indexed(call: unknown): unknown {
    if (typeof call !== 'object' || call === null || 'index' in call) return call;
    return { index: this.#callCount++, ...call };
  }

  #event(what: object, finishReason: string | null = null): unknown {
    const choice = { index: 0, ...what, logprobs: null, finish_reason: finishReason };
    return { ...this.#head, choices: [choice], ...(this.#includeUsage ? { usage: null } : {}) };
  }
}

/** What an actor gave for a text or a piece of one. Throws PROTOCOL_VIOLATION. */
export function partOf(value: unknown): TextPart {
  if (typeof value === 'string') return { text: value };
  if (typeof value !== 'object' || value === null) throw violation('a text, or { text, finishReason, usage }', value);
  const { text, finishReason, usage, toolCalls } = value as TextPart;
  if (text !== undefined && typeof text !== 'string') throw violation('a text in text', text);
  if (finishReason !== undefined && typeof finishReason !== 'string')
    throw violation('a text in finishReason', finishReason);
  if (usage !== undefined && !isUsage(usage)) throw violation('{ promptTokens, completionTokens } in usage', usage);
  if (toolCalls !== undefined && !Array.isArray(toolCalls)) throw violation('an array in toolCalls', toolCalls);
  return value;
}

function headBody(object: string, { id, created, model, version }: AnswerHead): object {
  return { id, object, created, model, system_fingerprint: version ?? null };
}

function usageBody(usages: readonly TextUsage[]): object {
  const prompt = usages.reduce((total, { promptTokens }) => total + promptTokens, 0);
  const completion = usages.reduce((total, { completionTokens }) => total + completionTokens, 0);
  return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
}

function vectorOf(
  answer: unknown,
  isSingle: boolean,
): {
  readonly vector: ArrayLike<number> & Iterable<number>;
  readonly tokenCount: number;
} {
  const isPlain = typeof answer === 'object' && answer !== null && 'embedding' in answer;
  const { embedding, tokens } = isPlain
    ? (answer as Extract<EmbeddingAnswer, { embedding: unknown }>)
    : { embedding: answer, tokens: 0 };
  const isVector = Array.isArray(embedding) || embedding instanceof Float32Array || embedding instanceof Float64Array;
  if (!isVector) throw violation('an array of numbers', embedding);
  const vector = embedding as readonly number[] | Float32Array | Float64Array;
  // JSON has no word for the others.
  for (const value of vector)
    if (!Number.isFinite(isSingle ? Math.fround(value) : value))
      throw violation(`finite numbers${isSingle ? ' within float32' : ''} alone`, value);
  return { vector, tokenCount: tokens ?? 0 };
}

/** As float32, least significant byte first. */
function base64Of(vector: ArrayLike<number>): string {
  const bytes = Buffer.alloc(vector.length * 4);
  for (let index = 0; index < vector.length; index++) bytes.writeFloatLE(vector[index] as number, index * 4);
  return bytes.toString('base64');
}

function isUsage({ promptTokens, completionTokens }: Partial<TextUsage>): boolean {
  return Number.isFinite(promptTokens) && Number.isFinite(completionTokens);
}

function violation(expected: string, value: unknown): TroupeError {
  const got = value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value;
  return new TroupeError('PROTOCOL_VIOLATION', `The actor is to answer this kind with ${expected}, and gave ${got}`);
}
