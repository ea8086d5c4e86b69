import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { connectControl, createSystem, silentLog, type TroupeError } from 'troupe';
import { privateSocketPath, readToken, SOCKET_PATH_BYTES_MAX } from '../../src/control/private-path.js';
import { privateFolder, stand } from './stand.js';

const isRoot = process.getuid?.() === 0;
const asRoot = isRoot ? test : test.skip;
const NOBODY = 65_534;

const code = (error: unknown): string => (error as TroupeError).code;
const open = async (socket: string): Promise<void> => {
  await using system = createSystem({ log: silentLog });
  await system.openControl({ socket });
};

test('socket, token and directory are for their owner alone, whatever the umask', async (t) => {
  const folder = privateFolder(t);
  // A child has an umask of its own; this process keeps its.
  for (const mask of ['000', '022', '777']) {
    const socket = join(folder, `made-${mask}`, 'c.sock');
    const script = `
      process.umask(0o${mask});
      const { createSystem } = await import('troupe');
      const { lstatSync } = await import('node:fs');
      const { dirname } = await import('node:path');
      const system = createSystem({ log: () => undefined });
      const { socket, tokenFile } = await system.openControl({ socket: ${JSON.stringify(socket)} });
      const mode = (file) => (lstatSync(file).mode & 0o777).toString(8);
      console.log(JSON.stringify([mode(dirname(socket)), mode(socket), mode(tokenFile)]));
      await system.stop();
    `;
    const shown = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    t.deepEqual(JSON.parse(shown), ['700', '600', '600'], mask);
    t.false(existsSync(socket));
    t.false(existsSync(`${socket}.token`));
  }
});

test('a directory that others may enter, a link to one, or something else at its place is refused, with what to do', async (t) => {
  const folder = privateFolder(t);
  mkdirSync(join(folder, 'open'));
  chmodSync(join(folder, 'open'), 0o755);
  mkdirSync(join(folder, 'real'), { mode: 0o700 });
  symlinkSync(join(folder, 'real'), join(folder, 'link'));
  writeFileSync(join(folder, 'file'), '');
  mkdirSync(join(folder, 'loose'));
  chmodSync(join(folder, 'loose'), 0o777);
  const cases: readonly (readonly [string, RegExp])[] = [
    ['open/c.sock', /others may enter ".*open" \(mode 0755\); chmod 700/],
    ['link/c.sock', /link" is a symbolic link/],
    ['file/c.sock', /file" is not a directory/],
    ['none/none/c.sock', /none" cannot be reached \(ENOENT\)/],
    ['loose/inner/c.sock', /others may write to ".*loose" above it/],
  ];
  for (const [socket, message] of cases) {
    const error = await t.throwsAsync(open(join(folder, socket)), { message }, socket);
    t.is(code(error), 'CONTROL_PATH_REFUSED');
  }
});

asRoot('a directory of another user, or below one of another user, is refused (root alone can make one)', async (t) => {
  const folder = privateFolder(t);
  mkdirSync(join(folder, 'theirs', 'inner'), { recursive: true, mode: 0o700 });
  chownSync(join(folder, 'theirs'), NOBODY, NOBODY);
  for (const [socket, message] of [
    ['theirs/c.sock', /belongs to user 65534/],
    ['theirs/inner/c.sock', /theirs" above it belongs to user 65534/],
  ] as const) {
    const error = await t.throwsAsync(open(join(folder, socket)), { message });
    t.is(code(error), 'CONTROL_PATH_REFUSED');
  }
});

test('what lies at the place of the socket is never removed unless it is a stale socket of ours', async (t) => {
  const folder = privateFolder(t);
  writeFileSync(join(folder, 'file'), 'precious');
  symlinkSync(join(folder, 'file'), join(folder, 'link'));
  execFileSync('mkfifo', [join(folder, 'fifo')]);
  mkdirSync(join(folder, 'directory'));
  for (const name of ['file', 'link', 'fifo', 'directory']) {
    const error = await t.throwsAsync(open(join(folder, name)), { message: /is no socket; remove it/ }, name);
    t.is(code(error), 'CONTROL_PATH_REFUSED');
    t.truthy(lstatSync(join(folder, name)));
  }
  t.is(readFileSync(join(folder, 'file'), 'utf8'), 'precious');
});

asRoot('a socket that another user made there is refused and stays (root alone can give it away)', async (t) => {
  const socket = join(privateFolder(t), 'c.sock');
  const theirs = createServer().listen(socket);
  t.teardown(() => theirs.close());
  await new Promise((resolve) => theirs.once('listening', resolve));
  chownSync(socket, NOBODY, NOBODY);
  await t.throwsAsync(open(socket), { message: /belongs to user 65534/ });
  await t.throwsAsync(connectControl(socket), { message: /belongs to user 65534/ });
  t.true(lstatSync(socket).isSocket());
});

test('a path that a socket cannot have is refused before anything is made', async (t) => {
  const folder = privateFolder(t);
  const room = SOCKET_PATH_BYTES_MAX - folder.length - 1;
  const error = await t.throwsAsync(open(join(folder, 'x'.repeat(room + 1))), { message: /may have 10\d bytes/ });
  t.is(code(error), 'CONTROL_PATH_REFUSED');
  await t.notThrowsAsync(open(join(folder, 'x'.repeat(room))));
  await t.throwsAsync(open(join(folder, 'é'.repeat(Math.ceil((room + 1) / 2)))), { message: /may have 10\d bytes/ });
  t.throws(() => privateSocketPath(join(folder, 'a\0b'), true), { message: /NUL/ });
});

test('a live socket is in use, a stale one of a killed system is taken over', async (t) => {
  const { socket } = await stand(t);
  const error = await t.throwsAsync(open(socket), { message: /another system listens/ });
  t.is(code(error), 'CONTROL_IN_USE');

  const stale = join(privateFolder(t), 'c.sock');
  const script = `
    const { createSystem } = await import('troupe');
    await createSystem({ log: () => undefined }).openControl({ socket: ${JSON.stringify(stale)} });
    process.kill(process.pid, 'SIGKILL');
  `;
  t.throws(() => execFileSync(process.execPath, ['--input-type=module', '-e', script]));
  t.true(lstatSync(stale).isSocket());
  const gone = await t.throwsAsync(connectControl(stale), { message: /nobody listens/ });
  t.is(code(gone), 'CONTROL_UNREACHABLE');
  const oldToken = readToken(stale);
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop());
  await system.openControl({ socket: stale });
  t.not(readToken(stale), oldToken);
  const old = await t.throwsAsync(connectControl(stale, { token: oldToken }), { message: /token is wrong/ });
  t.is(code(old), 'CONTROL_REFUSED');
});

test('of systems that start at once for one socket exactly one gets it', async (t) => {
  const socket = join(privateFolder(t), 'c.sock');
  // A stale one, so that all of them want to clear the way.
  await new Promise<void>((resolve) => {
    const bound = createServer().listen(`${socket}.other`, () => {
      renameSync(`${socket}.other`, socket);
      bound.close(() => resolve());
    });
  });
  const systems = Array.from({ length: 8 }, () => createSystem({ log: silentLog }));
  t.teardown(() => Promise.all(systems.map((system) => system.stop())));
  const ends = await Promise.allSettled(systems.map((system) => system.openControl({ socket })));
  t.is(ends.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const end of ends) if (end.status === 'rejected') t.is(code(end.reason), 'CONTROL_IN_USE');
  await using client = await connectControl(socket);
  t.is(client.pid, process.pid);
});

test('a system whose socket was replaced leaves what took its place alone', async (t) => {
  const { socket, system } = await stand(t);
  unlinkSync(socket);
  const other = createServer().listen(socket);
  t.teardown(() => other.close());
  await new Promise((resolve) => other.once('listening', resolve));
  await system.stop();
  t.true(lstatSync(socket).isSocket());
  t.false(existsSync(`${socket}.token`));
});

test('a token that others can read, a link in its place, or none at all keeps the client from saying it', async (t) => {
  const { socket } = await stand(t);
  const file = `${socket}.token`;
  chmodSync(file, 0o644);
  await t.throwsAsync(connectControl(socket), { message: /others have access to the token/ });
  chmodSync(file, 0o600);
  renameSync(file, `${file}.real`);
  symlinkSync(`${file}.real`, file);
  await t.throwsAsync(connectControl(socket), { message: /cannot be read \(ELOOP\)/ });
  unlinkSync(file);
  await t.throwsAsync(connectControl(socket), { message: /cannot be read \(ENOENT\)/ });
  execFileSync('mkfifo', ['-m', '600', file]);
  await t.throwsAsync(connectControl(socket), { message: /others have access|cannot be read/ });
});
