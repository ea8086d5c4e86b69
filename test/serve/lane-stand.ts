import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import {
  type Connection,
  type ConnectOptions,
  connect,
  createSystem,
  type ServeOptions,
  type Serving,
  silentLog,
  type System,
} from 'troupe';

/** A folder that goes with its test; short, for the sake of sockets. */
export function folder(t: ExecutionContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'lane-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export interface LaneStand {
  readonly system: System;
  readonly serving: Serving;
  readonly socket: string;
  readonly address: string;
  connect(options?: ConnectOptions): Connection;
  /** By another address that leads to it. */
  connectTo(address: string, options?: ConnectOptions): Connection;
}

/** A system that serves its pools at a lane, and clients of it. */
export async function laneStand(t: ExecutionContext, options: ServeOptions = {}): Promise<LaneStand> {
  const socket = path.join(folder(t), 'run', 'l');
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const serving = await system.serve({ lane: socket, ...options });
  const address = `unix://${socket}`;
  const connectTo = (to: string, more: ConnectOptions = {}): Connection => {
    const connection = connect(to, more);
    t.teardown(() => connection.close());
    return connection;
  };
  return { system, serving, socket, address, connect: (more) => connectTo(address, more), connectTo };
}
