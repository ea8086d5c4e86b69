/**
 * The ready-made actor `mock`: a model whose cost is known, a + b * n milliseconds, and whose faults are scripted. It is
 * for tests of your own pools and pipelines (does the fallback work, is the dead letter written, does the restart budget
 * suffice?) and for measuring batching against a computable optimum. Everything it does follows from its options and
 * what it is given; there is no chance in it.
 *
 * Hazard: `abort`, `segfault` and `sigkill` end the whole process. In a pool with isolation `process` that is the replica;
 * in a thread or inline it is your application.
 */

import { setTimeout as wait } from 'node:timers/promises';
import {
  defineActor,
  type Column,
  type Columns,
  type LoadContext,
  type PredictContext,
  type Signature,
} from 'troupe/actor';
import { commit, dueFault, meantBy, type Occasion } from './mock/misdeeds.js';
import { type MockFault, resolveMockOptions, type ResolvedMockOptions } from './mock/options.js';

export type { Misdeed, MockFault, MockOptions } from './mock/options.js';

/** What a mock replica did since it loaded; from `call('counts')`. */
export interface MockCounts {
  readonly batches: number;
  readonly records: number;
  /** Sum of the cost of its batches, waited for or not. */
  readonly costMs: number;
}

interface MockState {
  readonly context: LoadContext;
  readonly options: ResolvedMockOptions;
  counts: MockCounts;
}

type Batch = readonly unknown[] | Columns;

export default defineActor<unknown, unknown, MockState>({
  isolation: 'thread',

  async load(context) {
    const options = resolveMockOptions(context);
    await wait(options.loadMs, undefined, { signal: context.signal });
    if (options.load === 'throw') throw new Error('mock: load was told to fail');
    if (options.load !== 'ok') await commit({ do: options.load });
    return { context, options, counts: { batches: 0, records: 0, costMs: 0 } };
  },

  async predict(batch: Batch, { state, signal }: PredictContext<MockState>) {
    const { options } = state;
    const size = sizeOf(batch);
    const costMs = options.a + options.b * size;
    const { batches, records, costMs: before } = state.counts;
    state.counts = { batches: batches + 1, records: records + size, costMs: before + costMs };

    const occasion = occasionOf(batch, state);
    const fault = dueFault(options.faults, occasion);
    if (fault !== undefined) await commit(fault);
    if (options.time === 'real') await spend(costMs, options.work, signal);
    const outputs = isColumns(batch) ? answerColumns(batch, options) : answerRows(batch, state, costMs);
    return fault === undefined ? outputs : spoil(outputs, fault, occasion);
  },

  async unload({ options }) {
    await wait(options.unloadMs);
  },

  signature: ({ options }) => signatureOf(options),

  methods: {
    /** MockCounts since load. */
    counts: (state) => state.counts,
    /** Answers its arguments. */
    echo: (_state, ...args: unknown[]) => args,
    /** Rejects with the message. */
    fail: (_state, message: string) => Promise.reject(new Error(message)),
  },
});

function signatureOf({ inputs, answer }: ResolvedMockOptions): Signature | undefined {
  if (inputs === undefined) return undefined;
  return { inputs, outputs: answer === 'sum' ? [{ name: 'sum', dtype: 'float64', shape: [] }] : inputs };
}

function isColumns(batch: Batch): batch is Columns {
  return !Array.isArray(batch);
}

function sizeOf(batch: Batch): number {
  return isColumns(batch) ? batch.count : batch.length;
}

function occasionOf(batch: Batch, { context, counts }: MockState): Occasion {
  const { replica, version } = context;
  return { batch: counts.batches, replica, version, count: sizeOf(batch), textOf: (index) => textOf(batch, index) };
}

function textOf(batch: Batch, index: number): string {
  const record = isColumns(batch)
    ? Object.values(batch.columns).map((column) => valuesOf(column, batch.count, index))
    : batch[index];
  if (typeof record === 'string') return record;
  return JSON.stringify(record, (_key, value: unknown) => plain(value)) ?? '';
}

/** Typed arrays as lists and bigints as texts, for JSON knows neither. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  return ArrayBuffer.isView(value) && !(value instanceof DataView) ? Array.from(value as Float32Array) : value;
}

function valuesOf({ data }: Column, count: number, index: number): readonly unknown[] {
  const length = data.length / count;
  return Array.from(data.slice(index * length, (index + 1) * length) as ArrayLike<unknown>);
}

async function spend(costMs: number, work: 'wait' | 'spin', signal: AbortSignal): Promise<void> {
  if (costMs === 0) return;
  if (work === 'wait') {
    await wait(costMs, undefined, { signal });
    return;
  }
  const until = performance.now() + costMs;
  while (performance.now() < until);
}

function answerRows(batch: readonly unknown[], { context, counts, options }: MockState, costMs: number): unknown[] {
  if (options.answer === 'echo') return [...batch];
  if (options.answer === 'sum') return batch.map(sum);
  const { replica, version } = context;
  const size = batch.length;
  return batch.map((_, index) => ({ batch: counts.batches, index, size, costMs, replica, version, pid: process.pid }));
}

function answerColumns(batch: Columns, { answer }: ResolvedMockOptions): Columns {
  if (answer === 'echo') return batch;
  const data = Float64Array.from({ length: batch.count }, (_, index) => {
    return sum(Object.values(batch.columns).map((column) => valuesOf(column, batch.count, index)));
  });
  return { count: batch.count, columns: { sum: { dtype: 'float64', shape: [], data } } };
}

/** Adds the numbers of a value and of everything in it; a text counts its length. */
function sum(value: unknown): number {
  if (typeof value === 'number') return value;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'string') return value.length;
  if (typeof value !== 'object' || value === null) return 0;
  return (Object.values(value) as unknown[]).reduce<number>((total, item) => total + sum(item), 0);
}

/** The faults that answer, but wrongly. */
function spoil(outputs: unknown[] | Columns, fault: MockFault, occasion: Occasion): unknown {
  if (fault.do === 'no-outputs') return undefined;
  if (fault.do === 'too-few' || fault.do === 'too-many') {
    const more = fault.do === 'too-many' ? 1 : -1;
    if (!Array.isArray(outputs)) return { ...outputs, count: outputs.count + more };
    return more === 1 ? [...outputs, undefined] : outputs.slice(0, -1);
  }
  if (fault.do !== 'error-in-place' || !Array.isArray(outputs)) return outputs;
  const meant = new Set(meantBy(fault, occasion));
  const message = fault.message ?? 'mock: scripted fault "error-in-place"';
  return outputs.map((output, index) => (meant.has(index) ? new Error(message) : (output as unknown)));
}
