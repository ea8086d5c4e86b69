/**
 * Real Redis, PostgreSQL and Prometheus servers, and a real browser, for tests: each in a directory of its own, with no daemon, no privileges and
 * nothing kept, ended by its process id. `scripts/servers.mjs` fetches what is not installed.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import type { Source } from '../../src/stream/source.js';

const run = promisify(execFile);
const NOBODY = 65_534;

/** Where packages are unpacked; nothing of the system is touched. */
export const UNPACKED = fileURLToPath(new URL('../../../node_modules/.cache/troupe-servers/', import.meta.url));

/** strace, faketime, h2load, slowhttptest and the browser are no servers, and come the same way; promtool comes with prometheus. */
export type ServerName =
  | 'redis-server'
  | 'postgres'
  | 'prometheus'
  | 'promtool'
  | 'strace'
  | 'faketime'
  | 'h2load'
  | 'slowhttptest'
  | 'chromium-headless-shell'
  | 'chromium';

/** The path of a server's binary, on the system or unpacked. */
export function findServer(name: ServerName): string | undefined {
  const roots = ['/', UNPACKED];
  const folders = [
    ...(process.env['PATH'] ?? '').split(path.delimiter),
    ...roots.flatMap((root) => [
      // Before usr/bin, where a script lies that looks for it below the root of the system.
      path.join(root, 'usr/lib/chromium'),
      path.join(root, 'usr/bin'),
      ...postgresFolders(root),
    ]),
  ];
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file));
}

function postgresFolders(root: string): string[] {
  const versions = path.join(root, 'usr/lib/postgresql');
  if (!existsSync(versions)) return [];
  return readdirSync(versions).map((version) => path.join(versions, version, 'bin'));
}

/** Libraries that were unpacked with a server are found by this alone. */
export function serverEnvironment(): NodeJS.ProcessEnv {
  const library = path.join(UNPACKED, 'usr/lib');
  if (!existsSync(library)) return { PATH: process.env['PATH'] };
  const folders = [library, ...readdirSync(library).map((name) => path.join(library, name))];
  const ours = folders.filter((name) => /-linux-gnu/.test(name));
  // The library that libpulse itself is linked to lies in a folder of its own.
  const all = [...ours, ...ours.map((folder) => path.join(folder, 'pulseaudio'))];
  return { PATH: process.env['PATH'], LD_LIBRARY_PATH: all.join(':') };
}

/** The library that gives a process a wall clock of its own when it is preloaded. */
export function findFaketime(): string | undefined {
  return ['/', UNPACKED]
    .flatMap((root) => {
      const libraries = path.join(root, 'usr/lib');
      const folders = existsSync(libraries) ? readdirSync(libraries).filter((name) => name.endsWith('-linux-gnu')) : [];
      return folders.map((folder) => path.join(libraries, folder, 'faketime/libfaketime.so.1'));
    })
    .find((file) => existsSync(file));
}

export interface TestServer {
  readonly url: string;
  /** Ends it, by SIGKILL, and starts it again where it was, with what it had. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Undefined, with the reason logged, where there is no server to be had: the test then ends as not run. */
export async function startRedis(t: ExecutionContext): Promise<TestServer | undefined> {
  const binary = findServer('redis-server');
  if (binary === undefined) return notRun(t, 'redis-server');
  const folder = mkdtempSync(path.join(tmpdir(), 'troupe-redis-'));
  const port = await freePort();
  // By default a write that is answered may stay in memory while the disk is slow: a kill would lose it.
  const durable = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'always'];
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, ...durable];
  const start = async (): Promise<ChildProcess> => {
    const child = spawn(binary, args, { env: serverEnvironment(), stdio: ['ignore', 'pipe', 'inherit'] });
    await lineOf(child, child.stdout, /Ready to accept connections/);
    return child;
  };
  return supervise(t, folder, `redis://127.0.0.1:${port}`, start);
}

export async function startPostgres(t: ExecutionContext): Promise<TestServer | undefined> {
  const binary = findServer('postgres');
  if (binary === undefined) return notRun(t, 'postgres');
  const folder = mkdtempSync(path.join(tmpdir(), 'troupe-postgres-'));
  // postgres refuses to run as root.
  const user = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  if (user.uid !== undefined) chownSync(folder, user.uid, user.gid);
  chmodSync(folder, 0o700);
  const data = path.join(folder, 'data');
  const options = { env: { ...serverEnvironment(), LC_ALL: 'C' }, cwd: folder, ...user };
  // initdb looks for postgres beside itself, also where it is called by a link.
  const initdb = path.join(path.dirname(binary), 'initdb');
  await run(
    initdb,
    ['-D', data, '-U', 'troupe', '-A', 'trust', '-E', 'UTF8', '--no-locale', '--no-sync', '--no-instructions'],
    options,
  );
  const settings = ['fsync=off', 'full_page_writes=off', 'listen_addresses=', `unix_socket_directories=${folder}`];
  const args = ['-D', data, ...settings.flatMap((setting) => ['-c', setting])];
  const start = async (): Promise<ChildProcess> => {
    // A killed postgres leaves its lock behind; the process it names is gone, or is another one.
    rmSync(path.join(data, 'postmaster.pid'), { force: true });
    const child = spawn(binary, args, { ...options, stdio: ['ignore', 'ignore', 'pipe'] });
    await lineOf(child, child.stderr, /ready to accept connections/);
    return child;
  };
  return supervise(t, folder, `postgresql:///postgres?host=${encodeURIComponent(folder)}&user=troupe`, start);
}

/** The test that calls this and returns counts as not run. */
export function notRun(t: ExecutionContext, name: ServerName): undefined {
  const reason = process.env[`TROUPE_NO_${name.toUpperCase().replaceAll('-', '_')}`];
  t.log(`not run: ${reason ?? `${name} is not installed; node scripts/servers.mjs fetches it`}`);
  t.pass();
}

export async function supervise(
  t: ExecutionContext,
  folder: string,
  url: string,
  start: () => Promise<ChildProcess>,
): Promise<TestServer> {
  let child = await start();
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'close');
  };
  const stop = async (): Promise<void> => {
    await end('SIGINT');
    rmSync(folder, { recursive: true, force: true });
  };
  t.teardown(stop);
  return {
    url,
    stop,
    restart: async () => {
      await end('SIGKILL');
      child = await start();
    },
  };
}

/** The source, whose readers are closed when the test is over: one that a failed test leaves open keeps the process. */
export function closedAfter<S extends Source<unknown>>(t: ExecutionContext, source: S): S {
  const open = source.open.bind(source);
  return Object.assign(source, {
    open: async (...given: Parameters<typeof open>) => {
      const reader = await open(...given);
      t.teardown(() => reader.close?.());
      return reader;
    },
  });
}

/** Resolves when the child has said it, and goes on to read what it says: a full pipe would stop it. */
export async function lineOf(child: ChildProcess, output: NodeJS.ReadableStream, pattern: RegExp): Promise<void> {
  const said: string[] = [];
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => reject(new Error(`the server ended with ${code}: ${said.slice(-10).join('\n')}`)));
    createInterface({ input: output }).on('line', (line) => {
      said.push(line);
      if (said.length > 20) said.shift();
      if (pattern.test(line)) resolve();
    });
  });
}

export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}
