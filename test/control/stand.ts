import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { createSystem, defineActor, type LogEntry, type System } from 'troupe';
import { readToken } from '../../src/control/private-path.js';

/** A private directory that goes with the test. */
export function privateFolder(t: ExecutionContext<any>): string {
  const folder = mkdtempSync(join(tmpdir(), 'tc-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export const echo = defineActor({
  predict: (batch: readonly unknown[]) => batch.map((record) => (record === 'bad' ? new Error('unlucky') : record)),
});

export interface Stand {
  readonly system: System;
  readonly socket: string;
  readonly log: LogEntry[];
}

/** A system with one pool `echo` and its control open, gone at the end of the test. */
export async function stand(
  t: ExecutionContext<any>,
  options: { readonly pools?: readonly string[] } = {},
): Promise<Stand> {
  const log: LogEntry[] = [];
  const system = createSystem({ name: 'stand', log: (entry) => void log.push(entry) });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const { socket } = await system.openControl({ socket: join(privateFolder(t), 'c.sock') });
  for (const name of options.pools ?? ['echo']) await system.spawn(name, { actor: echo });
  return { system, socket, log };
}

/** A connection that says what it likes. */
export class RawPeer {
  readonly socket: Socket;
  readonly frames: Record<string, any>[] = [];
  #text = '';
  #wake: () => void = () => undefined;
  isClosed = false;

  constructor(path: string, options: { readonly reads?: boolean } = {}) {
    this.socket = connect(path);
    this.socket.on('error', () => undefined);
    this.socket.on('close', () => {
      this.isClosed = true;
      this.#wake();
    });
    if (options.reads === false) return;
    this.socket.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString();
      const lines = this.#text.split('\n');
      this.#text = lines.pop() ?? '';
      for (const line of lines) this.frames.push(JSON.parse(line) as Record<string, any>);
      this.#wake();
    });
  }

  send(frame: unknown): void {
    this.socket.write(`${JSON.stringify(frame)}\n`);
  }

  hello(path: string, more: Record<string, unknown> = {}): void {
    this.send({ hello: { protocol: 1, token: readToken(path), access: 'write', ...more } });
  }

  /** Resolves when the connection has closed, or this many frames have come. */
  async until(count: number): Promise<readonly Record<string, any>[]> {
    while (!this.isClosed && this.frames.length < count) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.frames;
  }
}

/** A peer that has been let in. */
export async function admitted(path: string, more: Record<string, unknown> = {}): Promise<RawPeer> {
  const peer = new RawPeer(path);
  peer.hello(path, more);
  await peer.until(1);
  return peer;
}
