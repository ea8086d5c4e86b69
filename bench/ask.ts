import { performance } from 'node:perf_hooks';
import type { Lane, OpenLane } from './peers/lane.js';
import { ourLanes } from './peers/ours.js';
import { processPeers } from './peers/processes.js';
import { threadPeers } from './peers/threads.js';
import type { Row } from './report.js';
import { settle } from './settle.js';
import { median, rounded, spread } from './statistics.js';

/**
 * Overhead per ask: CALLERS callers, each awaiting its own answer before it asks again, one worker per lane. All lanes are
 * open and warm before the first measured round, and every round runs them one after another, so that a change of the
 * machine's mood meets all of them. A ratio compares ours and theirs within a round.
 */
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

export async function benchAsk(options: AskOptions): Promise<Row[]> {
  const peers = [...threadPeers, ...processPeers].filter(({ id }) => options.only?.includes(id) ?? true);
  const lanes = [...ourLanes.filter(({ kind }) => peers.some((peer) => peer.kind === kind)), ...peers];
  const open = new Map<string, OpenLane>();
  const laps = new Map<string, Lap[]>(lanes.map((lane) => [lane.id, []]));
  try {
    for (const lane of lanes) {
      options.progress(`${lane.id}: ${lane.setup}`);
      open.set(lane.id, await lane.open());
    }
    for (const lane of lanes) await measure(open.get(lane.id) as OpenLane, options.laneMs);
    for (let round = 1; round <= options.rounds; round++) {
      const said: string[] = [];
      for (const lane of lanes) {
        const lap = await measure(open.get(lane.id) as OpenLane, options.laneMs);
        laps.get(lane.id)?.push(lap);
        said.push(`${lane.id} ${Math.round(lap.rate)}`);
      }
      options.progress(`round ${round} of ${options.rounds}, asks per second: ${said.join(', ')}`);
    }
  } finally {
    for (const lane of open.values()) await lane.close();
  }
  return peers.map((peer) => rowOf(peer, laps));
}

/** One lane in one round. */
interface Lap {
  /** Asks per second. */
  readonly rate: number;
  /** CPU time of this process per ask in microseconds: both sides of a thread lane, our side of a process lane. */
  readonly cpuMicros: number;
}

function rowOf(lane: Lane, laps: ReadonlyMap<string, readonly Lap[]>): Row {
  const theirs = laps.get(lane.id) as readonly Lap[];
  const ours = laps.get(`troupe-${lane.kind}`) as readonly Lap[];
  const ratios = ours.map(({ rate }, round) => rate / (theirs[round] as Lap).rate);
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  const target = TARGETS[lane.id];
  return {
    part: 'ask',
    id: `ask/${lane.id}`,
    what: `asks per second, ${lane.kind}, Float32[${VALUES}] echo, ${CALLERS} callers`,
    against: `${lane.id} (${lane.setup})`,
    ours: rounded(median(ours.map(({ rate }) => rate)), 0),
    theirs: rounded(median(theirs.map(({ rate }) => rate)), 0),
    ratio: rounded(ratio, 2),
    spread: [rounded(least, 2), rounded(most, 2)],
    cpuMicros: {
      ours: rounded(median(ours.map(({ cpuMicros }) => cpuMicros)), 1),
      theirs: rounded(median(theirs.map(({ cpuMicros }) => cpuMicros)), 1),
    },
    ...(target === undefined ? {} : { target, met: ratio >= target }),
  };
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
  const { user, system } = process.cpuUsage(cpuFrom);
  return { rate: (count * 1000) / (performance.now() - startedAt), cpuMicros: (user + system) / count };
}
