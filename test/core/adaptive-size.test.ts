import test from 'ava';
import fc from 'fast-check';
import { AdaptiveSize, type SizeLimits } from '../../src/core/adaptive-size.js';

const mlp = (n: number): number => 5 + 0.05 * n;
/** As light_squeezenet on one core: the larger the batch, the slower per image. */
const cnn = (n: number): number => 4.5 * n * (1 + 0.06 * Math.log2(n));

interface Run {
  readonly sizes: readonly number[];
  readonly size: AdaptiveSize;
}

/** Full batches, one after another, as a saturated replica gets them. */
function saturated(cost: (n: number, at: number) => number, batches: number, limits: Partial<SizeLimits> = {}): Run {
  const size = new AdaptiveSize({ maxSize: 32, targetLatencyMs: Infinity, maxInFlight: 1, ...limits });
  const sizes: number[] = [];
  for (let at = 0; at < batches; at++) {
    const n = size.probe(10_000, size.size) || size.size;
    size.observe(n, cost(n, at));
    sizes.push(n);
  }
  return { sizes, size };
}

test('without evidence a batch is as large as maxSize allows', (t) => {
  const { size } = saturated(mlp, 0);
  t.is(size.size, 32);
  t.is(size.belief('').reason, 'unknown');
});

test('a model that gains from batching gets the largest batches, but for a few trials', (t) => {
  const { sizes, size } = saturated(mlp, 300);
  t.is(size.size, 32);
  t.is(size.belief('').reason, 'largest');
  const short = sizes.filter((n) => n < 32).length;
  t.true(short <= 6, `${short} of 300 were smaller`);
});

test('a model that gets slower per record with size gets single records within 50 batches', (t) => {
  const { sizes, size } = saturated(cnn, 300);
  t.is(size.belief('').reason, 'throughput');
  t.true(sizes.slice(50).filter((n) => n > 2).length <= 8, sizes.slice(50).join(' '));
  t.true(size.size <= 2, `${size.size}`);
});

test('where the best size lies in between it is found', (t) => {
  // 20 + n up to 16 records; beyond them caches are too small.
  const bent = (n: number): number => 20 + n + (n > 16 ? 6 * (n - 16) : 0);
  t.is(saturated(bent, 60, { maxSize: 128 }).size.size, 16);
});

test('of sizes that serve alike the smaller is taken where batches are long, so that nobody waits for nothing', (t) => {
  const flat = (n: number): number => 1 + 10 * n;
  t.true(saturated(flat, 100).size.size <= 8);
  const short = (n: number): number => 0.001 + 0.01 * n;
  t.is(saturated(short, 100).size.size, 32, 'batches of 0.3 ms hurt nobody');
});

test('under a latency target the largest size is found that leaves time for one batch before its own', (t) => {
  const { size } = saturated(mlp, 60, { maxSize: 1024, targetLatencyMs: 50 });
  // 2 * (5 + 0.05 n) <= 50: 400 at most.
  t.true(size.size <= 400 && size.size > 350, `${size.size}`);
  t.is(size.belief('').reason, 'target');
});

test('learning under a target breaks it with no batch', (t) => {
  for (const targetLatencyMs of [15, 50, 200]) {
    const { sizes } = saturated(mlp, 60, { maxSize: 4096, targetLatencyMs });
    t.true(Math.max(...sizes.map(mlp)) * 2 <= targetLatencyMs, `${targetLatencyMs}: ${sizes.join(' ')}`);
  }
});

test('under a target nothing is tried where what a trial leaves behind would come too late', (t) => {
  const { size } = saturated(cnn, 12, { targetLatencyMs: 100 });
  for (let n = 0; n < 4; n++) size.observe(size.cap, cnn(size.cap));
  t.true(size.cap >= 8);
  t.is(size.probe(size.cap, size.cap), 0);
  t.not(size.probe(10_000, size.cap), 0, 'beyond the target anyway');
});

test('a target that no size meets does not make batches small', (t) => {
  t.is(saturated(mlp, 60, { targetLatencyMs: 3 }).size.size, 32);
});

test('the guard cuts the cap when batches take longer than planned, and gives it back', (t) => {
  let slow = 1;
  const size = new AdaptiveSize({ maxSize: 1024, targetLatencyMs: 50, maxInFlight: 1 });
  const run = (batches: number): void => {
    for (let n = 0; n < batches; n++) size.observe(size.size, slow * mlp(size.size));
  };
  run(50);
  const before = size.size;
  slow = 3;
  run(20);
  t.true(3 * mlp(size.size) <= 25, `${size.size}`);
  slow = 1;
  run(50);
  t.true(size.size > 0.9 * before, `${size.size} of ${before}`);
});

test('costs that jump are learned anew within 50 batches', (t) => {
  const jump = (n: number, at: number): number => (at < 100 ? mlp(n) : cnn(n));
  const { size } = saturated(jump, 150);
  t.true(cnn(size.size) / size.size < 1.1 * cnn(1), `${size.size}`);
  t.true(size.model.jumpCount > 0);
});

test('replicas share what waits as far as each part is worth its fixed cost', (t) => {
  const { size } = saturated(mlp, 100, { maxSize: 1024 });
  t.is(size.share(1000, 4, 1), 250);
  t.is(size.share(1000, 4, 4), 404, 'a fifth of the time is fixed cost at most');
  t.is(size.share(20, 4, 1), 20, 'five each would spend all their time on the fixed part');
  const alone = saturated(cnn, 100).size;
  t.is(alone.share(32, 4, 1), 8);
});

test('whatever batches cost, a size is from 1 to maxSize', (t) => {
  const costs = fc.array(fc.double({ min: 0, max: 1e5, noNaN: true }), { minLength: 1, maxLength: 120 });
  const limits = fc.record({
    maxSize: fc.integer({ min: 1, max: 3000 }),
    targetLatencyMs: fc.oneof(fc.constant(Infinity), fc.double({ min: 0, max: 1000, noNaN: true })),
    maxInFlight: fc.integer({ min: 1, max: 4 }),
  });
  fc.assert(
    fc.property(costs, limits, (costs, limits) => {
      const { sizes, size } = saturated((_, at) => costs[at] as number, costs.length, limits);
      for (const n of [...sizes, size.size, size.cap, size.best])
        if (!Number.isInteger(n) || n < 1 || n > limits.maxSize) throw new Error(`a size of ${n}`);
    }),
  );
  t.pass();
});
