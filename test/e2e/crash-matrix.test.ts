import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { createSystem } from '../../src/actor/system.js';
import { silentLog } from '../../src/telemetry/log.js';
import { type Cells, HANG_MS, measureCells } from './peers/cells.js';
import type { Task } from './peers/task.js';

/**
 * The crash matrix of Node pools: one worker, A runs and ends it, B and C wait behind it, then a new call. Ours must be
 * right in every cell; the peers' cells are shown, and only their having been measured is asserted.
 */
const DEATHS = ['exit', 'throw'] as const;
const PEERS = [
  'piscina',
  'tinypool threads',
  'tinypool process',
  'poolifier',
  'workerpool threads',
  'workerpool process',
  'comlink',
  'threads.js',
  'bthreads',
] as const;

/** Each peer hangs for at most two spans: one for A, B, C together and one for the new call. */
const PEER_TIMEOUT_MS = 4 * HANG_MS + 10_000;

for (const isolation of ['thread', 'process'] as const) {
  for (const death of DEATHS) {
    for (const [where, maxSize] of [
      ['wait behind it', 1],
      ['share its batch', 32],
    ] as const) {
      test.serial(
        `a ${isolation} actor that ends by ${death} costs its own record only, when others ${where}`,
        async (t) => {
          await using system = createSystem({ log: silentLog });
          const pool = await system.spawn<Task, number>('matrix', {
            actor: new URL('./peers/troupe-actor.js', import.meta.url).href,
            isolation,
            attempts: 2,
            batching: { maxSize },
          });
          const cells = await measureCells((task) => pool.ask(task), death);
          t.log(row(`ours, ${isolation}, ${death}`, cells));
          t.deepEqual(cells, { a: 'rejected ACTOR_CRASHED', b: 'ok', c: 'ok', next: 'ok' });
          const { accepted, settled, held, deaths } = pool.stats();
          t.deepEqual({ settled, held }, { settled: accepted, held: 0 });
          t.is(deaths.crash + deaths.quarantine, 2, 'one death for the batch and one for the record alone');
        },
      );
    }
  }
}

test.serial('the same crashes are measured in the other pools of Node', async (t) => {
  t.timeout(110_000);
  const runs = PEERS.flatMap((peer) => DEATHS.map((death) => ({ peer, death })));
  const measured = new Map<string, Cells>();
  const worker = async (): Promise<void> => {
    for (let next = runs.shift(); next !== undefined; next = runs.shift()) {
      measured.set(`${next.peer}, ${next.death}`, await measurePeer(next.peer, next.death));
    }
  };
  // Most of a run is waiting for a hang, so several go side by side.
  await Promise.all(Array.from({ length: 6 }, worker));
  for (const peer of PEERS) {
    for (const death of DEATHS) {
      const name = `${peer}, ${death}`;
      const cells = measured.get(name) as Cells;
      t.log(row(name, cells));
      for (const cell of [cells.a, cells.b, cells.c, cells.next]) t.regex(cell, /^(ok|hang|rejected.*|wrong value.*)$/);
    }
  }
  t.is(measured.size, PEERS.length * DEATHS.length);
});

async function measurePeer(peer: string, death: string): Promise<Cells> {
  const file = fileURLToPath(new URL('./peers/crash.js', import.meta.url));
  let stdout: string;
  try {
    ({ stdout } = await promisify(execFile)(process.execPath, [file, peer, death], {
      timeout: PEER_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    }));
  } catch (error) {
    // It leaves by SIGKILL once it has printed its cells.
    stdout = (error as { readonly stdout?: string }).stdout ?? '';
    if (stdout === '') throw error;
  }
  return JSON.parse(stdout.split('\n').find((line) => line.startsWith('{')) ?? 'null') as Cells;
}

function row(name: string, { a, b, c, next }: Cells): string {
  return `${name.padEnd(28)} | A ${a.padEnd(34)} | B ${b.padEnd(8)} | C ${c.padEnd(8)} | new call ${next}`;
}
