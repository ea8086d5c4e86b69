/**
 * The name under which an idempotent sink knows a record.
 *
 * `RecordInfo.id` is a place in one run's source. Two runs over different input give the same ids, and a queue gives
 * a record a new place at every delivery; a sink that kept ids alone would drop the second run's records as seen
 * already. So the key is, in this order:
 * - what the option `key` gives, where it is a function;
 * - the source's own name of the record, where it has one (`metadata.key`: an entry of a Redis stream, a row, a POST
 *   with an Idempotency-Key): the same at every delivery;
 * - otherwise `RUN:ID`, where RUN is the option `key` as a string, or else chosen anew by every run that begins and
 *   kept in the checkpoint by every run that goes on.
 */
import { randomUUID } from 'node:crypto';
import type { RecordInfo } from './envelope.js';
import { refuse } from './options.js';

/** A string: the same run for ever, as when the same input is read again. A function: the key itself. */
export type KeyOption<T> = string | ((value: T, record: RecordInfo) => string);

/** What a source that names its records puts into their metadata. */
export interface NamedRecord {
  /** The same whenever the source gives this record; no other record of any source has it. */
  readonly key: string;
}

export function checkKey(option: string, value: unknown): void {
  if (value === undefined || typeof value === 'function') return;
  if (typeof value !== 'string' || value === '') refuse(option, 'a string that is not empty, or a function', value);
}

export class RecordKeys {
  #run = '';

  constructor(private readonly key: KeyOption<never> | undefined) {}

  /** What `prepare` gives to the checkpoint. */
  get state(): { readonly run: string } {
    return { run: this.#run };
  }

  open(resume: { readonly state: unknown } | undefined): void {
    if (typeof this.key === 'string') this.#run = this.key;
    else this.#run = runOf(resume?.state) ?? randomUUID();
  }

  of(value: unknown, record: RecordInfo): string {
    if (typeof this.key === 'function') {
      const key: unknown = this.key(value as never, record);
      if (typeof key === 'string' && key !== '') return key;
      throw new TypeError(`key must give a string that is not empty, gave ${typeof key} for record ${record.id}`);
    }
    const { metadata, id } = record;
    const isNamed = typeof metadata === 'object' && metadata !== null && 'key' in metadata;
    if (!isNamed || typeof metadata.key !== 'string') return `${this.#run}:${id}`;
    const child = id.indexOf('.');
    return child < 0 ? metadata.key : `${metadata.key}${id.slice(child)}`;
  }
}

function runOf(state: unknown): string | undefined {
  if (typeof state !== 'object' || state === null || !('run' in state)) return undefined;
  return typeof state.run === 'string' ? state.run : undefined;
}
