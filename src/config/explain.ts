import type { LoadedConfig } from './load.js';
import { pathText, type Position } from './problem.js';
import { shownText } from './secret.js';
import { nodeAt } from './yaml-tree.js';

/** One resolved value of a config and where it came from. */
export interface ExplainedValue {
  /** Key path, `pools.sentiment.replicas`. */
  readonly path: string;
  /** As the system will see it: defaults filled in, paths absolute. `***` where a key or a variable looks like a secret. */
  readonly value: unknown;
  readonly origin:
    | { readonly kind: 'file'; readonly at: Position }
    | { readonly kind: 'environment'; readonly at: Position; readonly variables: readonly string[] }
    /** The file's silence leaves it to the config.pbtxt of the pool's model. */
    | { readonly kind: 'model'; readonly file: string; readonly at: Position }
    | { readonly kind: 'default' };
}

/**
 * Every value of the config, in its order; empty maps and lists count as values. After those of a pool comes what else the
 * config.pbtxt of its model says: `pools.sentiment.model_warmup[0]`.
 */
export function explainConfig(loaded: LoadedConfig): readonly ExplainedValue[] {
  const values: ExplainedValue[] = [];
  const visit = (value: unknown, path: readonly PropertyKey[]): void => {
    const children = childrenOf(value);
    if (children.length === 0) values.push(explain(loaded, path, value));
    for (const [key, child] of children) visit(child, [...path, key]);
    if (path.length === 2 && path[0] === 'pools') values.push(...factsOf(loaded, path));
  };
  visit(loaded.config, []);
  return values;
}

/** `troupe.yaml:4:15`, `NAME at troupe.yaml:4:15`, `/models/a/config.pbtxt:4:1` or `default`. */
export function originText(file: string, { origin }: ExplainedValue): string {
  if (origin.kind === 'default') return 'default';
  const place = `${origin.kind === 'model' ? origin.file : file}:${origin.at.line}:${origin.at.col}`;
  return origin.kind !== 'environment' ? place : `${origin.variables.join(', ')} at ${place}`;
}

function factsOf({ modelFacts }: LoadedConfig, pool: readonly PropertyKey[]): readonly ExplainedValue[] {
  return (modelFacts.get(String(pool[1])) ?? []).map(({ path, value, file, at }) => {
    return { path: pathText([...pool, ...path]), value, origin: { kind: 'model', file, at } };
  });
}

const SECRET_NAME = /SECRET|TOKEN|PASSW|KEY|CREDENTIAL/i;

function explain({ tree, fromModels }: LoadedConfig, path: readonly PropertyKey[], given: unknown): ExplainedValue {
  const value = typeof given === 'string' ? shownText(path, given) : given;
  const { node, depth } = nodeAt(tree, path);
  const at = node.at;
  const model = fromModels.get(pathText(path));
  if (model !== undefined) {
    return { path: pathText(path), value, origin: { kind: 'model', file: model.file, at: model.at } };
  }
  if (depth < path.length) return { path: pathText(path), value, origin: { kind: 'default' } };
  if (node.kind !== 'scalar' || node.variables.length === 0) {
    return { path: pathText(path), value, origin: { kind: 'file', at } };
  }
  const { variables } = node;
  const shown = variables.some((name) => SECRET_NAME.test(name)) ? '***' : value;
  return { path: pathText(path), value: shown, origin: { kind: 'environment', at, variables } };
}

function childrenOf(value: unknown): readonly (readonly [PropertyKey, unknown])[] {
  if (Array.isArray(value)) return value.map((item, index) => [index, item] as const);
  return typeof value === 'object' && value !== null ? Object.entries(value) : [];
}
