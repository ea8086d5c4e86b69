import { createHash } from 'node:crypto';
import { TroupeError } from '../../kernel/errors.js';
import { Backoff, pause, retryPlan, type BackoffOptions, type RetryPlan } from '../backoff.js';
import type { RecordInfo } from '../envelope.js';
import { HttpFailure, checkHeaders, checkUrl, nameOf, post } from '../http-client.js';
import { checkCount, checkKeys, checkOneOf } from '../options.js';
import { RecordKeys, checkKey, type KeyOption } from '../record-key.js';
import type { Sink } from '../sink.js';
import { jsonOf } from './json-lines.js';

export interface ToHttpOptions<T = unknown> {
  /** Sent with every request; a token goes here. A content-type given here stands in the place of the format's own. */
  headers?: Readonly<Record<string, string>>;
  /** Most records of one POST. 1 sends the value itself, and makes the sink idempotent where the receiver is. Default 100. */
  batch?: number;
  /** Body of more than one record: json, an array; ndjson, a line each. Default json. */
  format?: 'json' | 'ndjson';
  /** How long one request may take. Default 30,000. */
  timeoutMs?: number;
  /** Of requests that time out, lose their connection, or get 408, 425, 429 or 5xx. Default 5 attempts from 200 to 10,000 ms. */
  retry?: BackoffOptions;
  /** What Idempotency-Key is made of; default the record's name in its source, or run and record id. */
  key?: KeyOption<T>;
}

/**
 * Posts values to `url`, in order, one request after the other. The request carries an Idempotency-Key: with `batch: 1`
 * the key of its record, otherwise a digest of the keys of its records, which differs when they are grouped otherwise
 * after a restart. A `Retry-After` is waited for. An answer of 4xx, a redirect, or the last failed try ends the run
 * with SINK_FAILED, which names the record.
 */
export function toHttp<T = unknown>(url: string | URL, options: ToHttpOptions<T> = {}): Sink<T> {
  const target = checkUrl('url', url);
  checkKeys('toHttp', options, ['headers', 'batch', 'format', 'timeoutMs', 'retry', 'key']);
  const { headers = {}, batch = 100, format = 'json', timeoutMs = 30_000, retry, key } = options;
  checkCount('batch', batch);
  checkOneOf('format', format, ['json', 'ndjson']);
  checkCount('timeoutMs', timeoutMs);
  checkKey('key', key);
  return new HttpSink(
    target,
    {
      headers: checkHeaders('headers', headers, ['idempotency-key']),
      batch,
      format,
      timeoutMs,
      retry: retryPlan('retry', retry, 5),
    },
    new RecordKeys(key),
  );
}

interface Plan {
  readonly headers: Readonly<Record<string, string>>;
  readonly batch: number;
  readonly format: 'json' | 'ndjson';
  readonly timeoutMs: number;
  readonly retry: RetryPlan;
}

class HttpSink implements Sink<unknown> {
  readonly name: string;
  readonly isIdempotent: boolean;
  /** Keeps the keys the same in a run that goes on. Not of use where keys depend on how records are grouped. */
  declare readonly prepare?: () => unknown;
  #ending = new AbortController();

  constructor(
    private readonly url: URL,
    private readonly plan: Plan,
    private readonly keys: RecordKeys,
  ) {
    this.name = nameOf(url);
    this.isIdempotent = plan.batch === 1;
    if (this.isIdempotent) this.prepare = () => this.keys.state;
  }

  open(resume?: { readonly state: unknown }): void {
    this.#ending = new AbortController();
    this.keys.open(resume);
  }

  async write(values: readonly unknown[], records: readonly RecordInfo[]): Promise<void> {
    const { batch } = this.plan;
    for (let from = 0; from < values.length; from += batch) {
      await this.#post(values.slice(from, from + batch), records.slice(from, from + batch));
    }
  }

  close(): void {
    this.#ending.abort();
  }

  async #post(values: readonly unknown[], records: readonly RecordInfo[]): Promise<void> {
    const body = this.#encode(values, records);
    const keys = values.map((value, index) => this.keys.of(value, records[index] as RecordInfo));
    const backoff = new Backoff(this.plan.retry);
    const { signal } = this.#ending;
    const headers = {
      'content-type': this.#isNdjson ? 'application/x-ndjson' : 'application/json',
      ...this.plan.headers,
      'idempotency-key': keyOf(keys),
    };
    for (;;) {
      try {
        const { timeoutMs } = this.plan;
        await post({ method: 'POST', url: this.url, headers, body, timeoutMs, signal });
        return;
      } catch (cause) {
        const failure = cause instanceof HttpFailure ? cause : undefined;
        const waitMs = failure?.isTransient === true ? backoff.next(failure.retryAfterMs) : undefined;
        if (waitMs === undefined || signal.aborted) throw this.#failed(records, backoff.failures, cause);
        await pause(waitMs, signal);
        if (signal.aborted) throw this.#failed(records, backoff.failures, cause);
      }
    }
  }

  get #isNdjson(): boolean {
    return this.plan.format === 'ndjson' && this.plan.batch > 1;
  }

  #encode(values: readonly unknown[], records: readonly RecordInfo[]): string {
    const texts = values.map((value, index) => jsonOf(value, records[index]));
    if (this.#isNdjson) return texts.map((text) => `${text}\n`).join('');
    return this.plan.batch === 1 ? (texts[0] as string) : `[${texts.join()}]`;
  }

  #failed(records: readonly RecordInfo[], tries: number, cause: unknown): TroupeError {
    const first = records[0]?.id;
    const last = records.at(-1)?.id;
    const which = first === last ? `record ${first}` : `records ${first} to ${last}`;
    const words = cause instanceof Error ? cause.message : String(cause);
    const times = tries > 1 ? ` after ${tries} tries` : '';
    return new TroupeError('SINK_FAILED', `${this.name} did not take ${which}${times}: ${words}`, { cause });
  }
}

/** A single record's own key where a header can hold it. */
function keyOf(keys: readonly string[]): string {
  const [only = ''] = keys;
  if (keys.length === 1 && /^[\x21-\x7e]{1,200}$/.test(only)) return only;
  return createHash('sha256').update(JSON.stringify(keys)).digest('hex');
}
