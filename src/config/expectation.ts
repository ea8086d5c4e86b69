import { plainIssues, type z } from '../kernel/schema.js';
import { pathText, type Problem } from './problem.js';
import type { JsonSchema } from './schema.js';
import { shownText } from './secret.js';
import { suggest } from './suggest.js';
import { nodeAt, type TreeNode } from './yaml-tree.js';

/** Turns what the schema found into problems with a place, what was expected and what stood there. */
export function problemsOf(issues: readonly z.core.$ZodIssue[], tree: TreeNode, schema: JsonSchema): Problem[] {
  return plainIssues(issues).flatMap((issue): Problem[] => {
    const { node, keyAt, depth } = nodeAt(tree, issue.path);
    const wanted = schemaAt(schema, issue.path);
    const path = pathText(issue.path);
    switch (issue.code) {
      case 'unrecognized_keys':
        return issue.keys.map((key) => ({
          at: nodeAt(tree, [...issue.path, key]).keyAt,
          path: pathText([...issue.path, key]),
          text: unknownKey(key, Object.keys(mapOf(wanted)?.properties ?? {})),
        }));
      case 'invalid_key':
        return [{ at: keyAt, path, text: `the name ${issue.issues[0]?.message ?? 'is not allowed'}` }];
      case 'custom':
        return [{ at: node.at, path, text: issue.message }];
      case 'invalid_format':
        return [{ at: node.at, path, text: `${issue.message}; found ${found(node, issue.path)}` }];
    }
    const expected = `expected ${wanted === undefined ? issue.message : expectation(wanted)}`;
    if (depth < issue.path.length) {
      return [{ at: keyAt, path, text: `missing; ${expected}${hint(wanted)}` }];
    }
    // A text of a certain form says the form, which "a string" does not.
    const form = wanted?.pattern === undefined ? '' : hint(wanted);
    return [{ at: node.at, path, text: `${expected}${form}; found ${found(node, issue.path)}` }];
  });
}

/** `a whole number, at least 1`: what a value must be, in words. */
export function expectation(schema: JsonSchema): string {
  if (schema.anyOf !== undefined) return schema.anyOf.map(expectation).join(', or ');
  if (schema.enum !== undefined) return `one of ${schema.enum.join(', ')}`;
  switch (schema.type) {
    case 'string':
      if (schema.minLength === undefined) return 'a string';
      return schema.minLength === 1
        ? 'a string that is not empty'
        : `a string of at least ${schema.minLength} characters`;
    case 'integer':
    case 'number': {
      const limits = [
        schema.minimum === undefined ? '' : `at least ${schema.minimum}`,
        schema.exclusiveMinimum === undefined ? '' : `more than ${schema.exclusiveMinimum}`,
        // Zod writes the safe integers' own limit where a schema sets none.
        schema.maximum === undefined || schema.maximum === Number.MAX_SAFE_INTEGER ? '' : `at most ${schema.maximum}`,
      ].filter((limit) => limit !== '');
      return [schema.type === 'integer' ? 'a whole number' : 'a number', ...limits].join(', ');
    }
    case 'boolean':
      return 'true or false';
    case 'array':
      return 'a list';
    case 'object': {
      const keys = Object.keys(schema.properties ?? {});
      return keys.length === 0 ? 'a map' : `a map with keys of ${keys.join(', ')}`;
    }
    default:
      return 'any value';
  }
}

/** Where a map is one of several things, a path into it means the map. */
function mapOf(schema: JsonSchema | undefined): JsonSchema | undefined {
  return schema?.anyOf === undefined ? schema : schema.anyOf.find(({ properties }) => properties !== undefined);
}

/** The schema of the value at `path`, through names (additionalProperties) and list items. */
export function schemaAt(schema: JsonSchema, path: readonly PropertyKey[]): JsonSchema | undefined {
  let at: JsonSchema | undefined = schema;
  for (const key of path) {
    at = mapOf(at);
    if (at === undefined) return undefined;
    if (typeof key === 'number') at = at.items;
    else if (at.properties !== undefined && Object.hasOwn(at.properties, key)) at = at.properties[String(key)];
    else at = typeof at.additionalProperties === 'object' ? at.additionalProperties : undefined;
  }
  return at;
}

function unknownKey(key: string, known: readonly string[]): string {
  const near = suggest(key, known);
  return near === undefined ? `unknown key; expected one of ${known.join(', ')}` : `unknown key; did you mean ${near}?`;
}

function hint(schema: JsonSchema | undefined): string {
  return schema?.description === undefined ? '' : ` (${schema.description.replace(/\.$/, '')})`;
}

/** Never what a variable holds: it may be a secret. */
function found(node: TreeNode, path: readonly PropertyKey[]): string {
  if (node.kind === 'map') return 'a map';
  if (node.kind === 'list') return 'a list';
  if (node.value === null) return 'nothing';
  if (node.variables.length > 0) return `a ${typeof node.value} made from ${node.variables.join(', ')}`;
  const text = shownText(path, String(node.value));
  const shown = text.length > 60 ? `${text.slice(0, 57)}...` : text;
  return typeof node.value === 'string' ? `${JSON.stringify(shown)} (a string)` : `${shown} (a ${typeof node.value})`;
}
