import test, { type ExecutionContext } from 'ava';
import {
  createSystem,
  isTroupeError,
  type Pool,
  type RolloutNotice,
  silentLog,
  type SwapOptions,
  type TroupeError,
} from 'troupe';
import { encodeModel, type ModelSpec } from '../fixtures/onnx-writer.js';
import { makeTree } from '../models/model-tree.js';
import { children, familyBytes } from './family.js';
import { until } from './faulty-pool.js';
import { beginRow, inTenths, quantile } from './row-report.js';
import { isFull, sizes } from './sizes.js';

/**
 * Row B2 of the reliability scorecard, the whole list: versions that are broken in every way, one after another, in child
 * processes and under load. swap-rows.test.ts has each way by itself.
 */

const actor = new URL('../fixtures/actors/versions.js', import.meta.url).href;
/** Of those that hang; the others are given the time of a busy machine, so that none is late instead of what it is. */
const HANGS_MS = 10_000;
const LOAD_TIMEOUT_MS = 120_000;
const ASKERS = 8;
const GROWN_MAX = 1.05;

interface Broken {
  readonly version: string | number;
  /** What its swap rejects with, as its reason and, where that is one of ours, the code of its cause. */
  readonly ends: string;
  readonly options?: SwapOptions;
}

const probes: SwapOptions = { verify: { records: [1, 2, 3] } };
const words: readonly Broken[] = [
  { version: 'throws-in-load', ends: 'load-failed ACTOR_LOAD_FAILED' },
  { version: 'aborts-in-load', ends: 'load-failed ACTOR_CRASHED' },
  { version: 'grows-in-load', ends: 'load-failed ACTOR_OOM' },
  { version: 'throws-in-predict', ends: 'verification-failed', options: probes },
  { version: 'lies-in-predict', ends: 'verification-failed', options: probes },
  { version: 'exits-in-predict', ends: 'replicas-died', options: probes },
].slice(0, isFull ? undefined : 1);
const hanging: readonly Broken[] = isFull
  ? [
      { version: 'hangs-in-load', ends: 'load-failed ACTOR_LOAD_FAILED' },
      // On a busy machine it may be late already when it loads.
      { version: 'hangs-in-predict', ends: '', options: probes },
    ]
  : [];

/** One layer; what is wrong stands in the version. */
const layer = ({ inputs = 2, outputs = 1, ...more }: { inputs?: number; outputs?: number } & Partial<Operation> = {}) =>
  encodeModel({
    inputs: [{ name: 'x', type: 'float32', shape: ['n', inputs] }],
    outputs: [{ name: 'y', type: 'float32', shape: ['n', outputs] }],
    nodes: [{ op: 'MatMul', inputs: ['x', 'w'], outputs: ['y'] }],
    initializers: [{ name: 'w', dims: [inputs, outputs], values: new Float32Array(inputs * outputs).fill(1) }],
    ...more,
  });
type Operation = Pick<ModelSpec, 'nodes' | 'initializers'>;
const networks: readonly (Broken & { readonly file: Buffer })[] = [
  { version: 2, file: layer({ inputs: 3 }), ends: 'load-failed SIGNATURE_MISMATCH' },
  { version: 3, file: layer({ outputs: 2 }), ends: 'load-failed SIGNATURE_MISMATCH' },
  {
    version: 4, // Its output has one row for the whole batch: found when it warms up.
    file: layer({
      nodes: [{ op: 'ReduceSum', inputs: ['x'], outputs: ['y'], attributes: { keepdims: 1 } }],
      initializers: [],
    }),
    ends: 'load-failed SIGNATURE_MISMATCH',
  },
  {
    version: 5, // The engine takes it, and cannot run it.
    file: layer({
      outputs: 5,
      nodes: [{ op: 'Reshape', inputs: ['x', 'shape'], outputs: ['y'] }],
      initializers: [{ name: 'shape', dims: [2], values: BigInt64Array.of(-1n, 5n) }],
    }),
    ends: 'load-failed MODEL_INVALID',
  },
  { version: 6, file: Buffer.from('no model at all'), ends: 'load-failed MODEL_INVALID' },
  { version: 7, file: layer().subarray(0, 60), ends: 'load-failed MODEL_INVALID' },
];

/** Goes through the list under load; how long each took, its last step alone. Every record asked for meanwhile is answered by version 1. */
async function goThrough<In, Out>(
  t: ExecutionContext,
  pool: Pool<In, Out>,
  list: readonly Broken[],
  record: In,
): Promise<{ readonly asked: number; readonly failed: number; readonly tookMs: readonly number[] }> {
  let isOver = false;
  t.teardown(() => (isOver = true));
  let asked = 0;
  let failed = 0;
  const askers = Array.from({ length: ASKERS }, async () => {
    while (!isOver) {
      asked++;
      const [outcome] = await pool.askMany([record]);
      if (outcome?.ok !== true || outcome.version !== '1') failed++;
    }
  });
  const tookMs: number[] = [];
  for (const { version, ends, options } of list) {
    let from = performance.now();
    const begins = ({ step }: RolloutNotice): void => {
      if (step === 'loading' || step === 'verifying') from = performance.now();
    };
    pool.on('rollout', begins);
    const error = await t.throwsAsync<TroupeError>(pool.swap(version, options), { code: 'SWAP_ROLLED_BACK' });
    tookMs.push(performance.now() - from);
    pool.off('rollout', begins);
    const { cause } = error as TroupeError;
    t.true(
      `${error?.reason} ${isTroupeError(cause) ? cause.code : ''}`.startsWith(ends),
      `${version}: ${error?.reason} ${String(cause)}`,
    );
    t.is(pool.version, '1');
  }
  isOver = true;
  await Promise.all(askers);
  return { asked, failed, tookMs };
}

test.serial(
  'B2 versions broken in every way change nothing, cost no request, and give their memory back',
  async (t) => {
    t.timeout(30 * 60_000);
    const row = beginRow(t, 'B2');
    const system = createSystem({ log: silentLog });
    t.teardown(() => system.stop({ timeoutMs: 0 }));
    const common = { isolation: 'process', version: 1, replicas: 2, loadTimeoutMs: LOAD_TIMEOUT_MS } as const;
    const ofWords = { ...common, actor, batchTimeoutMs: 60_000, memoryLimitBytes: 256 * 2 ** 20, attempts: 10 };
    const inWords = await system.spawn<number, string>('words', ofWords);
    const thatHang = await system.spawn<number, string>('hanging', {
      ...ofWords,
      replicas: 1,
      loadTimeoutMs: HANGS_MS,
    });
    const files = networks.map(({ version, file }) => [`net/${version}/model.onnx`, file] as const);
    const root = makeTree(t, { 'net/1/model.onnx': layer(), ...Object.fromEntries(files) });
    const inTensors = await system.spawn('tensors', { ...common, actor: 'onnx', model: `${root}/net` });
    const record = { x: Float32Array.of(1, 2) };
    const totals = { asked: 0, failed: 0 };
    const tookMs: number[] = [];
    const hungMs: number[] = [];
    const bytes: number[] = [];
    // The first round is for what is compiled and allocated once.
    for (let round = 0; round <= sizes.b2Rounds; round++) {
      for (const seen of [
        await goThrough(t, inWords, words, 1),
        await goThrough(t, inTensors, networks, record),
        await goThrough(t, thatHang, hanging, 1).then((seen) => {
          hungMs.push(...seen.tookMs);
          return seen;
        }),
      ]) {
        totals.asked += seen.asked;
        totals.failed += seen.failed;
        tookMs.push(...seen.tookMs);
      }
      await until('only the replicas of version 1 are left', () => children().length === 5);
      if (round > 0) bytes.push(familyBytes());
    }
    // A single reading is off by five in a hundred; halves of ten rounds are not. NaN where there was one round only.
    const half = bytes.length / 2;
    const grown = quantile(bytes.slice(half), 0.5) / quantile(bytes.slice(0, half), 0.5);
    const slowestMs = Math.max(0, ...hungMs);
    row({
      faults: tookMs.length,
      runs: totals.asked,
      lost: totals.failed,
      dup: 0,
      reorder: 0,
      more: {
        medianMs: inTenths(quantile(tookMs, 0.5)),
        slowestHungMs: inTenths(slowestMs),
        grown: Math.round(grown * 1e4) / 1e4,
      },
    });
    t.is(totals.failed, 0);
    t.true(totals.asked > tookMs.length);
    t.true(slowestMs < HANGS_MS + 1000, `${slowestMs} ms, the time-out of a load and a second`);
    t.false(grown > GROWN_MAX, `${grown} of the memory before`);
    for (const pool of [inWords, inTensors]) t.is(pool.stats().restarts, 0, 'the old version was left alone');
  },
);
