import { deserialize, serialize } from 'node:v8';
import { isTroupeError, TroupeError } from '../../kernel/errors.js';
import { fromFault, toFault, type Fault } from '../../wire/fault.js';
import { Control, RecordFailure, Stamped, Watermark } from '../envelope.js';
import { isA, wordsOf } from '../foreign.js';
import { jsonSafe } from '../json-safe.js';
import type { SourceItem } from '../source.js';

/**
 * Records and results as bytes. They may be anything that can be cloned, maps, dates and typed arrays included, which
 * JSON cannot hold: so V8's own serialization, whose readers take every older version of it. Only files of a checkpoint
 * directory, checked by their sums, are ever read with it.
 */
type PlainItem =
  | { readonly kind: 'value'; readonly value: unknown }
  | { readonly kind: 'failure'; readonly fault: Fault; readonly input: unknown }
  | {
      readonly kind: 'stamped';
      readonly of: PlainItem;
      readonly timestamp: number | undefined;
      readonly metadata: unknown;
      readonly token: unknown;
    }
  | { readonly kind: 'control'; readonly name: string; readonly data: unknown };

/** Throws a DataCloneError for what cannot be cloned. */
export function encodeItem(item: SourceItem<unknown>): Uint8Array {
  return serialize(plainOf(item));
}

/**
 * A record that cannot be encoded fails: what is saved of it is its failure, with the record in words. `error` is
 * undefined where the source had said itself that it cannot be read. Throws for a control element, which has no failure.
 */
export function failedItem(
  seq: number,
  item: SourceItem<unknown>,
  cause: unknown,
): { readonly error: TroupeError | undefined; readonly saved: Uint8Array } {
  const stamped = isA(item, Stamped) ? item : undefined;
  const value: unknown = stamped === undefined ? item : stamped.value;
  if (isA(value, Control)) {
    const words = `the data of control element ${JSON.stringify(value.name)} must be JSON: ${wordsOf(cause)}`;
    throw new TypeError(words, { cause });
  }
  const known = isA(value, RecordFailure) ? value : undefined;
  const error =
    known === undefined
      ? new TroupeError(
          'INPUT_INVALID',
          `Record ${seq} cannot be copied into a checkpoint: ${wordsOf(cause)}. Let the source give plain data`,
          { cause },
        )
      : undefined;
  const failure = new RecordFailure((known?.error ?? error) as TroupeError, jsonSafe(known?.input ?? value));
  if (stamped === undefined) return { error, saved: encodeItem(failure) };
  const { timestamp, metadata, token } = stamped;
  const facts = { ...(timestamp === undefined ? {} : { timestamp }), metadata: jsonSafe(metadata), token };
  return { error, saved: encodeItem(new Stamped<unknown>(failure, facts)) };
}

export function decodeItem(bytes: Uint8Array): SourceItem<unknown> {
  return itemOf(deserialize(bytes) as PlainItem);
}

/** Any value that can be cloned, as base64; throws a DataCloneError for others. */
export function encodeValue(value: unknown): string {
  return serialize(value).toString('base64');
}

export function decodeValue(text: string): unknown {
  return deserialize(Buffer.from(text, 'base64'));
}

export function errorOf(fault: Fault): TroupeError {
  const error = fromFault(fault);
  return isTroupeError(error) ? error : new TroupeError('INTERNAL', error.message, { cause: error });
}

function plainOf(item: unknown): PlainItem {
  if (isA(item, Stamped)) {
    const { value, timestamp, metadata, token } = item;
    return { kind: 'stamped', of: plainOf(value), timestamp, metadata, token };
  }
  if (isA(item, RecordFailure)) return { kind: 'failure', fault: toFault(item.error), input: item.input };
  if (isA(item, Control)) return { kind: 'control', name: item.name, data: item.data };
  return { kind: 'value', value: item };
}

function itemOf(plain: PlainItem): SourceItem<unknown> {
  switch (plain.kind) {
    case 'value':
      return plain.value;
    case 'failure':
      return new RecordFailure(errorOf(plain.fault), plain.input);
    case 'control':
      return plain.name === 'watermark' ? new Watermark(plain.data as number) : new Control(plain.name, plain.data);
    case 'stamped': {
      const { of, timestamp, metadata, token } = plain;
      return new Stamped(itemOf(of), { ...(timestamp === undefined ? {} : { timestamp }), metadata, token });
    }
    default:
      return plain satisfies never;
  }
}
