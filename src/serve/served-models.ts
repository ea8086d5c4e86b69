import { isDeepStrictEqual } from 'node:util';
import type { Pool } from '../actor/pool.js';
import type { System } from '../actor/system.js';
import { TroupeError } from '../kernel/errors.js';
import { type ModelLabels, NO_LABELS } from '../models/labels.js';
import { LATEST } from '../models/names.js';
import { Refusal } from '../stream/http-body.js';
import type { Signature } from '../wire/tensor.js';
import { invalid } from './oip-invalid.js';
import { UNSERVED } from './oip-status.js';
import { isTextModel, TEXT_SIGNATURE } from './text-model.js';

/**
 * Which pool answers for a model of the protocol: the pool of that name, or else one of many models that has a model of
 * that name.
 */

export interface ServedModel {
  /** As in the request. */
  readonly name: string;
  readonly pool: Pool<unknown, unknown>;
  /** What a record is to name, in a pool of many models. */
  readonly model: string | undefined;
  /** The version the client insists on. */
  readonly version: string | undefined;
}

/** Of an actor without a model on disk. */
export const PLAIN_VERSION = '1';

/** Throws MODEL_NOT_FOUND or VERSION_NOT_FOUND. */
export function findModel(system: System, name: string, asked: string | undefined): ServedModel {
  const version = asked?.toLowerCase() === LATEST ? undefined : asked;
  const pool = system.get<unknown, unknown>(name);
  if (pool !== undefined && !pool.holdsManyModels) {
    const serving = pool.version ?? PLAIN_VERSION;
    if (version === undefined || version === serving) return { name, pool, model: undefined, version };
    throw new TroupeError('VERSION_NOT_FOUND', `Model "${name}" serves version ${serving}, not ${version}`);
  }
  const many = poolsOfMany(system);
  const holder = many.find((one) => one.modelNames().includes(name));
  if (holder !== undefined)
    return { name, pool: holder, model: version === undefined ? name : `${name}@${version}`, version };
  throw new TroupeError('MODEL_NOT_FOUND', `There is no model "${name}" here`);
}

/** Every model that can be asked for now, each once. */
export function allModels(system: System): readonly ServedModel[] {
  const found = new Map<string, ServedModel>();
  for (const name of system.names()) {
    const pool = system.get<unknown, unknown>(name);
    if (pool !== undefined && !pool.holdsManyModels)
      found.set(name, { name, pool, model: undefined, version: undefined });
  }
  for (const pool of poolsOfMany(system))
    for (const name of pool.modelNames())
      if (!found.has(name)) found.set(name, { name, pool, model: name, version: undefined });
  return [...found.values()];
}

/** Its tensors; undefined where its actor takes rows. One that is not loaded yet, in a pool of many models, is loaded. */
export async function signatureOf({ pool, model, name }: ServedModel): Promise<Signature | undefined> {
  if (isTextModel(pool.kinds)) return TEXT_SIGNATURE;
  if (model !== undefined) {
    const known = pool.signatureOf(model);
    if (known !== undefined) return known;
    await pool.preload(model);
    return pool.signatureOf(model);
  }
  if (pool.signature === undefined && pool.stats().state === 'starting')
    throw new TroupeError('NO_REPLICA', `Model "${name}" is loading`);
  return pool.signature;
}

/** As above, for those who want one answer. Throws INPUT_INVALID where there are none; refuses a model of many answers. */
export async function tensorsOfModel(served: ServedModel): Promise<Signature> {
  const signature = await signatureOf(served);
  if (signature?.decoupled === true) throw new Refusal(501, `model "${served.name}" ${UNSERVED.decoupled}`);
  if (signature !== undefined) return signature;
  throw invalid(`model "${served.name}" takes records and no tensors: its actor has no signature`);
}

/**
 * What the classes of its outputs are called, by the files of the versions that have answered. Where a new version is just
 * taking over and calls them otherwise, nobody knows which class is whose: then they have no names.
 */
export async function labelsOf(
  { pool, model, name }: ServedModel,
  versions: readonly (string | undefined)[],
): Promise<ModelLabels> {
  const [first, ...others] = await Promise.all(
    versions.map(async (version) => (await pool.labelsOf(version, model && name)) ?? NO_LABELS),
  );
  return first !== undefined && others.every((other) => isDeepStrictEqual(other, first)) ? first : NO_LABELS;
}

/** Whether every pool would answer, and those of the configuration are among them. */
export async function isServerReady(system: System, configured: readonly string[]): Promise<boolean> {
  const { ready, pools } = await system.health();
  return ready && configured.every((name) => pools[name] !== undefined);
}

/**
 * One of many models is loaded, and goes over to `version` where that is given; that of a pool is swapped to `version`, or to
 * its newest.
 */
export async function loadModel({ pool, model, name }: ServedModel, version: string | undefined): Promise<void> {
  if (model !== undefined) {
    if (version !== undefined) await pool.swap(version, { model });
    await pool.preload(model);
  } else if (pool.model !== undefined) {
    // A version that is not there is told as such, and not as a swap that failed.
    if (version !== undefined) await pool.planSwap(version);
    await pool.swap(version ?? LATEST);
  } else if (version !== undefined && version !== PLAIN_VERSION)
    throw new TroupeError('VERSION_NOT_FOUND', `Model "${name}" has no files, and so no version ${version}`);
}

/** Of many models one goes, when it has no work left; the one of a pool ends with its pool. */
export function unloadModel({ pool, model, name }: ServedModel): void {
  if (model === undefined) throw new Refusal(501, `model "${name}" is the one model of its pool, and ends with it`);
  if (!pool.unload(model)) throw invalid(`model "${name}" is pinned, and stays`);
}

function poolsOfMany(system: System): readonly Pool<unknown, unknown>[] {
  return system
    .names()
    .map((name) => system.get<unknown, unknown>(name))
    .filter((pool) => pool !== undefined)
    .filter((pool) => pool.holdsManyModels);
}
