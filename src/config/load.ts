import { existsSync, realpathSync, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { readyMadeNames } from '../actor/ready-made.js';
import { isTroupeError, type TroupeError } from '../kernel/errors.js';
import type { ModelConfigFile } from '../models/model-config.js';
import { type ModelFact, modelFacts } from '../models/model-facts.js';
import { isName } from '../models/names.js';
import { type PoolDefault, poolDefaults } from '../models/pool-defaults.js';
import { ModelRepository } from '../models/repository.js';
import { conflictsOf } from './claims.js';
import { objectionsTo, objectionsToListener, objectionsToServing } from './build-pipeline.js';
import { type Environment, substitute } from './environment.js';
import { problemsOf } from './expectation.js';
import { ensembleProblems } from './ensembles.js';
import { configError, pathText, type Problem } from './problem.js';
import { type Config, configJsonSchema, configSchema, INFER_FUNCTIONS, isReference } from './schema.js';
import { suggest } from './suggest.js';
import { nodeAt, readYaml, toPlain, type TreeNode } from './yaml-tree.js';

/**
 * Reads troupe.yaml. Either everything in it fits and a `LoadedConfig` comes back, or CONFIG_INVALID names every problem
 * with file, line, column and key; there is nothing in between and nothing is started here.
 */

export interface LoadedConfig {
  /** As given, for messages. */
  readonly file: string;
  /** Absolute folder of the file: relative paths start here. */
  readonly dir: string;
  readonly config: Config;
  /** The file as written, for `explain`. */
  readonly tree: TreeNode;
  /** Where values of pools stand that the file leaves to their models' config.pbtxt, by key path as text. */
  readonly fromModels: ReadonlyMap<string, PoolDefault>;
  /** What else these say, by pool. */
  readonly modelFacts: ReadonlyMap<string, readonly ModelFact[]>;
}

export interface LoadOptions {
  /** Where ${VAR} comes from. Default: process.env. */
  readonly env?: Environment;
}

export const CONFIG_BYTES_MAX = 1024 * 1024;

/** Reads and checks one config file. Rejects with CONFIG_INVALID. */
export async function loadConfig(file: string, options: LoadOptions = {}): Promise<LoadedConfig> {
  return parseConfig(await readText(file), { ...options, file });
}

/** The same for text that is already here; `file` names it in messages, and its folder is where relative paths start. */
export function parseConfig(text: string, options: LoadOptions & { readonly file: string }): LoadedConfig {
  const { file, env = process.env } = options;
  if (Buffer.byteLength(text) > CONFIG_BYTES_MAX) throw configError(file, [tooLarge()]);
  try {
    return check(text, file, env);
  } catch (error) {
    if (isTroupeError(error)) throw error;
    // The parser recurses; text nested absurdly deep can exhaust the stack before any limit of ours is reached.
    if (!(error instanceof RangeError)) throw error;
    throw configError(file, [whole('nested too deep to be read')], error);
  }
}

function check(text: string, file: string, env: Environment): LoadedConfig {
  const read = readYaml(text);
  if (read.tree === undefined || read.problems.length > 0) throw configError(file, read.problems);
  const filled = substitute(read.tree, env);
  const parsed = configSchema.safeParse(toPlain(filled.tree));
  const found = [...filled.problems];
  const reported = new Set(found.map(({ path: key }) => key));
  if (!parsed.success) {
    const issues = problemsOf(parsed.error.issues, filled.tree, configJsonSchema());
    // A value whose variable is missing does not fit either; one message is enough.
    found.push(...issues.filter((problem) => !reported.has(problem.path)));
  }
  if (found.length > 0 || !parsed.success) throw configError(file, found);
  const dir = path.dirname(path.resolve(file));
  const { config, problems } = resolveReferences(parsed.data, dir, filled.tree);
  if (problems.length > 0) throw configError(file, problems);
  return { file, dir, tree: filled.tree, ...fillFromModels(config, filled.tree, file) };
}

/** Where the file says nothing of a pool and the config.pbtxt of its model does, that counts. */
function fillFromModels(
  config: Config,
  tree: TreeNode,
  file: string,
): Pick<LoadedConfig, 'config' | 'fromModels' | 'modelFacts'> {
  const models = new ModelRepository(config.models);
  const fromModels = new Map<string, PoolDefault>();
  const facts = new Map<string, readonly ModelFact[]>();
  const problems: Problem[] = [];
  const pools = mapRecord(config.pools, (pool, name) => {
    const isOpen = ({ path: option }: PoolDefault): boolean => {
      return nodeAt(tree, ['pools', name, ...option]).depth < option.length + 2;
    };
    const found = modelConfigOf(pool.model, models);
    if (found === undefined) return pool;
    if (isTroupeError(found)) {
      const at = ['pools', name, 'model'];
      problems.push({ at: nodeAt(tree, at).node.at, path: pathText(at), text: found.message });
      return pool;
    }
    facts.set(name, modelFacts(found));
    const open = poolDefaults(found).filter(isOpen);
    for (const one of open) fromModels.set(pathText(['pools', name, ...one.path]), one);
    const filled = { ...pool, batching: { ...pool.batching }, mailbox: { ...pool.mailbox } };
    for (const { path: option, value } of open) set(filled, option, value);
    return filled;
  });
  for (const [name, text] of ensembleProblems(config)) {
    const at = ['pools', name, 'model'];
    problems.push({ at: nodeAt(tree, at).node.at, path: pathText(at), text });
  }
  if (problems.length > 0) throw configError(file, problems);
  return { config: { ...config, pools }, fromModels, modelFacts: facts };
}

/** `#name` of a module reference. */
function hashOf(reference: string): string {
  return reference.slice(reference.lastIndexOf('#'));
}

function set(options: object, [key, ...rest]: readonly string[], value: PoolDefault['value']): void {
  const map = options as Record<string, unknown>;
  if (key === undefined) return;
  if (rest.length === 0) map[key] = value;
  else set(map[key] as object, rest, value);
}

/** Without a model there is nothing to say here: the start of the pool tells. */
function modelConfigOf(model: string | undefined, models: ModelRepository): ModelConfigFile | TroupeError | undefined {
  if (model === undefined) return undefined;
  try {
    return models.config(model);
  } catch (error) {
    if (!isTroupeError(error)) throw error;
    return error.code === 'MODEL_NOT_FOUND' ? undefined : error;
  }
}

/** Makes every path absolute and every module a file URL; names pools and modules that do not exist. */
function resolveReferences(config: Config, dir: string, tree: TreeNode): { config: Config; problems: Problem[] } {
  const problems: Problem[] = [];
  const refuse = (at: readonly PropertyKey[], text: string): void => {
    problems.push({ at: nodeAt(tree, at).node.at, path: pathText(at), text });
  };
  const absolute = (given: string): string => path.resolve(dir, given);
  const moduleUrl = (given: string, at: readonly PropertyKey[]): string => {
    const url = fileUrl(given, dir);
    if (url === undefined || !existsSync(url))
      refuse(at, `expected a module that exists; there is none at ${url?.href ?? given}`);
    return url?.href ?? given;
  };
  const reference = (given: string | undefined, at: readonly PropertyKey[]): string | undefined => {
    if (given === undefined) return undefined;
    const hash = given.lastIndexOf('#');
    return moduleUrl(given.slice(0, hash), at) + given.slice(hash);
  };

  // A bare word is the name of a ready-made actor; anything with a slash or an ending is a module.
  const actorOf = (given: string, at: readonly PropertyKey[]): string => {
    if (!/^[A-Za-z][\w-]*$/.test(given)) return moduleUrl(given, at);
    if (!readyMadeNames.includes(given)) refuse(at, noSuchActor(given));
    return given;
  };

  const models = { ...config.models, roots: config.models.roots.map(absolute) };
  const modelOf = (given: string): string => (models.roots.length > 0 && isName(given) ? given : absolute(given));
  const pools = mapRecord(config.pools, (pool, name) => ({
    ...pool,
    actor: actorOf(pool.actor, ['pools', name, 'actor']),
    ...(pool.model === undefined ? {} : { model: modelOf(pool.model) }),
    ...(pool.models?.root === undefined ? {} : { models: { ...pool.models, root: absolute(pool.models.root) } }),
  }));
  const pipelines = mapRecord(config.pipelines, (pipeline, name) => {
    const here = ['pipelines', name];
    const steps = pipeline.steps.map((step, index) => {
      const resolved = { ...step };
      for (const kind of ['map', 'filter', 'flatMap', 'mapParallel'] as const) {
        const target = reference(step[kind], [...here, 'steps', index, kind]);
        if (target !== undefined) resolved[kind] = target;
      }
      if (step.infer !== undefined) {
        const at = [...here, 'steps', index, 'infer'];
        const { pool } = step.infer;
        if (!Object.hasOwn(config.pools, pool)) refuse([...at, 'pool'], noSuchPool(pool, Object.keys(config.pools)));
        resolved.infer = { ...step.infer };
        for (const key of INFER_FUNCTIONS) {
          const target = reference(step.infer[key], [...at, key]);
          if (target !== undefined) resolved.infer[key] = target;
        }
        const { model } = step.infer;
        if (model !== undefined && isReference(model))
          resolved.infer.model = moduleUrl(model.slice(0, model.lastIndexOf('#')), [...at, 'model']) + hashOf(model);
        const holdsMany = Object.hasOwn(config.pools, pool) ? config.pools[pool]?.models !== undefined : undefined;
        if (holdsMany === true && model === undefined)
          refuse([...at, 'pool'], `pool ${pool} holds many models, so this step must say which answers: model`);
        if (holdsMany === false && model !== undefined)
          refuse([...at, 'model'], `pool ${pool} holds one model, so none can be named`);
        const { fallback } = step.infer;
        const fallbackAt = [...at, 'fallback'];
        const target = reference(fallback?.function, [...fallbackAt, 'function']);
        if (target !== undefined) resolved.infer.fallback = { function: target };
        if (fallback?.pool !== undefined && !Object.hasOwn(config.pools, fallback.pool)) {
          refuse([...fallbackAt, 'pool'], noSuchPool(fallback.pool, Object.keys(config.pools)));
        }
      }
      return resolved;
    });
    const { source, sink, deadLetters, checkpoint } = pipeline;
    return {
      ...pipeline,
      steps,
      source: {
        ...source,
        ...(source.file === undefined ? {} : { file: absolute(source.file) }),
        ...(source.files === undefined ? {} : { files: absolute(source.files) }),
      },
      sink: { ...sink, ...(sink.file === undefined ? {} : { file: absolute(sink.file) }) },
      ...(deadLetters === undefined ? {} : { deadLetters: { file: absolute(deadLetters.file) } }),
      ...(checkpoint === undefined ? {} : { checkpoint: { ...checkpoint, dir: absolute(checkpoint.dir) } }),
    };
  });
  for (const { at, text } of conflictsOf(pipelines, identityOf)) refuse(at, text);
  for (const [name, pipeline] of Object.entries(pipelines)) {
    for (const { part, words } of objectionsTo(pipeline)) {
      const at = optionAt(tree, ['pipelines', name, ...part], words);
      refuse(at, hasVariables(nodeAt(tree, at).node) ? words.replace(/, got .*/s, '') : words);
    }
  }
  for (const [part, objections] of [
    ['metrics', objectionsToListener(config.metrics)],
    ['serve', objectionsToServing(config.serve)],
  ] as const) {
    for (const words of objections) {
      const at = optionAt(tree, [part], words);
      refuse(at, hasVariables(nodeAt(tree, at).node) ? words.replace(/, got .*/s, '') : words);
    }
  }
  const socket = config.control?.socket;
  const control = socket === undefined ? {} : { control: { socket: absolute(socket) } };
  const serve = config.serve === undefined ? {} : { serve: withPaths(config.serve, absolute) };
  return { config: { ...config, models, pools, pipelines, ...control, ...serve }, problems };
}

function withPaths(serve: NonNullable<Config['serve']>, absolute: (file: string) => string): Config['serve'] {
  const { socket, lane, tls, grpc } = serve;
  const files = tls === undefined ? undefined : { ...tls, cert: absolute(tls.cert), key: absolute(tls.key) };
  return {
    ...serve,
    ...(socket === undefined ? {} : { socket: absolute(socket) }),
    ...(grpc?.socket === undefined ? {} : { grpc: { ...grpc, socket: absolute(grpc.socket) } }),
    ...(lane === undefined ? {} : { lane: absolute(lane) }),
    ...(files === undefined ? {} : { tls: files.ca === undefined ? files : { ...files, ca: absolute(files.ca) } }),
  };
}

/** The place of the option that the words begin with, below `part` or the one kind that stands in it. */
function optionAt(tree: TreeNode, part: readonly PropertyKey[], words: string): readonly PropertyKey[] {
  const { node } = nodeAt(tree, part);
  const kinds = node.kind === 'map' ? [...node.entries.keys()] : [];
  const [, option = ''] = /^(?:infer\.|checkpoint\.)?([\w.]+)/.exec(words) ?? [];
  const options = option.split('.');
  const places = [
    [...part, ...options],
    ...kinds.map((kind) => [...part, kind, ...options]),
    ...kinds.map((kind) => [...part, kind]),
  ];
  return places.find((place) => nodeAt(tree, place).depth === place.length) ?? part;
}

function hasVariables(node: TreeNode): boolean {
  if (node.kind === 'scalar') return node.variables.length > 0;
  if (node.kind === 'list') return node.items.some(hasVariables);
  return [...node.entries.values()].some(({ node: child }) => hasVariables(child));
}

/** However the path is written. Undefined where several may write: devices such as /dev/null, and pipes. */
function identityOf(given: string): string | undefined {
  try {
    const facts = statSync(given);
    return facts.isFile() || facts.isDirectory() ? `${facts.dev}:${facts.ino}` : undefined;
  } catch {
    // It is made later, or the run says why it cannot be.
    const parent = path.dirname(given);
    return existsSync(parent) ? path.join(realpathSync(parent), path.basename(given)) : given;
  }
}

function fileUrl(given: string, dir: string): URL | undefined {
  if (!given.startsWith('file:')) return pathToFileURL(path.resolve(dir, given));
  try {
    const url = new URL(given);
    fileURLToPath(url); // throws for a host part and for encoded slashes
    return url;
  } catch {
    return undefined;
  }
}

/** Without the name, which may come from a variable. */
function noSuchActor(name: string): string {
  const near = suggest(name, readyMadeNames);
  const there = near === undefined ? ` (${readyMadeNames.join(', ')})` : `; did you mean ${near}?`;
  return `expected a module such as ./actor.js, or the name of a ready-made actor${there}`;
}

function noSuchPool(name: string, pools: readonly string[]): string {
  const near = suggest(name, pools);
  const there =
    near !== undefined ? `did you mean ${near}?` : `the pools are ${pools.length === 0 ? 'none' : pools.join(', ')}`;
  return `expected the name of a pool; there is no pool ${JSON.stringify(name)}; ${there}`;
}

function mapRecord<A, B>(record: Readonly<Record<string, A>>, change: (value: A, key: string) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value, key)]));
}

async function readText(file: string): Promise<string> {
  let bytes: Buffer;
  try {
    // Asked before it is opened: opening a named pipe waits for its other end.
    const facts = await stat(file);
    if (!facts.isFile()) throw configError(file, [whole('expected a file; this is not a regular file')]);
    if (facts.size > CONFIG_BYTES_MAX) throw configError(file, [tooLarge()]);
    bytes = await readFile(file);
  } catch (error) {
    if (isTroupeError(error)) throw error;
    const reason =
      error instanceof Error && 'code' in error && error.code === 'ENOENT' ? 'there is no such file' : String(error);
    throw configError(file, [whole(`cannot be read: ${reason}`)], error);
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw configError(file, [{ ...whole('expected UTF-8 text; found other bytes'), at: firstBadByte(bytes) }], error);
  }
}

/** Where UTF-8 ends: the first character that decoding had to replace and that does not stand there itself. */
function firstBadByte(bytes: Buffer): { line: number; col: number } {
  let low = 0;
  let high = bytes.length;
  const isGood = (length: number): boolean => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), { stream: true });
      return true;
    } catch {
      return false;
    }
  };
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (isGood(middle)) low = middle;
    else high = middle - 1;
  }
  const before = bytes.subarray(0, low).toString('utf8').split('\n');
  return { line: before.length, col: (before.at(-1) as string).length + 1 };
}

function whole(text: string): Problem {
  return { at: { line: 1, col: 1 }, path: '', text };
}

function tooLarge(): Problem {
  return whole(`larger than ${CONFIG_BYTES_MAX} bytes, the most a config may hold`);
}
