import { type Document, isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { pathText, type Position, type Problem } from './problem.js';

/**
 * The door to yaml: text in, a tree of plain values out in which every value and every key knows its place.
 *
 * The tree is made by an own walk, not by toJS(), because the walk can refuse what must not reach a JavaScript object
 * (`__proto__`), can bound what aliases and nesting blow up, and keeps positions.
 */

export type Scalar = string | number | boolean | null;

export type TreeNode = { readonly at: Position } & (
  | { readonly kind: 'map'; readonly entries: ReadonlyMap<string, TreeEntry> }
  | { readonly kind: 'list'; readonly items: readonly TreeNode[] }
  | {
      readonly kind: 'scalar';
      readonly value: Scalar;
      /** Written without quotes: then a substituted value may become a number or a boolean. */
      readonly isPlain: boolean;
      /** Environment variables the value was made from; empty for a value that stands in the file as it is. */
      readonly variables: readonly string[];
    }
);

export interface TreeEntry {
  readonly keyAt: Position;
  readonly node: TreeNode;
}

/** Enough for any real config; an alias bomb meets it long before memory does. */
const NODES_MAX = 50_000;
const DEPTH_MAX = 100;

/** Reads YAML 1.2 (core schema, no merge keys). With problems there is no tree to rely on. */
export function readYaml(text: string): { tree: TreeNode | undefined; problems: readonly Problem[] } {
  const lines = new LineCounter();
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    logLevel: 'error',
    // The walk finds equal keys itself, because it can name them.
    uniqueKeys: false,
  });
  // One slip of syntax makes the parser stumble on; only the first stumble says something.
  const problems: Problem[] = [...document.errors.slice(0, 1), ...document.warnings].map((error) => ({
    at: positionIn(lines, error.pos[0]),
    path: '',
    text: `not valid YAML: ${saidBy(error)}${adviceFor(text, error.pos[0])}`,
  }));
  if (problems.length > 0) return { tree: undefined, problems };
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null)) {
    return { tree: undefined, problems: [{ at: { line: 1, col: 1 }, path: '', text: EMPTY }] };
  }
  const walk = new Walk(document, lines);
  const tree = walk.node(document.contents as Node, [], 0);
  return { tree, problems: walk.problems };
}

const EMPTY = 'the file holds nothing; expected at least one of name, pools, pipelines';

class Walk {
  readonly problems: Problem[] = [];
  readonly #document: Document;
  readonly #lines: LineCounter;
  #nodeCount = 0;

  constructor(document: Document, lines: LineCounter) {
    this.#document = document;
    this.#lines = lines;
  }

  node(node: Node | null | undefined, path: readonly PropertyKey[], depth: number): TreeNode {
    const at = positionIn(this.#lines, node?.range?.[0] ?? 0);
    const nothing = scalar(at, null);
    this.#nodeCount += 1;
    if (this.#nodeCount > NODES_MAX) {
      if (this.#nodeCount === NODES_MAX + 1) {
        this.#refuse(at, [], `more than ${NODES_MAX} values, aliases counted each time they are used`);
      }
      return nothing;
    }
    if (depth > DEPTH_MAX) {
      this.#refuse(at, path.slice(0, 3), `nested deeper than ${DEPTH_MAX} levels`);
      // One branch too deep is enough to know; an alias that holds itself would be met again and again.
      this.#nodeCount = NODES_MAX + 1;
      return nothing;
    }
    if (isAlias(node)) return this.node(node.resolve(this.#document) as Node | undefined, path, depth + 1);
    if (isMap(node)) return this.#map(node.items as readonly Pair[], at, path, depth);
    if (isSeq(node)) {
      const items = (node.items as readonly Node[]).map((item, index) => this.node(item, [...path, index], depth + 1));
      return { kind: 'list', at, items };
    }
    if (!isScalar(node)) return nothing;
    const value = node.value;
    if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
      return scalar(at, value, node.type === 'PLAIN');
    }
    this.#refuse(at, path, `expected a string, number, boolean, list or map; found a ${typeof value}`);
    return nothing;
  }

  #map(pairs: readonly Pair[], at: Position, path: readonly PropertyKey[], depth: number): TreeNode {
    const entries = new Map<string, TreeEntry>();
    for (const pair of pairs) {
      const keyNode = isAlias(pair.key) ? pair.key.resolve(this.#document) : pair.key;
      const keyAt = positionIn(this.#lines, pair.key?.range?.[0] ?? 0);
      if (!isScalar(keyNode)) {
        this.#refuse(keyAt, path, 'expected a key that is one word; found a list or a map as key');
        continue;
      }
      const key = String(keyNode.value);
      if (key === '__proto__') {
        this.#refuse(keyAt, [...path, key], 'a key of this name is refused: it would change the object itself');
        continue;
      }
      const twin = entries.get(key)?.keyAt;
      if (twin !== undefined) {
        const first = `${twin.line}:${twin.col}`;
        this.#refuse(keyAt, [...path, key], `expected every key once; this one stands at ${first} already`);
      }
      entries.set(key, { keyAt, node: this.node(pair.value, [...path, key], depth + 1) });
    }
    return { kind: 'map', at, entries };
  }

  #refuse(at: Position, path: readonly PropertyKey[], text: string): void {
    this.problems.push({ at, path: pathText(path), text });
  }
}

interface Pair {
  readonly key: Node | null;
  readonly value: Node | null;
}

function scalar(at: Position, value: Scalar, isPlain = true): TreeNode {
  return { kind: 'scalar', at, value, isPlain, variables: [] };
}

function positionIn(lines: LineCounter, offset: number): Position {
  const { line, col } = lines.linePos(offset);
  // Offset 0 of a text without any line yet gives line 0.
  return { line: Math.max(1, line), col: Math.max(1, col) };
}

function adviceFor(text: string, offset: number): string {
  const isVariable = text.slice(Math.max(0, offset - 1), offset + 1) === '${';
  return isVariable ? '; inside { } and [ ] a variable needs quotes: "${NAME}"' : '';
}

/** The parser's own words, where they are meant for readers of the config and not for users of the parser. */
function saidBy({ code, message }: { readonly code: string; readonly message: string }): string {
  if (code === 'MULTIPLE_DOCS') return 'a second document begins here, and a config is one';
  if (message.startsWith('Maximum call stack')) return 'nested too deeply';
  return firstLine(message);
}

function firstLine(text: string): string {
  return (text.split('\n')[0] as string).slice(0, 300);
}

/** The value of a tree as schema input. */
export function toPlain(node: TreeNode): unknown {
  if (node.kind === 'scalar') return node.value;
  if (node.kind === 'list') return node.items.map(toPlain);
  const record: Record<string, unknown> = {};
  for (const [key, { node: child }] of node.entries) record[key] = toPlain(child);
  return record;
}

/** The node at `path`, or the nearest one above it; `keyAt` is where its key stands. */
export function nodeAt(
  tree: TreeNode,
  path: readonly PropertyKey[],
): { node: TreeNode; keyAt: Position; depth: number } {
  let node = tree;
  let keyAt = tree.at;
  let depth = 0;
  for (const key of path) {
    if (node.kind === 'map') {
      const entry = node.entries.get(String(key));
      if (entry === undefined) break;
      node = entry.node;
      keyAt = entry.keyAt;
    } else if (node.kind === 'list') {
      const item = node.items[Number(key)];
      if (item === undefined) break;
      node = item;
      keyAt = item.at;
    } else break;
    depth += 1;
  }
  return { node, keyAt, depth };
}
