import { timingSafeEqual } from 'node:crypto';
import type { System } from '../actor/system.js';
import { type Clock, systemClock } from '../kernel/clock.js';
import type { Log } from '../telemetry/log.js';
import { LIMITS } from './grammar.js';
import type { Operations } from './operations.js';
import { digest, Peer, type Refusal } from './peer.js';
import { defaultSocketPath, removeIf, writeToken } from './private-path.js';
import { bindPrivate, type Socket } from './unix-socket.js';

/** Where the control of a system listens. */
export interface ControlAddress {
  /** Absolute path of the Unix socket. */
  readonly socket: string;
  /** The file whose content a client must know; only its owner can read it. */
  readonly tokenFile: string;
}

export interface ControlServer extends ControlAddress {
  /** Connections now. */
  readonly connectionCount: number;
  /** Peers that were turned away or ended, by reason, since the start. */
  readonly refusals: Readonly<Record<Refusal, number>>;
  /** Whether it is the token of this socket; takes the same time whatever is given. */
  isToken(text: string): boolean;
  /** Ends every connection, and takes socket and token away. May be called twice. */
  close(): void;
}

export interface ControlServerParts {
  readonly system: System;
  readonly operations: Operations;
  readonly log: Log;
  /** Default: `<name of the system>.sock` in the user's own runtime directory. */
  readonly socket?: string | undefined;
  readonly clock?: Clock;
}

/** Refusals are told at most this often. */
const REFUSALS_EVERY_MS = 1000;

/** Opens the control socket of a system. Rejects with CONTROL_PATH_REFUSED or CONTROL_IN_USE. */
export async function startControlServer(parts: ControlServerParts): Promise<ControlServer> {
  const { system, operations, log, clock = systemClock } = parts;
  const peers = new Set<Peer>();
  /** Turned away or ended, and not gone yet: they take no place of those who come. */
  const leaving = new Set<Peer>();
  const refusals: Record<Refusal, number> = { token: 0, protocol: 0, frame: 0, busy: 0, silent: 0, unread: 0 };
  let lastNumber = 0;
  let toldAt = -Infinity;
  let secret: Buffer | undefined;

  const refused = (why: Refusal, who: string): void => {
    refusals[why] += 1;
    const now = clock.now();
    if (now - toldAt < REFUSALS_EVERY_MS) return;
    toldAt = now;
    const message = `control refused ${who}: ${WORDS[why]}; ${refusals[why]} such so far`;
    operations.events.add('refused', message);
    log({ level: 'warn', message });
  };

  const connected = (socket: Socket): void => {
    // Between the moment the socket has its name and the moment the token has its own there is nothing to compare with.
    if (secret === undefined) {
      socket.destroy();
      return;
    }
    const peer: Peer = new Peer(socket, {
      operations,
      system: system.name,
      token: secret,
      number: ++lastNumber,
      clock,
      refused,
      ending: () => {
        peers.delete(peer);
        leaving.add(peer);
      },
      closed: () => {
        peers.delete(peer);
        leaving.delete(peer);
      },
    });
    if (peers.size < LIMITS.connections) peers.add(peer);
    else if (leaving.size < LIMITS.connections) peer.turnAway();
    else socket.destroy();
  };

  const bound = await bindPrivate(parts.socket ?? defaultSocketPath(system.name), connected);
  let written: ReturnType<typeof writeToken>;
  try {
    written = writeToken(bound.path);
  } catch (error) {
    bound.close();
    throw error;
  }
  const right = digest(written.token);
  secret = right;
  let isClosed = false;
  return {
    socket: bound.path,
    tokenFile: written.file,
    get connectionCount() {
      return peers.size;
    },
    refusals,
    isToken: (text) => timingSafeEqual(digest(text), right),
    close: () => {
      if (isClosed) return;
      isClosed = true;
      bound.close();
      removeIf(written.file, written.identity);
      for (const peer of [...peers]) peer.end();
    },
  };
}

const WORDS: Readonly<Record<Refusal, string>> = {
  token: 'its token is wrong',
  protocol: 'it speaks another version of the protocol',
  frame: 'it sent what is no frame of the protocol',
  busy: `there are ${LIMITS.connections} connections already`,
  silent: 'it was silent for too long',
  unread: 'it does not read what is sent to it',
};
