import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createSystem, type Outcome, silentLog } from 'troupe';
import { BULK_BATCH_SIZE, BULK_RECORDS, bulkLap, valueOfOutcome } from './bulk-lap.js';
import { CALLERS, callersLap, VALUES } from './callers.js';
import { type Lap, rowOfPeer, runLaps } from './laps.js';
import { type OpenLane, workerUrl } from './peers/lane.js';
import { BATCH_SIZE } from './peers/ours.js';
import { grpcLanes, ourRemoteLane } from './peers/remote.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * The framed lane to the pools of another process: small records one by one beside our own gRPC to the same pool, and a
 * thousand at a time beside a pool of this process whose actor is in a process. Every answer is checked.
 */
/** So many laps long is the first of each lane, which does not count: engines compile what they run often. */
const WARM_LAPS = 8;
const TIMES_MIN = 5;
const OVERHEAD_MAX = 2;

export interface LaneBenchOptions {
  readonly rounds: number;
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

type AskMany = (records: readonly Float32Array[]) => Promise<Outcome<Float32Array>[]>;

export async function benchLane(options: LaneBenchOptions): Promise<Row[]> {
  const dir = mkdtempSync(join(tmpdir(), 'troupe-bench-'));
  const lane = join(dir, 'lane.sock');
  const sidecar = fork(workerUrl('sidecar'), [lane, String(BATCH_SIZE), String(BULK_BATCH_SIZE)]);
  try {
    const grpcPort = await Promise.race([
      once(sidecar, 'message').then(([port]) => port as number),
      once(sidecar, 'exit').then(([code]) => Promise.reject(new Error(`the sidecar ended with ${String(code)}`))),
    ]);
    return [
      ...(await besideGrpc({ lane, grpcPort, values: VALUES }, options)),
      ...(await besideProcess(lane, options)),
    ];
  } finally {
    sidecar.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  }
}

async function besideGrpc(
  address: Parameters<typeof grpcLanes>[0],
  { rounds, laneMs, progress }: LaneBenchOptions,
): Promise<Row[]> {
  const peers = grpcLanes(address);
  const warm = new Set<OpenLane>();
  const laps = await runLaps([ourRemoteLane(address), ...peers], {
    rounds,
    unit: 'records',
    progress,
    measure: (open) => {
      const isWarm = warm.has(open);
      warm.add(open);
      return callersLap(open, isWarm ? laneMs : WARM_LAPS * laneMs);
    },
  });
  return peers.map((peer) =>
    rowOfPeer(peer, laps, {
      part: 'lane',
      id: `lane/${peer.id}`,
      what: `records per second to another process, Float32[${VALUES}] echo, ${CALLERS} callers`,
      target: TIMES_MIN,
      digits: 1,
    }),
  );
}

async function besideProcess(lane: string, { rounds, laneMs, progress }: LaneBenchOptions): Promise<Row[]> {
  const system = createSystem({ log: silentLog });
  const connection = connect(`unix:${lane}`);
  try {
    const local = await system.spawn<Float32Array, Float32Array>('echo', {
      actor: workerUrl('echo-actor').href,
      isolation: 'process',
      batching: { maxSize: BULK_BATCH_SIZE },
    });
    const remote = connection.pool<Float32Array, Float32Array>('echo');
    const asks: Readonly<Record<'ours' | 'theirs', AskMany>> = {
      ours: (records) => remote.askMany(records),
      theirs: (records) => local.askMany(records),
    };
    const laps: Record<'ours' | 'theirs', Lap[]> = { ours: [], theirs: [] };
    for (let round = 0; round <= rounds; round++) {
      for (const side of round % 2 === 0 ? (['ours', 'theirs'] as const) : (['theirs', 'ours'] as const)) {
        const lap = await bulkLap(asks[side], valueOfOutcome, round === 0 ? WARM_LAPS * laneMs : laneMs);
        if (round > 0) laps[side].push(lap);
      }
      const [ours, theirs] = (['ours', 'theirs'] as const).map((side) => Math.round(laps[side].at(-1)?.rate ?? 0));
      if (round > 0) progress(`round ${round} of ${rounds}, records per second in bulk: lane ${ours}, local ${theirs}`);
    }
    const timeOf = ({ rate }: Lap): number => 1_000_000 / rate;
    return [
      overheadRow('time', `us per record, askMany of ${BULK_RECORDS}, Float32[${VALUES}] echo`, laps, timeOf),
      overheadRow('cpu', "us of CPU of the caller's process per record, the same", laps, ({ cpuMicros }) => cpuMicros),
    ];
  } finally {
    await connection.close();
    await system.stop();
  }
}

/** Ours by theirs, at most OVERHEAD_MAX, by the median of the rounds. */
export function overheadRow(
  id: string,
  what: string,
  laps: Readonly<Record<'ours' | 'theirs', readonly Lap[]>>,
  valueOf: (lap: Lap) => number,
): Row {
  const ratios = laps.ours.map((lap, round) => valueOf(lap) / valueOf(laps.theirs[round] as Lap));
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  return {
    part: 'lane',
    id: `lane/bulk-${id}`,
    what: `${what}, by the lane`,
    against: `a pool of this process, its actor in a process, batches of ${BULK_BATCH_SIZE}`,
    ours: rounded(median(laps.ours.map(valueOf)), 2),
    theirs: rounded(median(laps.theirs.map(valueOf)), 2),
    ratio: rounded(ratio, 2),
    spread: [rounded(least, 2), rounded(most, 2)],
    target: OVERHEAD_MAX,
    atMost: true,
    met: ratio <= OVERHEAD_MAX,
  };
}
