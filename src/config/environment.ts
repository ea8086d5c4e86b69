import { pathText, type Problem } from './problem.js';
import type { Scalar, TreeNode } from './yaml-tree.js';

/**
 * `${VAR}` and `${VAR:-default}` in the values of a config file. It works on single values after the YAML is parsed, so
 * a variable can never add keys or lists; what a variable holds is not looked at again for further variables.
 *
 * An unquoted value that becomes a number, true or false counts as one; a quoted value stays text. `$${` is a literal `${`.
 */

export type Environment = Readonly<Record<string, string | undefined>>;

const REFERENCE = /\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\})?/g;
/** A variable may hold much; a config value never does. */
const VALUE_LENGTH_MAX = 65_536;

export function substitute(tree: TreeNode, env: Environment): { tree: TreeNode; problems: readonly Problem[] } {
  const problems: Problem[] = [];
  const visit = (node: TreeNode, path: readonly PropertyKey[]): TreeNode => {
    switch (node.kind) {
      case 'map': {
        const entries = [...node.entries].map(([key, entry]) => {
          return [key, { keyAt: entry.keyAt, node: visit(entry.node, [...path, key]) }] as const;
        });
        return { ...node, entries: new Map(entries) };
      }
      case 'list':
        return { ...node, items: node.items.map((item, index) => visit(item, [...path, index])) };
      case 'scalar': {
        if (typeof node.value !== 'string' || !node.value.includes('${')) return node;
        const { text, variables, trouble } = expand(node.value, env);
        for (const what of trouble) problems.push({ at: node.at, path: pathText(path), text: what });
        return { ...node, variables, value: node.isPlain && variables.length > 0 ? plainValue(text) : text };
      }
    }
  };
  return { tree: visit(tree, []), problems };
}

function expand(value: string, env: Environment): { text: string; variables: string[]; trouble: string[] } {
  const variables: string[] = [];
  const trouble: string[] = [];
  const text = value.replace(REFERENCE, (match: string, name?: string, withDefault?: string, fallback?: string) => {
    if (match === '$${') return '${';
    if (name === undefined) {
      trouble.push('expected ${NAME} or ${NAME:-default}, or $${ for the characters ${ themselves; found a lone ${');
      return '';
    }
    const set = Object.hasOwn(env, name) ? env[name] : undefined;
    // As in a shell: with :- an empty variable counts as missing.
    if (withDefault !== undefined && (set === undefined || set === '')) {
      variables.push(`${name} (default)`);
      return fallback ?? '';
    }
    variables.push(name);
    if (set !== undefined) return set;
    trouble.push(`the environment variable ${name} is not set; set it, or write \${${name}:-default}`);
    return '';
  });
  if (text.length > VALUE_LENGTH_MAX && variables.length > 0) {
    trouble.push(`longer than ${VALUE_LENGTH_MAX} characters after ${variables.join(', ')} was put in`);
    return { text: '', variables, trouble };
  }
  return { text, variables, trouble };
}

/** The YAML core schema's own reading of an unquoted word, as far as a config needs it. */
function plainValue(text: string): Scalar {
  if (text === 'true') return true;
  if (text === 'false') return false;
  if (/^[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?$/i.test(text) && Number.isFinite(Number(text))) return Number(text);
  return text;
}
