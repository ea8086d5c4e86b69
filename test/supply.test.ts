import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';

/** What a user installs with the package: little, without scripts, under licences that ask for nothing. */

const root = fileURLToPath(new URL('../../', import.meta.url));
const readJson = (name: string): unknown => JSON.parse(readFileSync(path.join(root, name), 'utf8'));

interface LockEntry {
  readonly version?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly devOptional?: boolean;
  readonly hasInstallScript?: boolean;
  readonly license?: string;
  readonly resolved?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const manifest = readJson('package.json') as LockEntry & { readonly engines: { readonly node: string } };
const lock = readJson('package-lock.json') as { readonly packages: Readonly<Record<string, LockEntry>> };
const installed = Object.entries(lock.packages).filter(([name]) => name !== '');
const production = installed.filter(([, { dev, optional, devOptional }]) => !dev && !optional && !devOptional);

test('the lockfile says what package.json says', (t) => {
  const own = lock.packages[''];
  t.deepEqual(own?.dependencies, manifest.dependencies);
  t.deepEqual(own?.devDependencies, manifest.devDependencies);
  t.true(installed.length > 100);
});

test('every package a lockfile entry asks for has an entry with a version, platform builds included', (t) => {
  const missing = installed.flatMap(([where, entry]) =>
    Object.keys({ ...entry.dependencies, ...entry.optionalDependencies })
      .filter((name) => !placesOf(where, name).some((place) => lock.packages[place]?.version !== undefined))
      .map((name) => `${where} -> ${name}`),
  );
  t.deepEqual(missing, [], 'npm ci would refuse this lockfile; node scripts/lock.mjs completes it');
});

/** Where Node looks for `name` from the package at `where`: beside it, then one level up each time. */
function placesOf(where: string, name: string): readonly string[] {
  const levels = where.split('/node_modules/');
  const inner = levels.map(
    (_, index) => `${levels.slice(0, levels.length - index).join('/node_modules/')}/node_modules/${name}`,
  );
  return [...inner, `node_modules/${name}`];
}

test('the lockfile names no registry', (t) => {
  t.deepEqual(
    installed.filter(([, { resolved }]) => resolved !== undefined).map(([name]) => name),
    [],
  );
});

test('a user gets at most ten packages, none with an install script', (t) => {
  const names = production.map(([name]) => name);
  t.true(names.length >= Object.keys(manifest.dependencies ?? {}).length);
  t.true(names.length <= 10, names.join(', '));
  t.deepEqual(
    installed.filter(([, entry]) => !entry.dev && entry.hasInstallScript).map(([name]) => name),
    [],
  );
});

test('the licences of what a user gets are permissive', (t) => {
  const permissive = new Set(['MIT', 'ISC', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'BlueOak-1.0.0']);
  t.deepEqual(
    production
      .filter(([, { license }]) => !permissive.has(license ?? ''))
      .map(([name, { license }]) => `${name}: ${license}`),
    [],
  );
});

test('Node 20.19 is admitted', (t) => {
  t.is(manifest.engines.node, '>=20.19');
});

test('a tarball holds the built package, its models and its docs, and nothing else', (t) => {
  const { status, stdout, stderr } = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: root,
    encoding: 'utf8',
  });
  t.is(status, 0, stderr);
  const [packed] = Object.values(JSON.parse(stdout) as Record<string, { files: { path: string }[] }>);
  const files = packed?.files.map((file) => file.path) ?? [];
  t.true(
    files.includes('dist/src/index.js') &&
      files.includes('dist/src/index.d.ts') &&
      files.includes('dist/src/cli/main.js') &&
      files.includes('dist/src/dashboard/browser/main.js'),
  );
  const allowed =
    /^(dist\/(src|actors)\/.+\.(js|d\.ts|js\.map)|models\/filetype\/.+|docs\/[\w.-]+\.(md|json|png)|docs\/deploy\/[\w.-]+|package\.json|README\.md|LICENSE|CHANGELOG\.md)$/;
  t.deepEqual(
    files.filter((file) => !allowed.test(file)),
    [],
  );
});
