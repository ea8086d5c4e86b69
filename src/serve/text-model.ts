/**
 * An actor of texts (its `kinds` have completions or chat) as a model of Triton: the tensors are those of Triton's vLLM
 * backend, and a request, which is one text to go on from, has any number of answers.
 */
import { MAX_REQUEST_BRACKETS, MAX_REQUEST_NAMES, parseJson } from '../stream/parse-json.js';
import type { ServedKind, TextRecord } from '../wire/served-kinds.js';
import type { Signature } from '../wire/tensor.js';
import { invalid, shownValue } from './oip-invalid.js';
import { recordsFrom } from './oip-records.js';
import { countNames, type OipRequest, refuseMany } from './oip-request.js';
import { textWishes } from './openai-request.js';

const TEXT_INPUT = 'text_input';
const STREAM = 'stream';
const SAMPLING = 'sampling_parameters';
const EXCLUDE_INPUT = 'exclude_input_in_output';

export const TEXT_OUTPUT = 'text_output';

/** All inputs but the text may be left out. */
export const TEXT_SIGNATURE: Signature = {
  inputs: [
    { name: TEXT_INPUT, dtype: 'string', shape: [1] },
    { name: STREAM, dtype: 'bool', shape: [1] },
    { name: SAMPLING, dtype: 'string', shape: [1] },
    { name: EXCLUDE_INPUT, dtype: 'bool', shape: [1] },
  ],
  outputs: [{ name: TEXT_OUTPUT, dtype: 'string', shape: [1] }],
  decoupled: true,
};

/** Inputs that a request may leave out. */
export const TEXT_OPTIONAL: ReadonlySet<string> = new Set([STREAM, SAMPLING, EXCLUDE_INPUT]);

/** What a client asks for by `timeout` and `priority` is about the way there, not for the actor. */
const TERMS: ReadonlySet<string> = new Set(['timeout', 'priority']);
/** Numbers that some clients write as texts. */
const NUMBERS: ReadonlySet<string> = new Set([
  'max_tokens',
  'max_completion_tokens',
  'temperature',
  'top_p',
  'seed',
  'presence_penalty',
  'frequency_penalty',
  'n',
  'best_of',
]);
const SAMPLING_DEPTH_MAX = 100;

export interface TextAsk {
  readonly record: TextRecord;
  /** Pieces are wanted as they come, not the whole as one answer. */
  readonly inPieces: boolean;
}

export function isTextModel(kinds: readonly ServedKind[]): boolean {
  return kinds.includes('completions') || kinds.includes('chat');
}

/**
 * What is asked by these fields of a request: the inputs, and everything else by the names of OpenAI (`max_tokens`,
 * `temperature` …). `mayStream`: more than one answer can be sent. Throws INPUT_INVALID or a refusal.
 */
export function textAsk(
  kinds: readonly ServedKind[],
  fields: ReadonlyMap<string, unknown>,
  mayStream: boolean,
): TextAsk {
  const prompt = single(fields, TEXT_INPUT);
  if (typeof prompt !== 'string') throw wrong(TEXT_INPUT, 'a text', prompt);
  const stream = single(fields, STREAM) ?? mayStream;
  if (typeof stream !== 'boolean') throw wrong(STREAM, 'true or false', stream);
  if (single(fields, EXCLUDE_INPUT) === false)
    throw wrong(EXCLUDE_INPUT, 'true: answers are what was generated', false);
  const others = [...fields].filter(
    ([name, value]) => name !== TEXT_INPUT && !TEXT_OPTIONAL.has(name) && !TERMS.has(name) && value !== null,
  );
  const inPieces = stream && mayStream;
  const wishes = textWishes(
    Object.fromEntries([...others, ...samplingOf(single(fields, SAMPLING)), [STREAM, inPieces]]),
  );
  const record: TextRecord = kinds.includes('completions')
    ? { kind: 'completions', prompt, ...wishes }
    : { kind: 'chat', messages: [{ role: 'user', content: prompt }], ...wishes };
  return { record, inPieces };
}

/** The fields of a request whose inputs are tensors. Throws INPUT_INVALID. */
export function textFields({ inputs, parameters }: OipRequest): ReadonlyMap<string, unknown> {
  const given = new Set(inputs.map(({ name }) => name.toLowerCase()));
  const specs = TEXT_SIGNATURE.inputs.filter(({ name }) => !TEXT_OPTIONAL.has(name) || given.has(name));
  const [record = {}] = recordsFrom(inputs, { ...TEXT_SIGNATURE, inputs: specs }, 1);
  const fields = new Map<string, unknown>(parameters);
  for (const { name, dtype } of specs) {
    const [value] = (record as Readonly<Record<string, ArrayLike<unknown> & Iterable<unknown>>>)[name] ?? [];
    fields.set(name, dtype === 'bool' ? value === 1 : value);
  }
  return fields;
}

/** The only value of an input, which may stand in an array. */
function single(fields: ReadonlyMap<string, unknown>, name: string): unknown {
  let value: unknown = fields.get(name) ?? undefined;
  while (Array.isArray(value) && value.length === 1) value = value[0] as unknown;
  return value;
}

function samplingOf(text: unknown): readonly (readonly [string, unknown])[] {
  if (text === undefined) return [];
  if (typeof text !== 'string') throw wrong(SAMPLING, 'a JSON object as text', text);
  let value: unknown;
  try {
    value = parseJson(text, SAMPLING_DEPTH_MAX, MAX_REQUEST_BRACKETS, MAX_REQUEST_NAMES);
  } catch {
    throw wrong(SAMPLING, 'a JSON object as text', text);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw wrong(SAMPLING, 'a JSON object as text', text);
  refuseMany(countNames(value), SAMPLING);
  return Object.entries(value).map(([name, one]) => [name, NUMBERS.has(name) ? numberIn(one) : one]);
}

function numberIn(value: unknown): unknown {
  return typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value)) ? Number(value) : value;
}

function wrong(name: string, expected: string, value: unknown): Error {
  return invalid(`${name} must be ${expected}, got ${shownValue(value)}`);
}
