import type { Report } from './report.js';
import type { Sink } from './sink.js';
import type { SourceReader } from './source.js';
import type { SourceKind } from './tracking.js';

export interface Ends {
  readonly kind: SourceKind;
  /** Of an acknowledging source: records had no token, or one in common. */
  readonly isAmbiguous: boolean;
  readonly reader: SourceReader<unknown>;
  readonly sinks: readonly Sink<never>[];
  /** Damaged files of newer checkpoints than the one that the run went on from; undefined: no checkpoints are made. */
  readonly putAside: readonly string[] | undefined;
}

/** What the output of a run is worth after a crash, see Report.delivery. */
export function deliveryOf({ kind, isAmbiguous, reader, sinks, putAside }: Ends): Report['delivery'] {
  if (kind === 'neither') return undefined;
  if (putAside === undefined) return kind === 'acknowledging' ? 'at-least-once' : undefined;
  // What was acknowledged after the checkpoint that is left does not come again, and the sinks have gone back behind it.
  if (kind === 'acknowledging' && putAside.length > 0) return undefined;
  // A record that a queue gives again has another number: an idempotent sink knows it only by a name of its own.
  const isKnown = kind === 'replayable' || reader.namesRecords === true;
  if (kind === 'acknowledging' && isAmbiguous) return 'at-least-once';
  const isExact = sinks.every((sink) => (sink.isIdempotent === true ? isKnown : sink.prepare !== undefined));
  return isExact ? 'exactly-once' : 'at-least-once';
}
