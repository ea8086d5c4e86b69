import { TroupeError } from '../../kernel/errors.js';
import { retryPlan, type BackoffOptions, type RetryPlan } from '../backoff.js';
import type { RecordInfo } from '../envelope.js';
import { checkCount, checkKeys, checkText } from '../options.js';
import { RecordKeys, checkKey, type KeyOption } from '../record-key.js';
import { RedisLink, checkRedisUrl, redisName } from '../redis-client.js';
import type { Sink } from '../sink.js';
import { jsonOf } from './json-lines.js';

export interface ToRedisOptions<T = unknown> {
  /** `redis://[user:password@]host[:port][/db]`, or rediss for TLS. */
  url: string;
  stream: string;
  /** Field of an entry that takes the value as JSON. Default `value`. */
  field?: string;
  /** Old entries are let go of beyond about this many. Default: all stay. */
  maxLength?: number;
  /** How many records back a second writing of the same record is known. Default 100,000. */
  remember?: number;
  /** What a record is known by; default its name in its source, or run and record id. */
  key?: KeyOption<T>;
  /** Of a connection that broke. Default 10 tries in a row, from 200 to 10,000 ms. */
  reconnect?: BackoffOptions;
}

/**
 * Adds an entry with the field `value` for each value. Idempotent: the keys of the last `remember` records stand in
 * the sorted set `{STREAM}:troupe-written` (gone a week after the last write), and one script checks the key and adds
 * the entry, so a record written again, by this run or one that goes on from its checkpoint, is there once. Resolves
 * when the server has it: how safe that is, its own settings say (appendfsync). Rejects with SINK_FAILED.
 */
export function toRedis<T = unknown>(options: ToRedisOptions<T>): Sink<T> {
  checkKeys('toRedis', options, ['url', 'stream', 'field', 'maxLength', 'remember', 'key', 'reconnect']);
  const { url, stream, field = 'value', maxLength, remember = 100_000, key, reconnect } = options;
  checkRedisUrl('url', url);
  checkText('stream', stream);
  checkText('field', field);
  if (maxLength !== undefined) checkCount('maxLength', maxLength);
  checkCount('remember', remember);
  checkKey('key', key);
  const plan = { url, stream, field, maxLength, remember, retry: retryPlan('reconnect', reconnect, 10) };
  return new RedisSink(plan, new RecordKeys(key));
}

interface Plan {
  readonly url: string;
  readonly stream: string;
  readonly field: string;
  readonly maxLength: number | undefined;
  readonly remember: number;
  readonly retry: RetryPlan;
}

/** A script holds the whole server while it runs, and its bytes must get there before the command is given up. */
const RECORDS_PER_SCRIPT = 256;
const CHARS_PER_SCRIPT = 4_194_304;

/**
 * The score counts up from the highest there is, so the oldest keys have the lowest ranks. What goes wrong half-way is
 * not undone, so a key is noted after its entry is there: never a key without its entry.
 */
const SCRIPT = `
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local score = last[2] and tonumber(last[2]) or 0
for index = 4, #ARGV, 2 do
  if not redis.call('ZSCORE', KEYS[2], ARGV[index]) then
    if ARGV[2] == '' then
      redis.call('XADD', KEYS[1], '*', ARGV[3], ARGV[index + 1])
    else
      redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', ARGV[3], ARGV[index + 1])
    end
    score = score + 1
    redis.call('ZADD', KEYS[2], score, ARGV[index])
  end
end
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - tonumber(ARGV[1]))
redis.call('EXPIRE', KEYS[2], 604800)
return 1
`;

class RedisSink implements Sink<unknown> {
  readonly name: string;
  readonly isIdempotent = true;
  #link: RedisLink | undefined;

  constructor(
    private readonly plan: Plan,
    private readonly keys: RecordKeys,
  ) {
    this.name = redisName(plan.url, plan.stream);
  }

  async open(resume?: { readonly state: unknown }, giveUp?: AbortSignal): Promise<void> {
    const { url, stream, retry } = this.plan;
    this.keys.open(resume);
    this.#link?.end();
    this.#link = new RedisLink(this.name, url, retry);
    giveUp?.addEventListener('abort', () => this.#link?.end(), { once: true });
    try {
      const type = await this.#link.send(['TYPE', stream]);
      if (type !== 'none' && type !== 'stream') throw new Error(`it is a ${String(type)}, not a stream`);
      // Adding nothing meets every trouble that is not about values: permissions, the sorted set.
      await this.#link.send(this.#script([]));
    } catch (cause) {
      this.#link.end();
      throw this.#failed('open', cause);
    }
  }

  async write(values: readonly unknown[], records: readonly RecordInfo[]): Promise<void> {
    let words: string[] = [];
    let chars = 0;
    let from = 0;
    for (const [index, value] of values.entries()) {
      const record = records[index] as RecordInfo;
      const key = this.keys.of(value, record);
      const text = jsonOf(value, record);
      if (words.length === 2 * RECORDS_PER_SCRIPT || (words.length > 0 && chars + text.length > CHARS_PER_SCRIPT)) {
        await this.#add(words, records.slice(from, index));
        words = [];
        chars = 0;
        from = index;
      }
      words.push(key, text);
      chars += key.length + text.length;
    }
    await this.#add(words, records.slice(from));
  }

  prepare(): unknown {
    return this.keys.state;
  }

  close(): void {
    this.#link?.end();
  }

  async #add(words: readonly string[], records: readonly RecordInfo[]): Promise<void> {
    try {
      await this.#link?.send(this.#script(words));
    } catch (cause) {
      const which = records.length === 1 ? `record ${records[0]?.id}` : `records ${records[0]?.id} and following`;
      throw this.#failed(`write ${which} to`, cause);
    }
  }

  #script(words: readonly string[]): string[] {
    const { stream, field, maxLength, remember } = this.plan;
    const settings = [String(remember), maxLength === undefined ? '' : String(maxLength), field];
    return ['EVAL', SCRIPT, '2', stream, writtenKey(stream), ...settings, ...words];
  }

  #failed(what: string, cause: unknown): TroupeError {
    if (cause instanceof TroupeError) return cause;
    const words = cause instanceof Error ? cause.message : String(cause);
    return new TroupeError('SINK_FAILED', `Cannot ${what} ${this.name}: ${words}`, { cause });
  }
}

/** In a cluster both keys of the script must lie in one slot; braces name the part of a key that decides. */
function writtenKey(stream: string): string {
  return `${/\{[^}]+\}/.test(stream) ? stream : `{${stream}}`}:troupe-written`;
}
