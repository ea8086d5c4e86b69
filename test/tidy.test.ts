import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';

/** The house is one straight list of rooms, and every package and every side effect has its door. */

const ROOMS = [
  'kernel',
  'wire',
  'core',
  'telemetry',
  'models',
  'host',
  'entry',
  'actor',
  'devices',
  'stream',
  'serve',
  'sql',
  'cluster',
  'config',
  'control',
  'dashboard',
  'cli',
  'testing',
];

const root = fileURLToPath(new URL('../../', import.meta.url));

interface SourceFile {
  /** From the root of the repository, `src/core/mailbox.ts`. */
  readonly name: string;
  /** Without comments and the text of strings: what runs. */
  readonly code: string;
  readonly imports: readonly { readonly from: string; readonly isTypeOnly: boolean }[];
}

function read(folder: string): SourceFile[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map((name) => {
      const text = readFileSync(path.join(root, folder, name), 'utf8');
      return { name: path.posix.join(folder, name), code: codeOf(text), imports: importsOf(text) };
    });
}

function codeOf(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\/|(?<![:'"`\\])\/\/.*$/gm, '');
}

function importsOf(text: string): SourceFile['imports'] {
  const code = codeOf(text);
  const statements = [...code.matchAll(/^(import|export)\s+(type\s)?([^;'"]*?)\s*from\s*['"]([^'"]+)['"]/gm)].map(
    (match) => {
      const named = /^\{([\s\S]*)\}$/.exec((match[3] ?? '').trim())?.[1];
      const allTypes =
        named?.split(',').every((part) => part.trim() === '' || part.trim().startsWith('type ')) ?? false;
      return { from: match[4] ?? '', isTypeOnly: match[2] !== undefined || allTypes };
    },
  );
  // import('x'), import 'x', and the files that are started by URL.
  const others = [
    ...code.matchAll(
      /import\(\s*['"]([^'"]+)['"]\s*\)|^import\s+['"]([^'"]+)['"]|new URL\(\s*['"](\.[^'"]+\.js)['"]/gm,
    ),
  ];
  return [
    ...statements,
    ...others.map((match) => ({ from: match[1] ?? match[2] ?? match[3] ?? '', isTypeOnly: false })),
  ];
}

const source = read('src');
const byName = new Map(source.map((file) => [file.name, file]));
const roomOf = (name: string): string => name.split('/')[1] ?? '';
const target = (file: SourceFile, from: string): string | undefined => {
  return from.startsWith('.')
    ? path.posix.join(path.posix.dirname(file.name), from).replace(/\.js$/, '.ts')
    : undefined;
};
const isRoom = (name: string): boolean => ROOMS.includes(name);

function none(t: ExecutionContext, found: readonly string[], rule: string): void {
  t.deepEqual(found, [], rule);
}

test('this test sees the source: a plausible number of files, imports and rooms', (t) => {
  t.true(source.length >= 60, `${source.length} files`);
  t.true(source.reduce((total, file) => total + file.imports.length, 0) >= 250);
  const rooms = new Set(source.filter((file) => file.name.split('/').length > 2).map((file) => roomOf(file.name)));
  t.true(rooms.size >= 8);
  none(
    t,
    [...rooms].filter((room) => !isRoom(room)),
    'every folder of src is a room of the list',
  );
});

test('a room imports only rooms above it in the list', (t) => {
  const wrong = source.flatMap((file) =>
    file.imports.flatMap(({ from }) => {
      const to = target(file, from);
      if (to === undefined || !isRoom(roomOf(file.name))) return [];
      return ROOMS.indexOf(roomOf(to)) > ROOMS.indexOf(roomOf(file.name)) ? [`${file.name} -> ${to}`] : [];
    }),
  );
  none(
    t,
    wrong.filter((edge) => !STARTED_BY_URL.has(edge)),
    'order of the rooms',
  );
});

/** The host names the child's first file by URL and never imports it; this is where the two sides meet besides `wire`. */
const STARTED_BY_URL = new Set([
  'src/host/thread.ts -> src/entry/thread.ts',
  'src/host/process.ts -> src/entry/process.ts',
  'src/host/inline.ts -> src/entry/inline.ts',
]);

test('host and entry meet only in wire', (t) => {
  const wrong = source.flatMap((file) =>
    file.imports.flatMap(({ from, isTypeOnly }) => {
      const to = target(file, from);
      const pair = `${roomOf(file.name)} ${roomOf(to ?? '')}`;
      const edge = `${file.name} -> ${to}`;
      if (isTypeOnly || STARTED_BY_URL.has(edge)) return [];
      return to !== undefined && (pair === 'host entry' || pair === 'entry host') ? [edge] : [];
    }),
  );
  none(t, wrong, 'entry and host');
});

test('nothing of the product imports testing', (t) => {
  const wrong = source.filter(
    (file) => roomOf(file.name) !== 'testing' && file.imports.some(({ from }) => from.includes('/testing/')),
  );
  none(
    t,
    wrong.map((file) => file.name),
    'testing',
  );
});

test('no files import each other in a circle', (t) => {
  const state = new Map<string, 'open' | 'done'>();
  const circles: string[] = [];
  const visit = (name: string, trail: readonly string[]): void => {
    if (state.get(name) === 'done') return;
    if (state.get(name) === 'open') {
      circles.push([...trail.slice(trail.indexOf(name)), name].join(' -> '));
      return;
    }
    state.set(name, 'open');
    const file = byName.get(name);
    for (const { from, isTypeOnly } of file?.imports ?? []) {
      const to = file === undefined || isTypeOnly ? undefined : target(file, from);
      if (to !== undefined && byName.has(to) && !STARTED_BY_URL.has(`${name} -> ${to}`)) visit(to, [...trail, name]);
    }
    state.set(name, 'done');
  };
  for (const name of byName.keys()) visit(name, []);
  none(t, circles, 'circles');
});

test('every source file is reached from an entry point', (t) => {
  const reached = new Set<string>();
  const visit = (name: string): void => {
    const file = byName.get(name);
    if (file === undefined || reached.has(name)) return;
    reached.add(name);
    for (const { from } of file.imports) visit(target(file, from) ?? '');
  };
  const entries = [
    'src/index.ts',
    'src/cli/main.ts',
    ...source
      .map(({ name }) => name)
      .filter((name) =>
        /^src\/entry\/(thread|process)\.ts$|^src\/dashboard\/browser\/main\.ts$|^src\/testing\/(index|simulate)\.ts$|^src\/actor\/actor-module\.ts$|^src\/serve\/remote-module\.ts$/.test(
          name,
        ),
      ),
  ];
  for (const entry of entries) visit(entry);
  // reference.ts makes docs/configuration.md; only scripts/docs.mjs loads it.
  none(
    t,
    [...byName.keys()].filter((name) => !reached.has(name) && name !== 'src/config/reference.ts'),
    'unreached',
  );
});

/** Package -> files that may import it. More than one file only where the two ends of a lane need it. */
const PACKAGE_DOORS: Readonly<Record<string, RegExp>> = {
  'lru-cache': /^src\/core\/recently-used\.ts$/,
  zod: /^src\/kernel\/schema\.ts$/,
  eventemitter3: /^src\/kernel\/events\.ts$/,
  comlink: /^src\/wire\/[\w-]+\.ts$/,
  piscina: /^src\/stream\/[\w-]+\.ts$/,
  yaml: /^src\/config\/yaml-tree\.ts$/,
  'csv-parse': /^src\/stream\/sources\/csv\.ts$/,
  'eventsource-parser': /^src\/stream\/sources\/sse\.ts$/,
  pg: /^src\/stream\/postgres-client\.ts$/,
  redis: /^src\/stream\/redis-client\.ts$/,
  '@opentelemetry/api': /^src\/config\/open-telemetry\.ts$/,
  picomatch: /^src\/stream\/sources\/glob\.ts$/,
};

test('every package has one door', (t) => {
  const users = new Map<string, string[]>();
  for (const file of source) {
    for (const { from } of file.imports) {
      if (from.startsWith('.') || from.startsWith('node:')) continue;
      const name = from
        .split('/')
        .slice(0, from.startsWith('@') ? 2 : 1)
        .join('/');
      users.set(name, [...(users.get(name) ?? []), file.name]);
    }
  }
  none(
    t,
    [...users].filter(([name]) => PACKAGE_DOORS[name] === undefined).map(([name]) => name),
    'a package without a door',
  );
  for (const [name, files] of users) {
    t.is(new Set(files).size, 1, `${name}: ${files.join(', ')}`);
    t.regex(files[0] ?? '', PACKAGE_DOORS[name] ?? /$^/, name);
  }
});

/** What touches the world -> the files that may. */
const EFFECT_DOORS: readonly (readonly [RegExp, RegExp, string])[] = [
  [
    /\bDate\.now\b|\bnew Date\(\)|\bperformance\.|\bset(Timeout|Interval)\b/,
    /^src\/(kernel\/clock\.ts$|dashboard\/browser\/)/,
    'clock',
  ],
  [/\bMath\.random\b/, /^src\/kernel\/random\.ts$/, 'random'],
  [/\bconsole\./, /$^/, 'console'],
  [/from 'node:worker_threads'/, /^src\/(host|entry|wire|testing)\//, 'threads'],
  [/from 'node:child_process'/, /^src\/(host|entry)\//, 'child processes'],
  [
    /from 'node:https?'/,
    /^src\/(stream\/http-listener|serve\/guarded-(http|fetch))\.ts$/,
    'HTTP servers, and servers asked',
  ],
  [/from 'node:dns'/, /^src\/serve\/address-guard\.ts$/, 'names of machines'],
  [/from 'node:http2'/, /^src\/serve\/grpc-(listener|call|channel)\.ts$/, 'HTTP/2 servers, and servers asked'],
  [/\bfetch\(/, /^src\/(stream\/http-client|dashboard\/browser\/(feed|session))\.ts$/, 'HTTP clients'],
  [/from 'node:net'/, /^src\/((host|entry|wire)\/|control\/unix-socket\.ts$|serve\/address-guard\.ts$)/, 'sockets'],
  [
    /from 'node:fs(\/promises)?'/,
    /^src\/(stream\/|config\/(load|package-version)\.ts|cli\/(command|dead-letters|dead-letter-file)\.ts|actor\/locate\.ts|wire\/unix-lane\.ts|models\/files\.ts|telemetry\/machine\.ts|dashboard\/assets\.ts|control\/private-path\.ts|host\/|entry\/|testing\/)/,
    'files',
  ],
];

test('every side effect has its door', (t) => {
  const wrong = EFFECT_DOORS.flatMap(([effect, door, name]) =>
    source.filter((file) => effect.test(file.code) && !door.test(file.name)).map((file) => `${name}: ${file.name}`),
  );
  none(t, wrong, 'side effects outside their doors');
});

test('names are exported one by one: no export *, no default exports', (t) => {
  const allowed = new Set(['src/stream/parallel-worker.ts']); // piscina calls the default export of its worker
  const wrong = source.filter((file) => /^export (\*|default\b)/m.test(file.code) && !allowed.has(file.name));
  none(
    t,
    wrong.map((file) => file.name),
    'exports',
  );
});

test('actors and examples import troupe by its name', (t) => {
  const outside = ['actors', 'examples'].flatMap((folder) => {
    try {
      return read(folder);
    } catch {
      return [];
    }
  });
  t.true(outside.length >= 2);
  const wrong = outside.flatMap((file) =>
    file.imports.filter(({ from }) => /^\.\.?\/.*\bsrc\//.test(from)).map(({ from }) => `${file.name} -> ${from}`),
  );
  none(t, wrong, 'inside of the package');
});

test('docs hold pages, not work papers', (t) => {
  const pages = readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' });
  t.true(pages.length >= 3);
  none(
    t,
    pages.filter((page) => /plan|memo|todo|notes?\b|draft|roadmap|meeting/i.test(page)),
    'work papers',
  );
});
