import test from 'ava';
import { Envelope } from '../../src/stream/envelope.js';
import type { SourceReader } from '../../src/stream/source.js';
import { type SourceState, Tracking } from '../../src/stream/tracking.js';

/** Numbers from `at` on, which can be read again from anywhere. */
class Numbers implements SourceReader<number> {
  constructor(private at: number) {}

  read(max: number): number[] {
    const from = this.at;
    this.at += max;
    return Array.from({ length: max }, (_, index) => from + index);
  }

  position(): number {
    return this.at;
  }

  close(): void {}
}

function goOn(state: SourceState | undefined): { tracking: Tracking; reader: Numbers } {
  const reader = new Numbers((state?.place?.position as number | undefined) ?? 0);
  return { reader, tracking: new Tracking(reader, true, state) };
}

function deliver(tracking: Tracking, seq: number): void {
  tracking.delivered(new Envelope(seq, seq, 0, undefined, undefined), undefined);
}

test('a run that ends while it reads again what had settled hands on that it had', (t) => {
  const first = goOn(undefined);
  first.tracking.entered(first.reader.read(10));
  for (const seq of [5, 6, 7]) deliver(first.tracking, seq);
  const second = goOn(first.tracking.cut().state);
  // Ends before it has come to the records that had settled.
  second.tracking.entered(second.reader.read(2));
  deliver(second.tracking, 0);
  const third = goOn(second.tracking.cut().state);
  t.is(third.tracking.next, 0);
  t.deepEqual(
    Array.from({ length: 10 }, (_, seq) => seq).filter((seq) => third.tracking.hadSettled(seq, '')),
    [0, 5, 6, 7],
  );
});
