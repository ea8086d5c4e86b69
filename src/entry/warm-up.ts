import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemClock } from '../kernel/clock.js';
import { type ErrorDetails, isTroupeError, TroupeError } from '../kernel/errors.js';
import { type Random, systemRandom } from '../kernel/random.js';
import { checkColumns, numericClassOf } from '../wire/columns.js';
import type { ActorDefinition, PredictContext } from '../wire/definition.js';
import { toFault } from '../wire/fault.js';
import type { Column, DType, NumericArray, Signature, TensorSpec } from '../wire/tensor.js';
import { isTokenStream } from '../wire/token-stream.js';
import type { WarmUp, WarmUpInput } from '../wire/warm-up.js';
import { decoupledOutputs } from './decoupled-outputs.js';

/**
 * Runs what a model's config.pbtxt asks for as `model_warmup`, on the model that has just been loaded and before anybody
 * else may. The actor's predict gets columns as it gets them from callers, made anew for each run: it may keep or change
 * them.
 */

export interface WarmUpRun {
  readonly definition: ActorDefinition;
  readonly signature: Signature;
  readonly context: PredictContext<unknown>;
  readonly modelDir: string | undefined;
  /** No batch is larger, whatever the file says. */
  readonly maxBatchSize: number;
  /** Of errors: pool, replica, version. */
  readonly where: ErrorDetails;
  /** Told of each run but the first of its size, which pays for memory and compilation. */
  noteCost(size: number, ms: number): void;
  /** Lets one run go when no other predict is under way. */
  inTurn<Value>(run: () => Value | Promise<Value>): Promise<Value>;
}

/**
 * Resolves when all have run. Rejects with SIGNATURE_MISMATCH where the model has other inputs, MODEL_NOT_FOUND,
 * MODEL_REFUSED or MODEL_INVALID where a file is not what it should be, ACTOR_LOAD_FAILED where predict failed or answered
 * wrongly, and CANCELLED when the replica is to stop; all but the last name the warm-up and its place.
 */
export async function runWarmUps(
  warmUps: readonly WarmUp[],
  run: WarmUpRun,
  random: Random = systemRandom,
): Promise<void> {
  const sizes = new Set<number>();
  for (const warmUp of warmUps) {
    const sources = await sourcesOf(warmUp, run);
    const size = Math.min(sources.count, run.maxBatchSize);
    for (let index = 1; index <= warmUp.count; index++) {
      await turnOf(run);
      const columns = await columnsOf(sources.columns, size, random, run);
      const step = `run ${index} of ${warmUp.count} with ${size} records`;
      const ms = await failingAs(warmUp, step, run, () => timed(run, { count: size, columns }));
      if (sizes.has(size)) run.noteCost(size, ms);
      sizes.add(size);
    }
  }
}

/** The loop may have a deadline to keep, and somebody to hear: no predict is sure to wait for anything. Rejects with CANCELLED. */
async function turnOf({ context, where }: WarmUpRun): Promise<void> {
  await nextTurn();
  if (context.signal.aborted) throw new TroupeError('CANCELLED', 'The replica was stopped while it warmed up', where);
}

async function timed(
  { definition, signature, context, inTurn }: WarmUpRun,
  batch: { readonly count: number; readonly columns: Readonly<Record<string, Column>> },
): Promise<number> {
  return await inTurn(async () => {
    const startedAt = systemClock.now();
    const outputs: unknown = await definition.predict(batch, context);
    // A batch is settled when its streams begin, so that what they take is no cost of it.
    const ms = systemClock.now() - startedAt;
    if (signature.decoupled === true) await readAll(outputs, signature);
    else checkColumns(outputs, signature.outputs, batch.count);
    return ms;
  });
}

/** Every stream to its end. Throws the first error among them. */
async function readAll(outputs: unknown, signature: Signature): Promise<void> {
  for (const output of decoupledOutputs(Array.isArray(outputs) ? outputs : [outputs], signature.outputs)) {
    if (!isTokenStream(output)) throw output;
    const pieces = output[Symbol.asyncIterator]();
    while ((await pieces.next()).done !== true);
  }
}

/** How the column of one input is filled. */
interface Source {
  readonly dtype: DType;
  /** Of one record, as the model sees it. */
  readonly shape: readonly number[];
  /** Of every record the dims hold, where a file has them; chance makes no texts, they are empty then as with zeros. */
  readonly values: NumericArray | readonly string[] | 'zeros' | 'random';
  readonly size: number;
}

interface Sources {
  /** Records of a run. */
  readonly count: number;
  readonly columns: ReadonlyMap<string, Source>;
}

/** The warm-up held against what was loaded. */
async function sourcesOf(warmUp: WarmUp, run: WarmUpRun): Promise<Sources> {
  const { inputs } = run.signature;
  const refuse = (problem: string): never => {
    throw new TroupeError('SIGNATURE_MISMATCH', `${shown(warmUp)} does not fit the model: ${problem}`, run.where);
  };
  const columns = new Map<string, Source>();
  for (const input of warmUp.inputs)
    if (!inputs.some(({ name }) => name === input.name))
      refuse(`it has no input ${JSON.stringify(input.name)}, but ${named(inputs)}`);
  let count: number | undefined;
  for (const spec of inputs) {
    const input = warmUp.inputs.find(({ name }) => name === spec.name);
    if (input === undefined) return refuse(`its input ${JSON.stringify(spec.name)} is not given`);
    const which = `input ${JSON.stringify(spec.name)}`;
    if (input.dtype !== spec.dtype) refuse(`${which} is ${spec.dtype}, the warm-up has ${input.dtype}`);
    const shape = shapeOf(input.dims, spec, warmUp.mayHoldBatch);
    if (shape === undefined)
      return refuse(`${which} is ${spec.dtype}[${spec.shape.join(',')}], the warm-up has [${input.dims.join(',')}]`);
    const held = shape.length < input.dims.length ? (input.dims[0] as number) : 1;
    count ??= held;
    if (held !== count) refuse(`its inputs hold ${count} records and ${held}`);
    const size = shape.reduce((product, dim) => product * dim, 1);
    const values = await failingAs(warmUp, `making ${which}`, run, () => valuesOf(input, size * held, run.modelDir));
    columns.set(spec.name, { dtype: spec.dtype, shape, values, size });
  }
  return { count: warmUp.batchSize * (count ?? 1), columns };
}

/** The shape of one record; undefined where the dims are not such. */
function shapeOf(dims: readonly number[], { shape }: TensorSpec, mayHoldBatch: boolean): readonly number[] | undefined {
  const fits = (own: readonly number[]): boolean =>
    own.length === shape.length && own.every((dim, at) => shape[at] === -1 || shape[at] === dim);
  if (fits(dims)) return dims;
  // A single value is [ 1 ] in Triton, which has no tensors without dimensions.
  const holdsBatch = mayHoldBatch || (shape.length === 0 && dims.length === 1 && dims[0] === 1);
  return holdsBatch && dims.length > 0 && fits(dims.slice(1)) ? dims.slice(1) : undefined;
}

/** As many values as `size`, of every record the dims hold. */
async function valuesOf(
  { dtype, from }: WarmUpInput,
  size: number,
  modelDir: string | undefined,
): Promise<Source['values']> {
  if (typeof from === 'string') return from;
  const numeric = numericClassOf(dtype);
  const expected = numeric === undefined ? undefined : size * numeric.bytes;
  const bytes = await readFile(from.file, modelDir, expected);
  if (numeric === undefined) return textsOf(bytes, from.file, size);
  // In memory of its own it begins where an array of any type may begin.
  return numeric.over(bytes.buffer as ArrayBuffer, 0, size);
}

/** Rejects with MODEL_NOT_FOUND, MODEL_REFUSED or MODEL_INVALID; `expected`: its length, where that is known. */
async function readFile(name: string, modelDir: string | undefined, expected: number | undefined): Promise<Buffer> {
  if (modelDir === undefined) throw new TroupeError('MODEL_NOT_FOUND', `There is no model with a file ${name}`);
  // Replicas that read no files need not import what does.
  const { openWarmUpFile } = await import('../models/model-file.js');
  const file = await openWarmUpFile(modelDir, name);
  try {
    if (expected !== undefined && file.bytes !== expected)
      throw wrongFile(file.path, `it has ${file.bytes} bytes, its data_type and dims take ${expected}`);
    if (file.bytes > TEXT_FILE_BYTES_MAX && expected === undefined)
      throw wrongFile(file.path, `it has ${file.bytes} bytes, at most ${TEXT_FILE_BYTES_MAX} are read`);
    const bytes = Buffer.from(new ArrayBuffer(file.bytes));
    await file.read(bytes, 0);
    return bytes;
  } finally {
    await file.close();
  }
}

const TEXT_FILE_BYTES_MAX = 2 ** 28;

/** Each with its length before it, in four bytes, the least first: BYTES as Triton has them. */
function textsOf(bytes: Buffer, file: string, count: number): readonly string[] {
  const texts: string[] = [];
  let at = 0;
  while (texts.length < count) {
    const from = at + LENGTH_BYTES;
    const end = from <= bytes.length ? from + bytes.readUInt32LE(at) : Infinity;
    if (end > bytes.length) throw wrongFile(file, `it ends within text ${texts.length} of ${count}`);
    try {
      texts.push(utf8.decode(bytes.subarray(from, end)));
    } catch {
      throw wrongFile(file, `text ${texts.length} of ${count} is not UTF-8`);
    }
    at = end;
  }
  if (at < bytes.length) throw wrongFile(file, `${bytes.length - at} bytes are left behind ${count} texts`);
  return texts;
}

const LENGTH_BYTES = 4;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function wrongFile(file: string, problem: string): TroupeError {
  return new TroupeError('MODEL_INVALID', `the file ${file} does not hold the input: ${problem}`);
}

const EMPTY_TEXT = [''];

/** A batch of so many records, in memory of its own. Rejects with CANCELLED. */
async function columnsOf(
  sources: ReadonlyMap<string, Source>,
  count: number,
  random: Random,
  run: WarmUpRun,
): Promise<Readonly<Record<string, Column>>> {
  const columns = Object.create(null) as Record<string, Column>;
  for (const [name, { dtype, shape, values, size }] of sources) {
    const length = count * size;
    const data = numericClassOf(dtype)?.make(length);
    if (data === undefined) {
      const texts = typeof values === 'string' ? EMPTY_TEXT : (values as readonly string[]);
      columns[name] = { dtype, shape, data: Array.from({ length }, (_, at) => texts[at % texts.length] as string) };
      continue;
    }
    if (values === 'random')
      for (let at = 0; at < length; at += VALUES_OF_A_TURN) {
        if (at > 0) await turnOf(run);
        fillByChance(data.subarray(at, at + VALUES_OF_A_TURN), dtype, random);
      }
    else if (values !== 'zeros') repeat(data as Float32Array, values as Float32Array);
    columns[name] = { dtype, shape, data };
  }
  return columns;
}

/** Numbers that chance makes at once: of the slowest type 40 ms, as measured on one CPU. */
const VALUES_OF_A_TURN = 2 ** 18;

/** The arrays are of one class. */
function repeat(data: Float32Array, values: Float32Array): void {
  for (let at = 0; at < data.length; at += values.length) data.set(values.subarray(0, data.length - at), at);
}

/** Floats from 0 to 1, integers any their type has. */
function fillByChance(data: NumericArray, dtype: DType, random: Random): void {
  const word = (): number => Math.floor(random() * 2 ** 32);
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    for (let at = 0; at < data.length; at++) data[at] = (BigInt(word()) << 32n) | BigInt(word());
    return;
  }
  const next = dtype === 'float32' || dtype === 'float64' ? random : (SHORT_RANGES[dtype]?.(random) ?? word);
  for (let at = 0; at < data.length; at++) data[at] = next();
}

/** float16 is carried as its bits, of which those below 0x3c00 are the numbers from 0 to 1. */
const SHORT_RANGES: Partial<Record<DType, (random: Random) => () => number>> = {
  bool: (random) => () => (random() < 0.5 ? 0 : 1),
  float16: (random) => () => Math.floor(random() * 0x3c00),
};

/** What a step throws, with the warm-up and the step before it. */
async function failingAs<Value>(
  warmUp: WarmUp,
  step: string,
  { context, where }: WarmUpRun,
  run: () => Promise<Value>,
): Promise<Value> {
  try {
    return await run();
  } catch (cause) {
    if (context.signal.aborted)
      throw new TroupeError('CANCELLED', 'The replica was stopped while it warmed up', { ...where, cause });
    const code = isTroupeError(cause) && cause.code.startsWith('MODEL_') ? cause.code : 'ACTOR_LOAD_FAILED';
    throw new TroupeError(code, `${shown(warmUp)}: ${step} failed: ${toFault(cause).message.slice(0, 1024)}`, {
      ...where,
      cause,
    });
  }
}

/** `model_warmup "zeros" (/models/net/config.pbtxt:7:16)`. */
function shown({ name, file, at }: WarmUp): string {
  return `model_warmup ${JSON.stringify(name)} (${file}:${at.line}:${at.col})`;
}

function named(specs: readonly TensorSpec[]): string {
  return specs.map(({ name }) => JSON.stringify(name)).join(', ');
}
