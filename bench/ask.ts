import { performance } from 'node:perf_hooks';
import { type Lap, lapOf, rowOfPeer, runLaps } from './laps.js';
import type { OpenLane } from './peers/lane.js';
import { ourLanes } from './peers/ours.js';
import { processPeers } from './peers/processes.js';
import { threadPeers } from './peers/threads.js';
import type { Row } from './report.js';
import { settle } from './settle.js';

/** Overhead per ask: CALLERS callers, each awaiting its own answer before it asks again, one worker per lane. */
const CALLERS = 256;
const VALUES = 64;

export interface AskOptions {
  readonly rounds: number;
  /** How long one lane runs in one round. */
  readonly laneMs: number;
  /** Ids of the peers to run; all without it. */
  readonly only: readonly string[] | undefined;
  readonly progress: (line: string) => void;
}

/** Least ratio promised, by peer. The others are shown for orientation. */
const TARGETS: Readonly<Record<string, number>> = {
  piscina: 8,
  tinypool: 5,
  comlink: 10,
  workerpool: 15,
  postMessage: 3,
  'tinypool-process': 4,
  'workerpool-process': 4,
  fork: 10,
};

export async function benchAsk({ rounds, laneMs, only, progress }: AskOptions): Promise<Row[]> {
  const peers = [...threadPeers, ...processPeers].filter(({ id }) => only?.includes(id) ?? true);
  const lanes = [...ourLanes.filter(({ kind }) => peers.some((peer) => peer.kind === kind)), ...peers];
  const laps = await runLaps(lanes, { rounds, unit: 'asks', progress, measure: (lane) => measure(lane, laneMs) });
  return peers.map((peer) =>
    rowOfPeer(peer, laps, {
      part: 'ask',
      id: `ask/${peer.id}`,
      what: `asks per second, ${peer.kind}, Float32[${VALUES}] echo, ${CALLERS} callers`,
      target: TARGETS[peer.id],
      digits: 1,
    }),
  );
}

/**
 * Asks for `laneMs`, and checks every answer. A caller fills the same array for each of its asks: to make one costs more
 * than an ask may, it would be the same for every lane, and so hide what differs.
 */
async function measure(lane: OpenLane, laneMs: number): Promise<Lap> {
  await settle();
  const cpuFrom = process.cpuUsage();
  const startedAt = performance.now();
  const endAt = startedAt + laneMs;
  let count = 0;
  const caller = async (first: number): Promise<void> => {
    const input = new Float32Array(VALUES);
    for (let n = first; performance.now() < endAt; n += CALLERS) {
      input[0] = n & 0xffff;
      input[VALUES - 1] = first;
      const output = await lane.ask(input);
      if (output.length !== VALUES || output[0] !== input[0] || output[VALUES - 1] !== first)
        throw new Error(
          `expected ${VALUES} values from ${input[0]} to ${first}, got ${JSON.stringify(output)?.slice(0, 80)}`,
        );
      count++;
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, (_, index) => caller(index)));
  return lapOf(count, startedAt, cpuFrom);
}
