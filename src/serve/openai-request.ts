import { MAX_REQUEST_BRACKETS, MAX_REQUEST_NAMES, parseJson } from '../stream/parse-json.js';
import type { ChatMessage, ChatRecord, CompletionRecord, EmbeddingRecord, TextWishes } from '../wire/served-kinds.js';
import { Refusal } from '../stream/http-body.js';
import { shownValue } from './oip-invalid.js';
import { countNames, PARAMETERS_MAX } from './oip-request.js';
import { FieldRefusal } from './openai-error.js';

/**
 * Bodies of OpenAI's routes as records. A field that is null counts as one that is not there; fields that are not known go on
 * to the actor under `more`.
 */

/** Deeper than any schema of a tool. */
const DEPTH_MAX = 100;

type Fields = Readonly<Record<string, unknown>>;

export interface EmbeddingRequest {
  readonly model: string;
  readonly records: readonly EmbeddingRecord[];
  readonly isBase64: boolean;
}

export interface TextRequest<Record> {
  readonly model: string;
  readonly records: readonly Record[];
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

/** Throws a Refusal. */
export function fieldsOf(body: Buffer): Fields {
  let value: unknown;
  try {
    value = parseJson(
      new TextDecoder('utf-8', { fatal: true }).decode(body),
      DEPTH_MAX,
      MAX_REQUEST_BRACKETS,
      MAX_REQUEST_NAMES,
    );
  } catch (error) {
    throw new Refusal(400, `the body is not JSON in UTF-8: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Refusal(400, 'the body must be a JSON object');
  if (countNames(value) > PARAMETERS_MAX)
    throw new Refusal(400, `the body: more than ${PARAMETERS_MAX} fields are not served`);
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null));
}

/** Throws a Refusal, as the two below. */
export function embeddingRequest(fields: Fields, maxRecords: number): EmbeddingRequest {
  const encoding = fields['encoding_format'] ?? 'float';
  if (encoding !== 'float' && encoding !== 'base64') throw wrong('encoding_format', 'float or base64', encoding);
  const dimensions = numberOf(fields, 'dimensions', { least: 1, isWhole: true });
  const more = dimensions === undefined ? {} : { dimensions };
  const records = textsOf('input', fields['input'], maxRecords).map(
    (input): EmbeddingRecord => ({ kind: 'embeddings', input, ...more }),
  );
  return { model: modelOf(fields), records, isBase64: encoding === 'base64' };
}

export function completionRequest(fields: Fields, maxRecords: number): TextRequest<CompletionRecord> {
  const { prompt, ...rest } = fields;
  const prompts = textsOf('prompt', prompt, maxRecords);
  const { wishes, ...terms } = textTerms(rest);
  if (terms.stream && prompts.length > 1) throw new FieldRefusal('prompt', 'only one prompt can be streamed at a time');
  return { ...terms, records: prompts.map((one) => ({ kind: 'completions', prompt: one, ...wishes })) };
}

export function chatRequest(fields: Fields): TextRequest<ChatRecord> {
  const { messages, ...rest } = fields;
  if (!Array.isArray(messages) || messages.length === 0) throw wrong('messages', 'an array of messages', messages);
  messages.forEach(checkMessage);
  const { wishes, ...terms } = textTerms(rest);
  return { ...terms, records: [{ kind: 'chat', messages: messages as ChatMessage[], ...wishes }] };
}

function checkMessage(message: unknown, index: number): void {
  const where = `messages[${index}]`;
  if (typeof message !== 'object' || message === null || Array.isArray(message))
    throw wrong(where, 'an object', message);
  const { role, content } = message as ChatMessage;
  if (typeof role !== 'string' || role === '') throw wrong(`${where}.role`, 'a role such as user', role);
  const isContent =
    content === undefined || content === null || typeof content === 'string' || Array.isArray(content as unknown);
  if (!isContent) throw wrong(`${where}.content`, 'a text or an array of parts', content);
}

interface TextTerms extends Omit<TextRequest<never>, 'records'> {
  readonly wishes: TextWishes;
}

/** The rest of the fields, once what is asked was taken out of them. */
function textTerms(fields: Fields): TextTerms {
  const { stream = false, stream_options: options = {} } = fields;
  if (typeof stream !== 'boolean') throw wrong('stream', 'true or false', stream);
  if (typeof options !== 'object' || options === null) throw wrong('stream_options', 'an object', options);
  const includeUsage = (options as Fields)['include_usage'] === true;
  return { model: modelOf(fields), stream, includeUsage, wishes: textWishes(fields) };
}

/** Of a text; the rest is `more`. */
const KNOWN: ReadonlySet<string> = new Set([
  'model',
  'stream',
  'stream_options',
  'stop',
  'n',
  'best_of',
  'max_tokens',
  'max_completion_tokens',
  'temperature',
  'top_p',
  'seed',
  'presence_penalty',
  'frequency_penalty',
  'user',
]);

/** What a text is to be made by; names that are not known are under `more`. */
export function textWishes(fields: Fields): TextWishes {
  const { stream, stop, n, best_of: bestOf } = fields;
  const more = Object.entries(fields).filter(([name]) => !KNOWN.has(name));
  for (const [name, count] of Object.entries({ n, best_of: bestOf }))
    if (count !== undefined && count !== 1) throw wrong(name, '1: more than one choice is not served', count);
  const wishes = {
    maxTokens:
      numberOf(fields, 'max_completion_tokens', { least: 1, isWhole: true }) ??
      numberOf(fields, 'max_tokens', { least: 0, isWhole: true }),
    temperature: numberOf(fields, 'temperature', { least: 0, most: 2 }),
    topP: numberOf(fields, 'top_p', { least: 0, most: 1 }),
    seed: numberOf(fields, 'seed', { isWhole: true }),
    presencePenalty: numberOf(fields, 'presence_penalty', { least: -2, most: 2 }),
    frequencyPenalty: numberOf(fields, 'frequency_penalty', { least: -2, most: 2 }),
    stop: stopsOf(stop),
    more: more.length === 0 ? undefined : Object.fromEntries(more),
    stream: stream === true ? true : undefined,
  };
  return Object.fromEntries(Object.entries(wishes).filter(([, wish]) => wish !== undefined)) as TextWishes;
}

function stopsOf(stop: unknown): readonly string[] | undefined {
  if (stop === undefined) return undefined;
  const stops: unknown = typeof stop === 'string' ? [stop] : stop;
  if (Array.isArray(stops) && stops.every((one) => typeof one === 'string')) return stops as string[];
  throw wrong('stop', 'a string or an array of strings', stop);
}

function modelOf({ model }: Fields): string {
  if (typeof model === 'string' && model !== '') return model;
  throw wrong('model', 'the name of a model', model);
}

/** One text or many, or their tokens. */
function textsOf(param: string, value: unknown, maxRecords: number): readonly (string | readonly number[])[] {
  const isMany = Array.isArray(value) && typeof value[0] !== 'number';
  const texts: readonly unknown[] = isMany ? value : [value];
  if (texts.length === 0) throw wrong(param, 'one text at least', value);
  if (texts.length > maxRecords)
    throw new FieldRefusal(param, `${param}: at most ${maxRecords} are taken at once, got ${texts.length}`);
  return texts.map((text, index) => {
    if (typeof text === 'string' || isTokens(text)) return text;
    throw wrong(isMany ? `${param}[${index}]` : param, 'a text or an array of tokens', text);
  });
}

function isTokens(value: unknown): value is readonly number[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((token) => Number.isSafeInteger(token) && Number(token) >= 0)
  );
}

interface NumberRule {
  readonly least?: number;
  readonly most?: number;
  readonly isWhole?: boolean;
}

function numberOf(fields: Fields, name: string, rule: NumberRule): number | undefined {
  const { least = -Infinity, most = Infinity, isWhole = false } = rule;
  const value = fields[name];
  if (value === undefined) return undefined;
  const fits =
    typeof value === 'number' && value >= least && value <= most && (!isWhole || Number.isSafeInteger(value));
  if (fits) return value;
  const from = least === -Infinity ? '' : ` from ${least}`;
  const to = most === Infinity ? '' : ` to ${most}`;
  throw wrong(name, `a ${isWhole ? 'whole ' : ''}number${from}${to}`, value);
}

function wrong(param: string, expected: string, value: unknown): FieldRefusal {
  return new FieldRefusal(param, `${param} must be ${expected}, got ${shownValue(value)}`);
}
