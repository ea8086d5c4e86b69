/**
 * Entries of a Redis stream, as one consumer of a group. The server remembers what was given to whom and not
 * acknowledged; here is only what is under way in this run.
 *
 * E1 an entry is under way at most once in a run: whatever way it comes again, it is not given twice before its outcome.
 * E2 an entry is acknowledged after its outcome, never before.
 * E3 what was given to this consumer in an earlier run, or got lost with a connection, is read before anything new.
 */
import { isUtf8 } from 'node:buffer';
import { systemClock, type Timer } from '../../kernel/clock.js';
import { TroupeError } from '../../kernel/errors.js';
import { retryPlan, type BackoffOptions, type RetryPlan } from '../backoff.js';
import { RecordFailure, Stamped } from '../envelope.js';
import { checkCount, checkKeys, checkOneOf, checkText, checkFlag } from '../options.js';
import { parseJson } from '../parse-json.js';
import { RedisLink, RedisRefusal, checkRedisUrl, redisName, type RedisReply } from '../redis-client.js';
import type { Acknowledgement, Source, SourceReader } from '../source.js';

export interface FromRedisOptions {
  /** `redis://[user:password@]host[:port][/db]`, or rediss for TLS. */
  url: string;
  stream: string;
  group: string;
  /** Names this reader within the group, the same after a restart; two readers at a time must not share it. */
  consumer: string;
  /** json: the field `field` of an entry, as JSON. fields: all fields, as an object of strings. Default json. */
  format?: 'json' | 'fields';
  /** Default `value`. */
  field?: string;
  /** Where a group that is not there yet begins: at the oldest entry, or after the newest. Default oldest. */
  start?: 'oldest' | 'newest';
  /** Takes over what any consumer of the group has held for this long, its own failed entries included. Default: never. */
  claimIdleMs?: number;
  /** An entry given more often than this fails with DELIVERY_LIMIT and is acknowledged. Default 5. */
  maxDeliveries?: number;
  /** Ends when the group has read all there is, instead of waiting for more. Default false. */
  endWhenEmpty?: boolean;
  /** Of a connection that broke. Default 10 tries in a row, from 200 to 10,000 ms. */
  reconnect?: BackoffOptions;
}

/** What an entry carries along. Its time stamp is the one in its id. */
export interface RedisMetadata {
  readonly key: string;
  readonly stream: string;
  readonly id: string;
  /** How often it had been given before, to anybody. */
  readonly redeliveries: number;
}

const BLOCK_MS = 5000;
/** Ids of one XACK or XCLAIM. */
const IDS_PER_COMMAND = 1000;

/**
 * Reads a Redis stream as a consumer of a group, which is made where it is missing. Acknowledging: an entry is XACKed
 * when its outcome is safe. After a restart the consumer gets first what it had not acknowledged. An entry whose record
 * failed without a dead letter stays with the group: it comes again after `claimIdleMs`, or at the next start. Rejects
 * with SOURCE_FAILED when the server cannot be reached or refuses, and with PACKAGE_NOT_INSTALLED without `redis`.
 */
export function fromRedis<T = unknown>(options: FromRedisOptions): Source<T> {
  checkKeys('fromRedis', options, [
    'url',
    'stream',
    'group',
    'consumer',
    'format',
    'field',
    'start',
    'claimIdleMs',
    'maxDeliveries',
    'endWhenEmpty',
    'reconnect',
  ]);
  const { url, stream, group, consumer, format = 'json', field = 'value', start = 'oldest' } = options;
  const { claimIdleMs, maxDeliveries = 5, endWhenEmpty = false, reconnect } = options;
  checkRedisUrl('url', url);
  checkText('stream', stream);
  checkText('group', group);
  checkText('consumer', consumer);
  checkText('field', field);
  checkOneOf('format', format, ['json', 'fields']);
  checkOneOf('start', start, ['oldest', 'newest']);
  if (claimIdleMs !== undefined) checkCount('claimIdleMs', claimIdleMs);
  checkCount('maxDeliveries', maxDeliveries);
  checkFlag('endWhenEmpty', endWhenEmpty);
  const name = redisName(url, stream);
  const decode = format === 'json' ? (fields: Fields) => parseField(fields, field) : (fields: Fields) => fields;
  const retry = retryPlan('reconnect', reconnect, 10);
  const plan: Plan = { name, url, stream, group, consumer, claimIdleMs, maxDeliveries, endWhenEmpty, retry, decode };
  return {
    name,
    open: async (_from, giveUp) => {
      const reader = new RedisReader(plan);
      giveUp?.addEventListener('abort', () => reader.close(), { once: true });
      await reader.start(start === 'oldest' ? '0' : '$');
      return reader as SourceReader<T>;
    },
  };
}

type Fields = Readonly<Record<string, string>>;

interface Plan {
  readonly name: string;
  readonly url: string;
  readonly stream: string;
  readonly group: string;
  readonly consumer: string;
  readonly claimIdleMs: number | undefined;
  readonly maxDeliveries: number;
  readonly endWhenEmpty: boolean;
  readonly retry: RetryPlan;
  readonly decode: (fields: Fields) => unknown;
}

interface Entry {
  readonly id: string;
  /** Undefined: deleted from the stream while it was under way. */
  readonly fields: Fields | undefined;
  /** The client has put replacement characters in the place of bytes. */
  readonly isMangled?: boolean;
}

class RedisReader implements SourceReader<unknown> {
  readonly namesRecords = true;
  /** Blocks in XREADGROUP, so nothing else can use it. */
  readonly #reading: RedisLink;
  readonly #telling: RedisLink;
  /** Given and without outcome. True: done with, whatever comes of it, because giving it again cannot help. */
  readonly #underWay = new Map<string, boolean>();
  /** Acknowledged while the server was asked for entries that come again: its answer may be older than that. */
  #justSettled: Set<string> | undefined;
  /** Where the look through this consumer's own pending entries stands; undefined when it is done. */
  #recoverFrom: string | undefined = '0';
  #epoch = 0;
  #claimFrom = '0-0';
  #claimAt = 0;
  #touch: Timer | undefined;
  #isClosed = false;

  constructor(private readonly plan: Plan) {
    this.#reading = new RedisLink(plan.name, plan.url, plan.retry);
    this.#telling = new RedisLink(plan.name, plan.url, plan.retry);
  }

  async start(from: string): Promise<void> {
    const { stream, group, claimIdleMs } = this.plan;
    try {
      await this.#reading.send(['XGROUP', 'CREATE', stream, group, from, 'MKSTREAM']);
    } catch (cause) {
      if (!(cause instanceof RedisRefusal) || !cause.message.startsWith('BUSYGROUP')) {
        this.#end();
        throw this.#failed(cause);
      }
    }
    this.#epoch = this.#reading.epoch;
    if (claimIdleMs !== undefined) this.#scheduleTouch(claimIdleMs / 3);
  }

  async read(max: number): Promise<readonly Stamped<unknown>[] | undefined> {
    try {
      while (!this.#isClosed) {
        const items = (await this.#recover(max)) ?? (await this.#claim(max)) ?? (await this.#readNew(max));
        if (items === 'empty') {
          if (this.plan.endWhenEmpty && this.#epoch === this.#reading.epoch) return undefined;
          continue;
        }
        if (items.length > 0) return items;
      }
      return undefined;
    } catch (cause) {
      if (this.#isClosed) return undefined;
      throw this.#failed(cause);
    }
  }

  /** E2. */
  async acknowledge(outcomes: readonly Acknowledgement[]): Promise<void> {
    const ids: string[] = [];
    for (const { token, error } of outcomes) {
      const id = String(token);
      if (error === undefined || this.#underWay.get(id) === true) ids.push(id);
      else this.#underWay.delete(id);
    }
    const { stream, group } = this.plan;
    try {
      for (let from = 0; from < ids.length; from += IDS_PER_COMMAND) {
        const some = ids.slice(from, from + IDS_PER_COMMAND);
        await this.#telling.send(['XACK', stream, group, ...some]);
        for (const id of some) {
          this.#underWay.delete(id);
          this.#justSettled?.add(id);
        }
      }
    } catch (cause) {
      throw this.#failed(cause);
    }
  }

  close(): void {
    this.#end();
  }

  /** E3. Undefined when there is nothing left to recover. */
  async #recover(max: number): Promise<Stamped<unknown>[] | undefined> {
    if (this.#epoch !== this.#reading.epoch) {
      this.#epoch = this.#reading.epoch;
      this.#recoverFrom = '0';
    }
    if (this.#recoverFrom === undefined) return undefined;
    this.#justSettled = new Set();
    const entries = await this.#readGroup(max, this.#recoverFrom, 0);
    this.#recoverFrom = entries.at(-1)?.id;
    return entries.length === 0 ? undefined : this.#give(entries, await this.#deliveriesOf(entries));
  }

  /** Undefined when it is not time, or nothing lies idle. */
  async #claim(max: number): Promise<Stamped<unknown>[] | undefined> {
    const { stream, group, consumer, claimIdleMs } = this.plan;
    const now = systemClock.now();
    if (claimIdleMs === undefined || now < this.#claimAt) return undefined;
    this.#justSettled = new Set();
    const count = String(max);
    const command = ['XAUTOCLAIM', stream, group, consumer, String(claimIdleMs), this.#claimFrom, 'COUNT', count];
    const [next, found] = (await this.#reading.send(command)) as [string, RedisReply[]];
    this.#claimFrom = next;
    if (next === '0-0') this.#claimAt = now + claimIdleMs / 2;
    const entries = await this.#checked(entriesOf(found));
    if (entries.length === 0) return next === '0-0' ? undefined : [];
    return this.#give(entries, await this.#deliveriesOf(entries));
  }

  async #readNew(max: number): Promise<Stamped<unknown>[] | 'empty'> {
    const { claimIdleMs, endWhenEmpty } = this.plan;
    const blockMs = endWhenEmpty ? 0 : Math.min(BLOCK_MS, Math.ceil((claimIdleMs ?? Infinity) / 2));
    const entries = await this.#readGroup(max, '>', blockMs);
    return entries.length === 0 ? 'empty' : this.#give(entries, new Map());
  }

  /** `blockMs` 0 does not wait. */
  async #readGroup(max: number, from: string, blockMs: number): Promise<Entry[]> {
    const { stream, group, consumer } = this.plan;
    const block = blockMs > 0 ? ['BLOCK', String(blockMs)] : [];
    const command = ['XREADGROUP', 'GROUP', group, consumer, 'COUNT', String(max), ...block, 'STREAMS', stream, from];
    const reply = (await this.#reading.send(command, blockMs)) as [string, RedisReply[]][] | null;
    return this.#checked(entriesOf(reply?.[0]?.[1] ?? []));
  }

  /** Replacement characters may stand in the entry itself; where there are any, its bytes are asked for. */
  #checked(entries: readonly Entry[]): Promise<Entry[]> {
    return Promise.all(
      entries.map(async (entry) => {
        const words = Object.entries(entry.fields ?? {}).flat();
        if (!words.some((word) => word.includes('\uFFFD'))) return entry;
        const { id } = entry;
        const found = await this.#reading.sendForBytes(['XRANGE', this.plan.stream, id, id]);
        const [, bytes = []] = (found as [Buffer, Buffer[]][])[0] ?? [];
        return bytes.every((word) => isUtf8(word)) ? entry : { ...entry, isMangled: true };
      }),
    );
  }

  /** How often each entry has been given, this time included. */
  async #deliveriesOf(entries: readonly Entry[]): Promise<ReadonlyMap<string, number>> {
    const { stream, group, consumer } = this.plan;
    const counts = entries.map(async ({ id }) => {
      const rows = (await this.#reading.send(['XPENDING', stream, group, id, id, '1', consumer])) as RedisReply[][];
      return [id, Number(rows[0]?.[3] ?? 1)] as const;
    });
    return new Map(await Promise.all(counts));
  }

  /** E1. */
  #give(entries: readonly Entry[], deliveries: ReadonlyMap<string, number>): Stamped<unknown>[] {
    const items: Stamped<unknown>[] = [];
    for (const entry of entries) {
      const { id } = entry;
      if (this.#underWay.has(id) || this.#justSettled?.has(id) === true) continue;
      const count = deliveries.get(id) ?? 1;
      const value = this.#valueOf(entry, count);
      this.#underWay.set(id, value instanceof RecordFailure);
      const { stream } = this.plan;
      const metadata: RedisMetadata = { key: `redis:${stream}:${id}`, stream, id, redeliveries: count - 1 };
      items.push(new Stamped(value, { token: id, timestamp: Number(id.split('-')[0]), metadata }));
    }
    this.#justSettled = undefined;
    return items;
  }

  #valueOf({ id, fields, isMangled }: Entry, deliveries: number): unknown {
    const { name, maxDeliveries, decode } = this.plan;
    if (fields === undefined) {
      const message = `${name}: entry ${id} was deleted from the stream before it was acknowledged`;
      return new RecordFailure(new TroupeError('SOURCE_FAILED', message), { id });
    }
    if (deliveries > maxDeliveries) {
      const message = `${name}: entry ${id} was given ${deliveries - 1} times without an outcome, maxDeliveries is ${maxDeliveries}`;
      return new RecordFailure(new TroupeError('DELIVERY_LIMIT', message), fields);
    }
    if (isMangled === true) {
      const message = `${name}: entry ${id} is not valid UTF-8`;
      return new RecordFailure(new TroupeError('PARSE_FAILED', message), fields);
    }
    try {
      return decode(fields);
    } catch (cause) {
      const words = cause instanceof Error ? cause.message : String(cause);
      return new RecordFailure(new TroupeError('PARSE_FAILED', `${name}: entry ${id} ${words}`, { cause }), fields);
    }
  }

  /** Tells the others that what is under way here is not idle; XCLAIM with JUSTID counts no delivery. */
  #scheduleTouch(everyMs: number): void {
    this.#touch = systemClock.at(systemClock.now() + everyMs, () => {
      void this.#touchAll().then(() => {
        if (!this.#isClosed) this.#scheduleTouch(everyMs);
      });
    });
  }

  async #touchAll(): Promise<void> {
    const { stream, group, consumer } = this.plan;
    const ids = [...this.#underWay.keys()];
    try {
      for (let from = 0; from < ids.length; from += IDS_PER_COMMAND) {
        const some = ids.slice(from, from + IDS_PER_COMMAND).filter((id) => this.#underWay.has(id));
        if (some.length > 0) await this.#telling.send(['XCLAIM', stream, group, consumer, '0', ...some, 'JUSTID']);
      }
    } catch {
      // The reads and acknowledgements of this run meet the same trouble and tell of it; here it costs a delivery.
    }
  }

  #end(): void {
    this.#isClosed = true;
    this.#touch?.cancel();
    this.#reading.end();
    this.#telling.end();
  }

  #failed(cause: unknown): TroupeError {
    if (cause instanceof TroupeError) return cause;
    const words = cause instanceof Error ? cause.message : String(cause);
    return new TroupeError('SOURCE_FAILED', `Cannot read ${this.plan.name}: ${words}`, { cause });
  }
}

/** `[id, [name, value, ...]]` each; nothing in the place of the fields of a deleted entry. */
function entriesOf(found: readonly RedisReply[]): Entry[] {
  return found.flatMap((entry): Entry[] => {
    if (entry === null) return [];
    const [id, words] = entry as [string, readonly string[] | null];
    if (words === null) return [{ id, fields: undefined }];
    // A field may have any name, so it must not reach a prototype.
    const fields: Record<string, string> = Object.create(null) as Record<string, string>;
    for (let index = 0; index < words.length; index += 2) fields[words[index] as string] = words[index + 1] as string;
    return [{ id, fields: { ...fields } }];
  });
}

function parseField(fields: Fields, field: string): unknown {
  const text = Object.hasOwn(fields, field) ? fields[field] : undefined;
  if (text === undefined) throw new Error(`has no field "${field}"; it has ${Object.keys(fields).join(', ')}`);
  try {
    return parseJson(text);
  } catch (cause) {
    throw new Error(`has no JSON in field "${field}": ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  }
}
