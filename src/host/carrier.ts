import type { ControlApi, ToEntry, ToHost } from '../wire/messages.js';

/** What one isolation must offer; everything that all isolations share is in link-core.ts. */
export interface Carrier {
  readonly control: ControlApi;
  /** Rows cross by reference: nothing is copied and nothing is packed. */
  readonly isLocal: boolean;
  /**
   * Sends on the data lane. Throws when a value cannot be copied; nothing was sent then. Undefined: what the message held
   * was copied or has gone (a transferred buffer is empty). Otherwise it is still read until the promise resolves.
   */
  post(message: ToEntry): Promise<void> | undefined;
  /** What would arrive of one value. Throws when it cannot cross. */
  copy(value: unknown): unknown;
  /** The polite end: SIGTERM. Nothing where there is no such thing. */
  terminate(): void;
  /** Ends it now. False: that would endanger the host (native code busy in a thread, code inline), so it was fenced and left. */
  kill(): boolean;
  /** It has ended, and nothing is asked of it any more: lets go of what would keep it in memory. */
  release(): void;
}

/** What a carrier tells its core, in the order it happened; `closedBy` once and last. */
export interface CarrierEvents {
  message(message: ToHost): void;
  /** The data lane cannot be trusted any more. */
  garbled(error: unknown): void;
  /** No sign of life, although the replica has not ended. */
  silent(what: string): void;
  closedBy(end: RawEnd): void;
}

/** How it ended, as the system said it. */
export interface RawEnd {
  readonly exitCode?: number;
  readonly signal?: string;
  /** The error that ended it, where one is known. */
  readonly error?: unknown;
  readonly isOutOfMemory?: boolean;
  /** The last of what it wrote to stderr. */
  readonly stderrTail?: string;
}
