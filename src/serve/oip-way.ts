import type { Columns, Signature } from '../wire/tensor.js';

/** One model at a server of the Open Inference Protocol, by one of the protocols that carry it. */
export interface OipWay {
  /** Of the server, for messages. */
  readonly name: string;
  isReady(what: 'model' | 'server', signal: AbortSignal): Promise<boolean | 'not-found'>;
  /** What the server lists that it has; nothing where it tells nothing. */
  extensions(signal: AbortSignal): Promise<readonly unknown[]>;
  /** With `inputs` and `outputs`. What cannot be read is PARSE_FAILED or INPUT_INVALID. */
  metadata(signal: AbortSignal): Promise<Readonly<Record<string, unknown>>>;
  /** With `max_batch_size`; undefined where the server does not tell it. */
  config(signal: AbortSignal): Promise<Readonly<Record<string, unknown>> | undefined>;
  infer(batch: Columns, signature: Signature, isBinary: boolean, signal: AbortSignal): Promise<Columns>;
}

/** Which model, and how it is named in messages. */
export interface ModelPlace {
  readonly model: string;
  readonly version: string | undefined;
  /** `Model "m" version 3 at http://host/`. */
  readonly name: string;
}
