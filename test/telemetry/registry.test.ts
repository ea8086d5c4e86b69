import test from 'ava';
import { VirtualClock } from 'troupe/testing';
import { MetricsRegistry } from '../../src/telemetry/registry.js';

const valueOf = (text: string, start: string): number | undefined => {
  const line = text.split('\n').find((one) => one.startsWith(`${start} `));
  return line === undefined ? undefined : Number(line.slice(start.length + 1));
};

test('counters go on when who counted is gone, and what comes under the same name adds to them; gauges go', (t) => {
  const registry = new MetricsRegistry();
  let results = 5;
  const add = (): (() => void) =>
    registry.add({
      collect: (into) => {
        into.add('troupe_results_total', { pool: 'a' }, results);
        into.add('troupe_held_records', { pool: 'a' }, 2);
      },
    });
  const remove = add();
  t.is(valueOf(registry.text(), 'troupe_held_records{pool="a"}'), 2);
  results = 7;
  remove();
  remove();
  t.is(valueOf(registry.text(), 'troupe_results_total{pool="a"}'), 7);
  t.is(valueOf(registry.text(), 'troupe_held_records{pool="a"}'), undefined);
  results = 1;
  add();
  t.is(valueOf(registry.text(), 'troupe_results_total{pool="a"}'), 8);
  t.is(valueOf(registry.text(), 'troupe_held_records{pool="a"}'), 2);
  registry.close();
});

test('10,000 names that come and go leave no more series than the cap, and later ones have their own', (t) => {
  const registry = new MetricsRegistry();
  for (let index = 0; index < 20_000; index++) {
    registry.add({ collect: (into) => into.add('troupe_results_total', { pool: `p${index}` }, 1) })();
  }
  registry.add({ collect: (into) => into.add('troupe_results_total', { pool: 'now' }, 9) });
  const text = registry.text();
  const samples = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  t.true(samples.length <= 10_000, `${samples.length}`);
  t.is(valueOf(text, 'troupe_results_total{pool="now"}'), 9);
  t.true((valueOf(text, 'troupe_results_total{pool="_other"}') ?? 0) > 10_000);
  registry.close();
});

test('from the first scrape on, the delay of the event loop is watched', (t) => {
  const clock = new VirtualClock();
  const registry = new MetricsRegistry(clock);
  t.is(valueOf(registry.text(), 'troupe_event_loop_delay_seconds_count'), 0);
  clock.advance(500);
  t.is(valueOf(registry.text(), 'troupe_event_loop_delay_seconds_count'), 10);
  t.true((valueOf(registry.text(), 'troupe_resident_bytes') ?? 0) > 1e6);
  registry.close();
  clock.advance(500);
  t.is(clock.timerCount, 0);
});
