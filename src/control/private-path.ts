/**
 * Where control sockets lie, and the door of this room to the file system. Whoever can reach a control socket can run code
 * as its owner, so everything on the way to it has to belong to that owner.
 *
 * P1 the directory of a socket is a real one (no link), belongs to us, and nobody else can enter it.
 * P2 nobody else can put another in its place: every directory above belongs to root or to us, and whoever else may write
 *    to one cannot move what is ours in it (sticky).
 * P3 nothing here depends on the umask.
 * P4 what another user, or another system, put at the place of a socket is never removed.
 */
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { TroupeError } from '../kernel/errors.js';

/** sun_path holds 108 bytes on Linux and 104 on macOS, the last for the end; Node truncates longer ones without a word. */
export const SOCKET_PATH_BYTES_MAX = process.platform === 'darwin' ? 103 : 107;
const TOKEN_BYTES = 32;
const TOKEN_FILE_BYTES_MAX = 1024;
const OTHERS = 0o077;

/** One file at one time: its name may lead to another one later. */
export interface FileIdentity {
  readonly dev: number;
  readonly ino: number;
}

/** The user this process acts as. */
export function ownUid(): number {
  const uid = process.geteuid?.();
  if (uid === undefined) throw refusal('this system has no users and no Unix sockets', 'use Linux or macOS');
  return uid;
}

/** Of a system that is given no path: the user's runtime directory, or one of their own among the temporary ones. */
export function defaultSocketDirectory(): string {
  const runtime = process.env['XDG_RUNTIME_DIR'];
  if (runtime !== undefined && path.isAbsolute(runtime) && statOf(runtime)?.isDirectory() === true) {
    return path.join(runtime, 'troupe');
  }
  return path.join(tmpdir(), `troupe-${ownUid()}`);
}

export function defaultSocketPath(system: string): string {
  return path.join(defaultSocketDirectory(), `${system}.sock`);
}

/** Sockets in the default directory, whoever listens there or not; none where there is no such directory. */
export function defaultSockets(): readonly string[] {
  const directory = defaultSocketDirectory();
  if (statOf(directory) === undefined) return [];
  const real = privateDirectory(directory, false);
  return readdirSync(real)
    .filter((name) => name.endsWith('.sock') && !name.startsWith('.'))
    .map((name) => path.join(real, name))
    .filter((file) => statOf(file)?.isSocket() === true)
    .sort();
}

/**
 * The path of a socket whose directory is private (P1, P2), with every link above it resolved. `isMade`: makes the last
 * directory where it is missing; otherwise CONTROL_UNREACHABLE. Throws CONTROL_PATH_REFUSED.
 */
export function privateSocketPath(socket: string, isMade: boolean): string {
  const absolute = path.resolve(socket);
  if (absolute.includes('\0')) throw refusal('a path has no NUL in it', 'give another path');
  checkLength(absolute);
  const real = path.join(privateDirectory(path.dirname(absolute), isMade), path.basename(absolute));
  checkLength(real);
  return real;
}

function checkLength(socket: string): void {
  const bytes = Buffer.byteLength(socket);
  if (bytes <= SOCKET_PATH_BYTES_MAX) return;
  throw refusal(
    `the path of a socket may have ${SOCKET_PATH_BYTES_MAX} bytes, and ${quote(socket)} has ${bytes}`,
    'give a shorter one',
  );
}

function privateDirectory(directory: string, isMade: boolean): string {
  const parent = realpathOf(path.dirname(directory), isMade);
  for (let above = parent; ; above = path.dirname(above)) {
    checkAbove(above);
    if (above === path.dirname(above)) break;
  }
  const real = path.join(parent, path.basename(directory));
  if (isMade) makeDirectory(real);
  const stats = statOf(real);
  if (stats === undefined) throw missing(`there is no directory ${quote(real)}`);
  if (stats.isSymbolicLink()) throw refusal(`${quote(real)} is a symbolic link`, 'name the directory itself');
  if (!stats.isDirectory()) throw refusal(`${quote(real)} is not a directory`, 'give another path');
  if (stats.uid !== ownUid()) {
    throw refusal(
      `${quote(real)} belongs to user ${stats.uid}, and this process runs as user ${ownUid()}`,
      'choose a directory of your own, or act as its owner',
    );
  }
  if ((stats.mode & OTHERS) !== 0) {
    throw refusal(
      `others may enter ${quote(real)} (mode ${modeText(stats)})`,
      `chmod 700 ${real}, or put the socket into a directory of its own`,
    );
  }
  return real;
}

/** P2. */
function checkAbove(directory: string): void {
  const stats = statSync(directory);
  if (stats.uid !== 0 && stats.uid !== ownUid()) {
    throw refusal(
      `${quote(directory)} above it belongs to user ${stats.uid}`,
      'that user could put another directory in its place; choose one below directories of root or of your own',
    );
  }
  if ((stats.mode & 0o022) !== 0 && (stats.mode & 0o1000) === 0) {
    throw refusal(
      `others may write to ${quote(directory)} above it (mode ${modeText(stats)})`,
      'they could put another directory in its place; choose one where they cannot',
    );
  }
}

/** P3. */
function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    throw refusal(`${quote(directory)} cannot be made (${codeOf(error)})`, 'make it, or give another path', error);
  }
  // Only its owner can move it away (P2), so this is the one that was made.
  chmodSync(directory, 0o700);
}

function realpathOf(directory: string, isMade: boolean): string {
  try {
    return realpathSync(directory);
  } catch (error) {
    if (!isMade && codeOf(error) === 'ENOENT') throw missing(`there is no directory ${quote(directory)}`);
    throw refusal(`${quote(directory)} cannot be reached (${codeOf(error)})`, 'make it, or give another path', error);
  }
}

/** A name beside the socket that nobody uses; no longer than it must be. */
export function nameBeside(socket: string): string {
  const name = path.join(path.dirname(socket), `.${randomBytes(4).toString('hex')}`);
  checkLength(name);
  return name;
}

/** What lies at the place of a socket: nothing, or a socket of ours. Throws CONTROL_PATH_REFUSED for anything else (P4). */
export function socketAt(socket: string): FileIdentity | undefined {
  const stats = statOf(socket);
  if (stats === undefined) return undefined;
  if (!stats.isSocket()) {
    throw refusal(`there is something at ${quote(socket)} that is no socket`, 'remove it, or give another path');
  }
  if (stats.uid !== ownUid()) {
    throw refusal(`the socket ${quote(socket)} belongs to user ${stats.uid}`, 'remove it, or give another path');
  }
  return { dev: stats.dev, ino: stats.ino };
}

/** Only the owner may use what was made there, whatever the umask was (P3). */
export function makePrivate(file: string): void {
  chmodSync(file, 0o600);
}

/** Gives a file its name, unless the name is taken: false. */
export function tryName(file: string, name: string): boolean {
  try {
    linkSync(file, name);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw refusal(`${quote(name)} cannot be made (${codeOf(error)})`, 'give another path', error);
  }
  unlinkSync(file);
  return true;
}

/** Removes a file, but only if it is that one: what took its place meanwhile stays, or is put back. */
export function removeIf(file: string, wanted: FileIdentity): void {
  const found = statOf(file);
  if (found === undefined || !isSame(found, wanted)) return;
  const aside = nameBeside(file);
  try {
    renameSync(file, aside);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return;
    throw error;
  }
  const moved = statOf(aside);
  if (moved !== undefined && !isSame(moved, wanted)) tryName(aside, file);
  else unlinkSync(aside);
}

export function tokenPath(socket: string): string {
  return `${socket}.token`;
}

/** A fresh token in a file that only its owner can read; what lay there is replaced, a link is not followed. */
export function writeToken(socket: string): {
  readonly token: string;
  readonly file: string;
  readonly identity: FileIdentity;
} {
  const file = tokenPath(socket);
  const token = randomBytes(TOKEN_BYTES).toString('hex');
  const fresh = nameBeside(socket);
  const handle = openSync(
    fresh,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    fchmodSync(handle, 0o600);
    writeSync(handle, `${token}\n`);
    const { dev, ino } = fstatSync(handle);
    renameSync(fresh, file);
    return { token, file, identity: { dev, ino } };
  } catch (error) {
    unlinkSync(fresh);
    throw refusal(`the token cannot be written to ${quote(file)} (${codeOf(error)})`, 'remove what lies there', error);
  } finally {
    closeSync(handle);
  }
}

/** The token of a socket, for its owner. Throws CONTROL_PATH_REFUSED for a file that others could have read or written. */
export function readToken(socket: string): string {
  const file = tokenPath(socket);
  let handle: number;
  try {
    handle = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw refusal(`the token ${quote(file)} cannot be read (${codeOf(error)})`, 'is the system running?', error);
  }
  try {
    const stats = fstatSync(handle);
    if (!stats.isFile() || stats.uid !== ownUid() || (stats.mode & OTHERS) !== 0) {
      throw refusal(`others have access to the token ${quote(file)}`, 'start the system again: it makes a new one');
    }
    const text = Buffer.alloc(TOKEN_FILE_BYTES_MAX);
    return text.toString('latin1', 0, readSync(handle, text)).trim();
  } finally {
    closeSync(handle);
  }
}

function statOf(file: string): Stats | undefined {
  return lstatSync(file, { throwIfNoEntry: false });
}

function isSame(one: FileIdentity, other: FileIdentity): boolean {
  return one.dev === other.dev && one.ino === other.ino;
}

function modeText({ mode }: Stats): string {
  return `0${(mode & 0o7777).toString(8)}`;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}

function quote(file: string): string {
  return JSON.stringify(file);
}

function missing(what: string): TroupeError {
  return new TroupeError(
    'CONTROL_UNREACHABLE',
    `Control socket: ${what}; is the system running, with control in its config?`,
    {
      ran: 'not-started',
    },
  );
}

function refusal(what: string, advice: string, cause?: unknown): TroupeError {
  return new TroupeError('CONTROL_PATH_REFUSED', `Socket: ${what}; ${advice}`, { cause });
}
