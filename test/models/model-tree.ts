import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ExecutionContext } from 'ava';

/** Files by their paths; a path that ends with a slash is an empty directory. */
export type Tree = Readonly<Record<string, string | Buffer>>;

/** Makes a directory with these files, removed after the test. Its path is free of links. */
export function makeTree(t: ExecutionContext, tree: Tree): string {
  const dir = realpathSync(mkdtempSync(path.join(tmpdir(), 'troupe-models-')));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  addTree(dir, tree);
  return dir;
}

export function addTree(dir: string, tree: Tree): void {
  for (const [name, content] of Object.entries(tree)) {
    const place = path.join(dir, name);
    mkdirSync(name.endsWith('/') ? place : path.dirname(place), { recursive: true });
    if (!name.endsWith('/')) writeFileSync(place, content);
  }
}
