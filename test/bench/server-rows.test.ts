import test from 'ava';
import { rowsOf, type ServerLap } from '../../bench/server-rows.js';

const server = { id: 'other', name: 'Other', setup: 'as documented', target: 3 };
const model = { name: 'mlp', what: 'MLP' } as const;
const lap = (rate: number, p50Ms: number, p99Ms: number, cpuMicros = 100): ServerLap => ({
  rate,
  p50Ms,
  p99Ms,
  cpuMicros,
});

test('a comparison of servers has a row for the rate and one for each time, with the median of the ratios of its rounds', (t) => {
  const ours = [lap(400, 2, 5), lap(100, 8, 20), lap(900, 1, 3)];
  const theirs = [lap(100, 8, 10), lap(50, 16, 25), lap(100, 8, 10)];
  const rows = rowsOf(server, model, ours, theirs);
  t.deepEqual(
    rows.map(({ id, ratio, spread, target, atMost, met }) => ({ id, ratio, spread, target, atMost, met })),
    [
      { id: 'servers/other-mlp-rate', ratio: 4, spread: [2, 9], target: 3, atMost: undefined, met: true },
      { id: 'servers/other-mlp-p50', ratio: 0.25, spread: [0.125, 0.5], target: 1, atMost: true, met: true },
      { id: 'servers/other-mlp-p99', ratio: 0.5, spread: [0.3, 0.8], target: 1, atMost: true, met: true },
    ],
  );
  t.deepEqual(rows[0]?.cpuMicros, { ours: 100, theirs: 100 });
});

test('a server that is not fast enough, or no sooner with an answer, does not meet its targets', (t) => {
  const rows = rowsOf(server, model, [lap(290, 4, 12)], [lap(100, 4, 10)]);
  t.deepEqual(
    rows.map(({ met }) => met),
    [false, false, false],
  );
});
