import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { send } from '../serve/oip-stand.js';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const actor = new URL('./doubling-actor.js', import.meta.url).href;

export interface ServedChild {
  readonly port: number;
  /** Where `serve` has gRPC too. */
  readonly grpcPort: number;
  /** Resident memory as the server itself tells it. */
  residentBytes(): Promise<number>;
}

/** `troupe serve` with the pool `double`, in a process whose memory is its own; `serve` are keys of the config. */
export async function servedChild(t: ExecutionContext, serve: object = {}): Promise<ServedChild> {
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-rows-g-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = path.join(dir, 'troupe.yaml');
  writeFileSync(
    file,
    JSON.stringify({ pools: { double: { actor, isolation: 'thread' } }, serve: { port: 0, ...serve } }),
  );
  const child = spawn(process.execPath, [main, 'serve', file], { stdio: ['ignore', 'ignore', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [port = NaN, grpcPort = NaN] = await new Promise<readonly number[]>((resolve, reject) => {
    let text = '';
    child.stderr.on('data', (part: Buffer) => {
      text += part.toString();
      const line = /served at (http:.*)\n/.exec(text)?.[1];
      if (line !== undefined) resolve(Array.from(line.matchAll(/127\.0\.0\.1:(\d+)/g), ([, found]) => Number(found)));
    });
    child.on('exit', () => reject(new Error(text)));
  });
  while ((await send({ port, path: '/v2/health/ready' })).status !== 200);
  return {
    port,
    grpcPort,
    residentBytes: async () => {
      const { text } = await send({ port, path: '/metrics' });
      return Number(/^troupe_resident_bytes (\S+)$/m.exec(text)?.[1]);
    },
  };
}
