import test from 'ava';
import { Envelope } from '../../src/stream/envelope.js';
import type { SourceReader } from '../../src/stream/source.js';
import { resumedState, type SourceState, Tracking } from '../../src/stream/tracking.js';

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

/** As Numbers, and wants to be told besides. */
class ToldNumbers extends Numbers {
  acknowledge(): void {}
}

test('a source that goes back and is acknowledged besides loses no record that is under way at two crashes', (t) => {
  const first = new Tracking(new ToldNumbers(0), true, undefined);
  first.entered([0, 1]);
  for (const seq of [0, 1]) t.is(first.opened(seq, `token ${seq}`), seq);
  const { state } = first.cut();
  const second = new Tracking(new ToldNumbers(state.place?.position as number), true, state);
  second.entered([0, 1]);
  for (const seq of [0, 1]) t.is(second.opened(seq, `token ${seq}`), seq);
  t.is(second.cut().state.place?.seq, 0, 'nothing has settled');
});

test('a run that goes on where tokens were ambiguous drops nothing by its token', (t) => {
  const queue = (): SourceReader<number> => ({
    read: () => undefined,
    acknowledge: () => undefined,
    close: () => undefined,
  });
  const firstGiven = (tokens: readonly string[]): number | undefined => {
    const first = new Tracking(queue(), true, undefined);
    first.entered(tokens.map((_, seq) => seq));
    for (const [seq, token] of tokens.entries()) first.opened(seq, token);
    for (const seq of tokens.keys()) deliver(first, seq);
    const state = resumedState(first.cut().state);
    const second = new Tracking(queue(), true, state);
    second.entered([7]);
    return second.opened(state.next, 'same');
  };
  t.is(firstGiven(['same', 'other']), undefined, 'the first run was through with it');
  t.is(firstGiven(['same', 'same']), 2 ** 32, 'it may be another one');
});
