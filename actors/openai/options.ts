import type { LoadContext, ServedKind } from 'troupe/actor';

/** `options` of a pool whose actor is `openai`. Unknown keys are refused. */
export interface OpenAiOptions {
  /** The model, by its name at the server. */
  readonly model: string;
  /** Default `https://api.openai.com/v1`. */
  readonly baseURL?: string;
  /** Sent as a bearer token; from a config as `${NAME}`. Never read from the environment, never shown. Default none. */
  readonly apiKey?: string;
  /** What a record is that does not say it, a plain text too. Default `chat`. */
  readonly kind?: ServedKind;
  /** Put before the messages of a chat that has no `system` message. */
  readonly system?: string;
  /** For chats and completions that do not say it. */
  readonly maxTokens?: number;
  readonly temperature?: number;
  /**
   * True: a replica that loads asks the server for its models (GET models below baseURL), and does not come up where the
   * server is away, does not take the key, or has models and not this one. Default false.
   */
  readonly probe?: boolean;
  /** Host names, addresses and ranges (`10.0.0.0/8`) that may be connected to though they are no public ones. Default: none. */
  readonly allow?: readonly string[];
  /** File with the certificates (PEM) of the authorities that are trusted, in the place of those that everybody trusts. */
  readonly ca?: string;
  /** Sent with every request. Never shown. */
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * Until an answer has begun, or is whole where it is not streamed. Belongs below batchTimeoutMs of the pool. Default
   * 25,000.
   */
  readonly timeoutMs?: number;
  /** Most bytes of one answer. Default 67,108,864. */
  readonly maxReplyBytes?: number;
}

export interface ResolvedOpenAi {
  /** For messages. */
  readonly name: string;
  readonly model: string;
  readonly baseURL: string;
  readonly apiKey: string;
  readonly kind: ServedKind;
  readonly system: string | undefined;
  readonly maxTokens: number | undefined;
  readonly temperature: number | undefined;
  readonly probe: boolean;
  readonly allow: readonly string[];
  /** Read and checked where it is used, as `allow` is. */
  readonly ca: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly maxReplyBytes: number;
}

const KEYS = [
  'model',
  'baseURL',
  'apiKey',
  'kind',
  'system',
  'maxTokens',
  'temperature',
  'probe',
  'allow',
  'ca',
  'headers',
  'timeoutMs',
  'maxReplyBytes',
];
const KINDS: readonly unknown[] = ['embeddings', 'completions', 'chat'];

/** Throws a TypeError that names option, expectation and value. */
export function resolveOpenAi({ pool, options }: LoadContext): ResolvedOpenAi {
  const refuse = (option: string, expected: string, value: unknown): never => {
    const got = typeof value === 'string' ? JSON.stringify(value.slice(0, 100)) : String(value);
    throw new TypeError(`Pool "${pool}": options.${option} must be ${expected}, got ${got}`);
  };
  for (const key of Object.keys(options))
    if (!KEYS.includes(key))
      throw new TypeError(`Pool "${pool}": the actor openai has no option ${key}; it has ${KEYS.join(', ')}`);
  const given = options as Partial<Record<keyof OpenAiOptions, unknown>>;
  const { model, baseURL = 'https://api.openai.com/v1', apiKey = 'none', kind = 'chat', system, headers = {} } = given;
  const { maxTokens, temperature, probe = false, allow = [], ca, timeoutMs = 25_000, maxReplyBytes = 2 ** 26 } = given;
  if (typeof model !== 'string' || model === '') return refuse('model', 'the name of a model at the server', model);
  if (typeof baseURL !== 'string') return refuse('baseURL', 'an http or https URL', baseURL);
  if (typeof apiKey !== 'string' || !/^[\x21-\x7e]+$/.test(apiKey))
    return refuse('apiKey', 'printable characters without spaces', typeof apiKey);
  if (!KINDS.includes(kind)) return refuse('kind', KINDS.join(', '), kind);
  if (system !== undefined && typeof system !== 'string') return refuse('system', 'a text', system);
  const isHeaders =
    typeof headers === 'object' &&
    headers !== null &&
    Object.values(headers).every((value) => typeof value === 'string');
  if (!isHeaders) return refuse('headers', 'an object of texts', typeof headers);
  const count = (option: 'maxTokens' | 'timeoutMs' | 'maxReplyBytes', value: unknown): number =>
    Number.isSafeInteger(value) && Number(value) > 0 ? Number(value) : refuse(option, 'a whole number from 1', value);
  if (temperature !== undefined && !(typeof temperature === 'number' && temperature >= 0 && temperature <= 2))
    return refuse('temperature', 'a number from 0 to 2', temperature);
  if (typeof probe !== 'boolean') return refuse('probe', 'true or false', probe);
  return {
    name: `the server of "${pool}"`,
    model,
    baseURL,
    apiKey,
    kind: kind as ServedKind,
    system,
    maxTokens: maxTokens === undefined ? undefined : count('maxTokens', maxTokens),
    temperature: temperature as number | undefined,
    probe,
    allow: allow as readonly string[],
    ca: ca as string | undefined,
    headers: headers as Record<string, string>,
    timeoutMs: count('timeoutMs', timeoutMs),
    maxReplyBytes: count('maxReplyBytes', maxReplyBytes),
  };
}
