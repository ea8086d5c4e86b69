import {
  TroupeError,
  type ChatRecord,
  type CompletionRecord,
  type EmbeddingRecord,
  type ServedKind,
} from 'troupe/actor';
import type { ResolvedOpenAi } from './options.js';

export type OpenAiRecord = EmbeddingRecord | ChatRecord | CompletionRecord;

type Loose<Record> = Omit<Record, 'kind'> & { readonly kind?: ServedKind };

/** A record of any kind, which it may leave to the options, or a plain text: the input, the prompt, or what the user says. */
export type OpenAiInput = string | Loose<EmbeddingRecord> | Loose<ChatRecord> | Loose<CompletionRecord>;

/** The record in full; an error, which fails it alone, where it is none. */
export function askedBy(input: unknown, options: ResolvedOpenAi): OpenAiRecord | TroupeError {
  if (typeof input === 'string') return fromText(input, options);
  if (typeof input !== 'object' || input === null) return invalid('a text or an object', input);
  const { kind = options.kind } = input as { kind?: ServedKind };
  switch (kind) {
    case 'embeddings': {
      const record = { ...(input as EmbeddingRecord), kind };
      return isText(record.input) ? record : invalid('a text or tokens in input', record.input);
    }
    case 'completions': {
      const record = { ...wishesOf(options), ...(input as CompletionRecord), kind };
      return isText(record.prompt) ? record : invalid('a text or tokens in prompt', record.prompt);
    }
    case 'chat': {
      const record = { ...wishesOf(options), ...(input as ChatRecord), kind };
      if (!Array.isArray(record.messages) || record.messages.length === 0)
        return invalid('messages in messages', record.messages);
      return { ...record, messages: withSystem(record.messages, options.system) };
    }
    default:
      return invalid('embeddings, completions or chat in kind', kind);
  }
}

function fromText(text: string, options: ResolvedOpenAi): OpenAiRecord {
  switch (options.kind) {
    case 'embeddings':
      return { kind: 'embeddings', input: text };
    case 'completions':
      return { kind: 'completions', prompt: text, ...wishesOf(options) };
    case 'chat': {
      const messages = withSystem([{ role: 'user', content: text }], options.system);
      return { kind: 'chat', messages, ...wishesOf(options) };
    }
  }
}

function wishesOf({ maxTokens, temperature }: ResolvedOpenAi): { maxTokens?: number; temperature?: number } {
  return { ...(maxTokens === undefined ? {} : { maxTokens }), ...(temperature === undefined ? {} : { temperature }) };
}

function withSystem(messages: ChatRecord['messages'], system: string | undefined): ChatRecord['messages'] {
  const has = system === undefined || messages.some(({ role }) => role === 'system' || role === 'developer');
  return has ? messages : [{ role: 'system', content: system }, ...messages];
}

function isText(value: unknown): boolean {
  return typeof value === 'string' || (Array.isArray(value) && value.every((token) => Number.isSafeInteger(token)));
}

function invalid(expected: string, value: unknown): TroupeError {
  const got = value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value;
  return new TroupeError('INPUT_INVALID', `A record for the actor openai must have ${expected}, got ${got}`);
}
