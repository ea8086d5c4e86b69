/**
 * The ready-made actor `onnx`: runs `<model>/<version>/model.onnx` on the CPU with onnxruntime-node.
 *
 * A run is one synchronous native call: while it lasts, the event loop of its process stands still, and ending the thread
 * aborts the whole process. So the actor lives in a child process by default, and frees its session only after the last
 * run: releasing under a run makes that run fail.
 *
 * Batches are columns: inputs are views over the batch's memory, outputs are handed on as the engine made them.
 */

import type { InferenceSession, Tensor } from 'onnxruntime-node';
import {
  defineActor,
  TroupeError,
  type Column,
  type Columns,
  type LoadContext,
  type PredictContext,
  type Signature,
  type TensorRecord,
} from 'troupe/actor';
import { invalid, messageOf, type ModelBytes, readModel, where } from './onnx/model-file.js';
import { resolveOnnxOptions, type ResolvedOnnxOptions } from './onnx/options.js';
import { mismatch, readSignature } from './onnx/signature.js';
import { recordBytes, toColumn, toTensor, zeroColumn } from './onnx/tensors.js';

export type { OnnxOptions } from './onnx/options.js';

type Engine = typeof import('onnxruntime-node');

/** A warm-up batch larger than this is left out: the batcher's own byte limit would split it anyway. */
const WARM_UP_BYTES_MAX = 64_000_000;

interface OnnxState {
  readonly engine: Engine;
  readonly session: InferenceSession;
  readonly signature: Signature;
  readonly file: string;
  readonly options: ResolvedOnnxOptions;
  /** Runs that have begun and not ended. */
  readonly runs: Set<Promise<unknown>>;
}

export default defineActor<TensorRecord, TensorRecord, OnnxState>({
  isolation: 'process',
  native: true,
  handsOver: true,

  async load(context) {
    const options = resolveOnnxOptions(context);
    const bytes = await readModel(context);
    const { file } = bytes;
    const engine = await importEngine(context);
    const session = await createSession(engine, bytes, options, context);
    try {
      const state = {
        engine,
        session,
        signature: readSignature(session, file, context),
        file,
        options,
        runs: new Set<Promise<unknown>>(),
      };
      await warmUp(state, context);
      return state;
    } catch (error) {
      await session.release();
      throw error;
    }
  },

  async predict(batch: Columns, { state }: PredictContext<OnnxState>): Promise<Columns> {
    return { count: batch.count, columns: await run(state, batch) };
  },

  async unload(state) {
    await Promise.allSettled(state.runs);
    await state.session.release();
  },

  signature: (state) => state.signature,

  methods: {
    /** What was loaded and how. */
    describe: ({ file, signature, options }) => ({ file, signature, ...options }),
  },
});

async function importEngine(context: LoadContext): Promise<Engine> {
  try {
    return await import('onnxruntime-node');
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ERR_MODULE_NOT_FOUND';
    const what = isMissing
      ? 'actor onnx needs the package onnxruntime-node, which is not installed; run: npm install onnxruntime-node'
      : `the package onnxruntime-node is there but cannot be loaded on ${process.platform}-${process.arch}: ${messageOf(cause)}; run: npm install onnxruntime-node`;
    throw new TroupeError('ENGINE_NOT_INSTALLED', `Pool "${context.pool}": ${what}`, { ...where(context), cause });
  }
}

async function createSession(
  engine: Engine,
  { file, model, external }: ModelBytes,
  options: ResolvedOnnxOptions,
  context: LoadContext,
): Promise<InferenceSession> {
  try {
    // The engine copies what it keeps.
    return await engine.InferenceSession.create(model, {
      externalData: [...external],
      executionProviders: ['cpu'],
      graphOptimizationLevel: options.graphOptimization,
      intraOpNumThreads: options.intraOpThreads,
      interOpNumThreads: 1,
      logSeverityLevel: 3, // Errors only; its warnings go to stderr of the application and name nothing the user can change.
      extra: { session: { intra_op: { allow_spinning: options.allowSpinning ? '1' : '0' } } },
    });
  } catch (cause) {
    const said = messageOf(cause);
    if (said.startsWith('Unsupported data type'))
      throw mismatch(context, file, `${said} (16 is bfloat16) of an input or output`);
    throw invalid(context, file, said, cause);
  }
}

/** Two runs per size with zeros: the first meets the allocator, the second the clock. Also proves the batch dimension. */
async function warmUp(state: OnnxState, context: LoadContext): Promise<void> {
  const bytes = state.signature.inputs.reduce((sum, spec) => sum + recordBytes(spec), 0);
  for (const [index, size] of state.options.warmUpSizes.entries()) {
    if (index > 0 && size * bytes > WARM_UP_BYTES_MAX) return;
    context.signal.throwIfAborted();
    const columns: Record<string, Column> = {};
    for (const spec of state.signature.inputs) columns[spec.name] = zeroColumn(spec, size);
    try {
      await run(state, { count: size, columns });
      // The first run of a size pays for its memory; from the second the batcher learns what a batch costs.
      const startedAt = performance.now();
      await run(state, { count: size, columns });
      context.warmedUp(size, performance.now() - startedAt);
    } catch (cause) {
      if (cause instanceof BatchDimensionError) throw mismatch(context, state.file, cause.message);
      const said = `${messageOf(cause)}; if the model cannot run on zeros, set options.warmUp to false`;
      throw invalid(context, state.file, `its warm-up run with ${size} zero records failed: ${said}`, cause);
    }
  }
}

async function run(state: OnnxState, batch: Columns): Promise<Record<string, Column>> {
  const { engine, session, signature, runs } = state;
  const feeds: Record<string, Tensor> = {};
  for (const { name } of signature.inputs) {
    const column = batch.columns[name];
    if (column === undefined) throw new TroupeError('INPUT_INVALID', `The batch has no input "${name}"`);
    feeds[name] = toTensor(engine, column, batch.count);
  }
  const running = session.run(feeds);
  runs.add(running);
  try {
    const results = await running;
    const columns: Record<string, Column> = {};
    for (const spec of signature.outputs) {
      const tensor = results[spec.name] as Tensor;
      if (tensor.dims[0] !== batch.count) throw new BatchDimensionError(spec.name, tensor.dims, batch.count);
      columns[spec.name] = toColumn(tensor, spec);
    }
    return columns;
  } finally {
    runs.delete(running);
  }
}

/** The model answered with another number of rows than it was asked, so no answer can be given to its record. */
class BatchDimensionError extends Error {
  constructor(output: string, dims: readonly number[], count: number) {
    super(
      `output "${output}" came with shape [${dims.join(', ')}] for a batch of ${count}; its first dimension must be the batch`,
    );
  }
}
