import { CALLERS, callersLap, VALUES } from './callers.js';
import { rowOfPeer, runLaps } from './laps.js';
import { ourLanes } from './peers/ours.js';
import { processPeers } from './peers/processes.js';
import { threadPeers } from './peers/threads.js';
import type { Row } from './report.js';

/** Overhead per ask: callers that each await their own answer before they ask again, one worker per lane. */
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
  const laps = await runLaps(lanes, { rounds, unit: 'asks', progress, measure: (lane) => callersLap(lane, laneMs) });
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
