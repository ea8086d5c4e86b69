/**
 * The ready-made actor `ensemble`: Triton's `ensemble_scheduling`. Its records go through the pools of its steps, each step
 * as soon as its tensors are there, independent ones at the same time.
 *
 * It runs in the thread of the host and computes nothing. A batch of it asks each pool with `askMany`, which waits while a
 * mailbox is full; nothing but the signal of the batch ends that. What fails for one record costs that record, with the
 * code that the pool gave and the step in words; its later steps are left out.
 */

import { setMaxListeners } from 'node:events';
import { TroupeError } from '../kernel/errors.js';
import { type EnsembleStep, type Refuse, stepsOf } from '../models/ensemble.js';
import { ensembleSignature } from '../models/ensemble-tensors.js';
import { fileOf, type ModelConfigFile, placeIn } from '../models/model-config.js';
import type { ModelConfig } from '../models/model-config-fields.js';
import { recordProblem, reshaped, setOwn } from '../wire/columns.js';
import type { ActorDefinition, LoadContext } from '../wire/definition.js';
import { signatureDifferences } from '../wire/signature-difference.js';
import type { Signature, TensorRecord, TensorSpec } from '../wire/tensor.js';
import { defineActor } from './define-actor.js';
import type { EnsembleLink, Ensembles } from './ensembles.js';
import type { Outcome } from './outcome.js';
import type { Pool } from './pool.js';

interface Ensemble {
  readonly steps: readonly BoundStep[];
  readonly signature: Signature;
  /** What each tensor holds where it comes from. */
  readonly given: ReadonlyMap<string, TensorSpec>;
  readonly link: EnsembleLink;
}

/** A step and the pool that answers for its model. */
interface BoundStep {
  readonly step: EnsembleStep;
  readonly pool: string;
  /** What a record names, in a pool of many models. */
  readonly model: string | undefined;
  readonly signature: Signature;
}

/** The definition for one pool of the system. */
export function ensembleActor(ensembles: Ensembles): ActorDefinition<TensorRecord, TensorRecord, Ensemble> {
  return defineActor<TensorRecord, TensorRecord, Ensemble>({
    isolation: 'inline',
    relays: true,
    load: (context) => load(context, ensembles),
    predict: (batch: unknown, { state, signal }) =>
      new Run(ensembles, state, batch as readonly TensorRecord[], signal).outputs(),
    unload: ({ link }) => ensembles.leave(link),
    signature: ({ signature }) => signature,
  });
}

async function load(context: LoadContext, ensembles: Ensembles): Promise<Ensemble> {
  const { pool: name, modelConfig, options } = context;
  const [option] = Object.keys(options);
  if (option !== undefined) throw new TypeError(`Pool "${name}": actor ensemble has no options, got ${option}`);
  const file = modelConfig === undefined ? undefined : fileOf(modelConfig);
  if (file?.config.ensemble_scheduling === undefined)
    throw new TroupeError(
      'ACTOR_INVALID',
      `Pool "${name}": actor ensemble needs a model whose config.pbtxt has ensemble_scheduling; ${file === undefined ? 'this one has no config.pbtxt' : `${file.file} has none`}`,
      { actor: name },
    );
  const { config } = file;
  const refuse = refuser(name, file);
  // Before anything is waited for: no step is the ensemble itself.
  const link = ensembles.enter(name, ensembles.askedBy(config));
  try {
    const bound = new Map<number, BoundStep>();
    for (const step of stepsOf(config)) bound.set(step.index, await bind(step, ensembles, config, refuse));
    const signature = ensembleSignature(config, ({ index }) => bound.get(index)?.signature, refuse);
    const steps = [...bound.values()];
    return { steps, signature, given: givenBy(signature, steps), link };
  } catch (error) {
    ensembles.leave(link);
    throw error;
  }
}

/** MODEL_CONFIG_INVALID with file, line and column. */
function refuser(pool: string, file: ModelConfigFile): Refuse {
  return (field, problem, holder, key): never => {
    const message = `Pool "${pool}": ${placeIn(file, field, holder, key)}: ${field}: ${problem}`;
    throw new TroupeError('MODEL_CONFIG_INVALID', message, { actor: pool });
  };
}

async function bind(step: EnsembleStep, ensembles: Ensembles, config: ModelConfig, refuse: Refuse): Promise<BoundStep> {
  const wrong = (problem: string): never =>
    refuse('ensemble_scheduling.step', `${step.title}: ${problem}`, config.ensemble_scheduling?.step, step.index);
  const found = ensembles.find(step.model);
  if (typeof found === 'string') return wrong(found);
  const pool = ensembles.pool(found.pool) as Pool<any, any>;
  const signature = await (found.model === undefined ? ofOne(step, pool, wrong) : ofMany(step, pool, found.model));
  if (signature === undefined)
    return wrong(`pool "${pool.name}" takes records of any kind and no tensors: its actor has no signature`);
  if (signature.decoupled === true)
    return wrong(`pool "${pool.name}" answers a record any number of times, and a step has one answer`);
  const model = found.model === undefined ? undefined : refOf(step, found.model);
  return { step, pool: pool.name, model, signature };
}

function ofOne(step: EnsembleStep, pool: Pool<any, any>, wrong: (problem: string) => never): Signature | undefined {
  const { state } = pool.stats();
  if (state !== 'running' && pool.signature === undefined) return wrong(`pool "${pool.name}" is ${state}`);
  if (step.version !== undefined && step.version !== pool.version)
    return wrong(`it wants version ${step.version}, and pool "${pool.name}" serves ${pool.version ?? 'none'}`);
  return pool.signature;
}

async function ofMany(step: EnsembleStep, pool: Pool<any, any>, model: string): Promise<Signature | undefined> {
  const ref = refOf(step, model);
  await pool.preload(ref);
  return pool.signatureOf(ref);
}

function refOf({ version }: EnsembleStep, model: string): string {
  return version === undefined ? model : `${model}@${version}`;
}

function givenBy({ inputs }: Signature, steps: readonly BoundStep[]): ReadonlyMap<string, TensorSpec> {
  const given = new Map(inputs.map((spec) => [spec.name, spec]));
  for (const { step, signature } of steps)
    for (const [key, tensor] of step.outputs) {
      const spec = signature.outputs.find(({ name }) => name === key);
      if (spec !== undefined) given.set(tensor, spec);
    }
  return given;
}

/** One batch on its way. */
class Run {
  readonly #ensembles: Ensembles;
  readonly #ensemble: Ensemble;
  readonly #signal: AbortSignal;
  readonly #count: number;
  /** By tensor, the value of each record. */
  readonly #values = new Map<string, unknown[]>();
  /** By record, the first thing that went wrong. */
  readonly #errors: (TroupeError | undefined)[];
  /** By record, whether some step has answered: it can then no longer be said that nothing ran. */
  readonly #hasRun: boolean[];

  constructor(ensembles: Ensembles, ensemble: Ensemble, batch: readonly TensorRecord[], signal: AbortSignal) {
    this.#ensembles = ensembles;
    this.#ensemble = ensemble;
    this.#signal = signal;
    this.#count = batch.length;
    const { inputs } = ensemble.signature;
    this.#errors = batch.map((record) => {
      const problem = recordProblem(record, inputs);
      if (problem === undefined) return undefined;
      return new TroupeError('INPUT_INVALID', `The record does not fit: ${problem}`, { ran: 'not-started' });
    });
    this.#hasRun = batch.map(() => false);
    for (const { name } of inputs)
      this.#values.set(
        name,
        batch.map((record, index) => (this.#errors[index] === undefined ? record[name] : undefined)),
      );
  }

  async outputs(): Promise<(TensorRecord | TroupeError)[]> {
    const { steps, signature } = this.#ensemble;
    // Each of them listens while it asks.
    setMaxListeners(steps.length + 10, this.#signal);
    const ends = new Map<number, Promise<void>>();
    for (const bound of steps) {
      const before = bound.step.after.flatMap((index) => ends.get(index) ?? []);
      ends.set(bound.step.index, this.#take(before, bound));
    }
    await Promise.all(ends.values());
    return this.#errors.map((error, index) => error ?? this.#record(signature.outputs, index));
  }

  async #take(before: readonly Promise<void>[], bound: BoundStep): Promise<void> {
    await Promise.all(before);
    const { step } = bound;
    for (const [, tensor] of step.outputs) this.#values.set(tensor, new Array<unknown>(this.#count));
    const indices = [...this.#errors.keys()].filter((index) => this.#errors[index] === undefined);
    if (indices.length === 0) return;
    const pool = this.#ensembles.pool(bound.pool);
    const trouble = pool === undefined ? gone(bound) : changed(bound, pool);
    if (pool === undefined || trouble !== undefined) {
      for (const index of indices) this.#failed(index, step, trouble as TroupeError);
      return;
    }
    const records = indices.map((index) => this.#inputOf(bound, index));
    const { model } = bound;
    const outcomes = await pool.askMany(records, {
      // The deadline of the batch is that of its own records.
      timeoutMs: Infinity,
      signal: this.#signal,
      ...(model === undefined ? {} : { model }),
    });
    indices.forEach((index, at) => this.#answered(index, bound, outcomes[at] as Outcome<TensorRecord>));
  }

  #inputOf({ step, signature }: BoundStep, index: number): TensorRecord {
    const record: Record<string, unknown> = {};
    for (const [key, tensor] of step.inputs) {
      const wanted = signature.inputs.find(({ name }) => name === key) as TensorSpec;
      setOwn(record, key, this.#value(tensor, index, wanted));
    }
    return record as TensorRecord;
  }

  #answered(index: number, { step, pool, signature }: BoundStep, outcome: Outcome<TensorRecord>): void {
    if (!outcome.ok) {
      this.#failed(index, step, outcome.error);
      return;
    }
    this.#hasRun[index] = true;
    if (step.version !== undefined && outcome.version !== step.version) {
      const what = `version ${outcome.version ?? 'none'} answered, and the step wants ${step.version}`;
      this.#failed(index, step, new TroupeError('VERSION_NOT_FOUND', what));
      return;
    }
    // Another version or pool may have answered than the one that was looked at, and rows of a relay are not checked.
    const problem = recordProblem(outcome.value, signature.outputs, 'output');
    if (problem !== undefined) {
      this.#failed(index, step, mismatch(pool, problem));
      return;
    }
    for (const [key, tensor] of step.outputs) (this.#values.get(tensor) as unknown[])[index] = outcome.value[key];
  }

  #failed(index: number, { title }: EnsembleStep, error: TroupeError): void {
    const { code, message, retryAfterMs } = error;
    const ran = error.ran === 'not-started' && this.#hasRun[index] === true ? 'interrupted' : error.ran;
    this.#errors[index] ??= new TroupeError(code, `${title}: ${message}`, {
      ran,
      cause: error,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  }

  #record(outputs: readonly TensorSpec[], index: number): TensorRecord {
    const record: Record<string, unknown> = {};
    for (const spec of outputs) setOwn(record, spec.name, this.#value(spec.name, index, spec));
    return record as TensorRecord;
  }

  #value(tensor: string, index: number, wanted: TensorSpec): unknown {
    const given = this.#ensemble.given.get(tensor) as TensorSpec;
    return reshaped(this.#values.get(tensor)?.[index], given, wanted.shape);
  }
}

function gone({ pool }: BoundStep): TroupeError {
  return new TroupeError('NO_REPLICA', `there is no pool "${pool}" any more`);
}

/** Another pool of that name may have come, or in a pool of many another version of the model, with another signature. */
function changed(bound: BoundStep, pool: Pool<any, any>): TroupeError | undefined {
  const now = signatureNow(bound, pool);
  if (now === bound.signature || now === undefined) return undefined;
  const [difference] = signatureDifferences(bound.signature, now);
  return difference === undefined ? undefined : mismatch(bound.pool, difference);
}

function signatureNow({ model }: BoundStep, pool: Pool<any, any>): Signature | undefined {
  if (model === undefined || !pool.holdsManyModels) return pool.signature;
  try {
    return pool.signatureOf(model);
  } catch {
    // A model that is not there any more is told by the pool when it is asked.
    return undefined;
  }
}

function mismatch(pool: string, difference: string): TroupeError {
  const message = `pool "${pool}" has changed since the ensemble was loaded: ${difference}; restart the ensemble`;
  return new TroupeError('SIGNATURE_MISMATCH', message);
}
