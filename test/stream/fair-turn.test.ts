import test from 'ava';
import { stream, type ToOptions } from '../../src/stream/pipeline.js';
import type { Sink } from '../../src/stream/sink.js';
import { toArray } from '../../src/stream/sinks/array.js';
import type { Report } from '../../src/stream/report.js';
import { fromIterable } from '../../src/stream/sources/iterable.js';
import type { Source } from '../../src/stream/source.js';
import { HandTarget } from './hand-target.js';

const SQUARE = new URL('./parallel-work.js', import.meta.url);

/** Always has an answer, and never waits for the event loop. */
const always = (answer: (max: number) => number[]): Source<number> => ({
  name: 'always',
  open: () => ({ read: answer, close: () => undefined }),
});
const endless = always((max) => Array.from({ length: max }, () => 1));
const empty = always(() => []);

function* ones(): Generator<number> {
  for (;;) yield 1;
}

const pipelines = {
  'a filter that refuses everything': () => stream(endless).filter(() => false),
  'a flatMap without children': () => stream(endless).flatMap(() => []),
  'endless children, all refused': () =>
    stream(fromIterable([1]))
      .flatMap(ones)
      .filter(() => false),
  'an infer step that bypasses, and a filter': () =>
    stream(endless)
      .infer(new HandTarget(), { bypass: () => 1 })
      .filter(() => false),
  'a filter before an infer step': () =>
    stream(endless)
      .filter(() => false)
      .infer(new HandTarget()),
  'a source that gives nothing, before an infer step': () => stream(empty).infer(new HandTarget()),
  'a source that gives nothing, before mapParallel': () => stream(empty).mapParallel(SQUARE),
};

for (const [what, make] of Object.entries(pipelines)) {
  test(`timers get through a pipeline that never waits and never gives anything: ${what}`, async (t) => {
    const end = new AbortController();
    setImmediate(() => setImmediate(() => end.abort()));
    const pipeline = make() as { to(sink: Sink, options: ToOptions): Promise<Report> };
    const report = await pipeline.to(toArray(), { signal: end.signal });
    t.is(report.results, 0);
  });
}
