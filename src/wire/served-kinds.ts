/**
 * What an actor gets and gives that is served by the routes of OpenAI: it declares `kinds`, takes records of those kinds and
 * answers in these shapes. One actor may declare several; `kind` of a record says which it is.
 */

export type ServedKind = 'embeddings' | 'completions' | 'chat';

export const SERVED_KINDS: readonly ServedKind[] = ['embeddings', 'completions', 'chat'];

/** One text to embed; a request of many is many records, which share batches with those of others. */
export interface EmbeddingRecord {
  readonly kind: 'embeddings';
  /** A text, or the tokens of one. */
  readonly input: string | readonly number[];
  /** How many values are wanted, where the model can choose. */
  readonly dimensions?: number;
}

/** The vector itself, or with the number of tokens it was made of. */
export type EmbeddingAnswer =
  | readonly number[]
  | Float32Array
  | Float64Array
  | { readonly embedding: readonly number[] | Float32Array | Float64Array; readonly tokens?: number };

/** What a text is made by, of a chat or of a completion. */
export interface TextWishes {
  /** True: pieces are wanted as they come. An actor may answer with the whole text all the same, and with pieces unasked. */
  readonly stream?: boolean;
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly stop?: readonly string[];
  readonly seed?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  /** Every other field of the request, by its name there: `tools`, `response_format` … Checked by nobody. */
  readonly more?: Readonly<Record<string, unknown>>;
}

/** One turn of a talk: `system`, `user`, `assistant` … and what was said: a text, or parts in OpenAI's shape. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: string | readonly unknown[] | null;
  readonly [other: string]: unknown;
}

export interface ChatRecord extends TextWishes {
  readonly kind: 'chat';
  /** One at least. */
  readonly messages: readonly ChatMessage[];
}

/** One prompt; a request of many is many records. */
export interface CompletionRecord extends TextWishes {
  readonly kind: 'completions';
  /** A text, or the tokens of one. */
  readonly prompt: string | readonly number[];
}

export type TextRecord = ChatRecord | CompletionRecord;

export interface TextUsage {
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** A text, or a piece of one; of pieces the last may tell why it ended and what it took. */
export interface TextPart {
  readonly text?: string;
  /** `stop` (the default of the last), `length`, `tool_calls`, `content_filter` … */
  readonly finishReason?: string;
  readonly usage?: TextUsage;
  /** In OpenAI's shape, handed through. Chat only. */
  readonly toolCalls?: readonly unknown[];
}

/** The whole text, or its pieces as they are made. */
export type TextAnswer = string | TextPart | AsyncIterable<string | TextPart>;
