import { performance } from 'node:perf_hooks';
import type { Lane, OpenLane } from './peers/lane.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * Lanes side by side: all are open and warm before the first measured round, and every round runs them one after another,
 * so that a change of the machine's mood meets all of them. A ratio compares ours and theirs within a round.
 */
export interface Lap {
  /** Answers per second. */
  readonly rate: number;
  /** CPU time of this process per answer in microseconds: both sides of a thread lane, our side of a process lane. */
  readonly cpuMicros: number;
}

export type Laps = ReadonlyMap<string, readonly Lap[]>;

export interface LapsOptions {
  readonly rounds: number;
  /** One lane in one round. */
  readonly measure: (lane: OpenLane) => Promise<Lap>;
  /** What is counted, for the progress. */
  readonly unit: string;
  readonly progress: (line: string) => void;
}

/** The laps of every lane, by its id. */
export async function runLaps(lanes: readonly Lane[], { rounds, measure, unit, progress }: LapsOptions): Promise<Laps> {
  const open = new Map<string, OpenLane>();
  const laps = new Map<string, Lap[]>(lanes.map(({ id }) => [id, []]));
  try {
    for (const lane of lanes) {
      progress(`${lane.id}: ${lane.setup}`);
      open.set(lane.id, await lane.open());
    }
    for (const { id } of lanes) await measure(open.get(id) as OpenLane);
    for (let round = 1; round <= rounds; round++) {
      const said: string[] = [];
      for (const { id } of lanes) {
        const lap = await measure(open.get(id) as OpenLane);
        laps.get(id)?.push(lap);
        said.push(`${id} ${Math.round(lap.rate)}`);
      }
      progress(`round ${round} of ${rounds}, ${unit} per second: ${said.join(', ')}`);
    }
  } finally {
    for (const lane of open.values()) await lane.close();
  }
  return laps;
}

export function lapOf(count: number, startedAt: number, cpuFrom: NodeJS.CpuUsage): Lap {
  const { user, system } = process.cpuUsage(cpuFrom);
  return { rate: (count * 1000) / (performance.now() - startedAt), cpuMicros: (user + system) / count };
}

/** Ours of the same kind against this peer; `target` is the least ratio promised. */
export function rowOfPeer(
  peer: Lane,
  laps: Laps,
  {
    target,
    digits,
    ...names
  }: Pick<Row, 'part' | 'id' | 'what'> & { readonly target: number | undefined; readonly digits: number },
): Row {
  const theirs = laps.get(peer.id) as readonly Lap[];
  const ours = laps.get(`troupe-${peer.kind}`) as readonly Lap[];
  const ratios = ours.map(({ rate }, round) => rate / (theirs[round] as Lap).rate);
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  const rateOf = (all: readonly Lap[]): number => rounded(median(all.map(({ rate }) => rate)), 0);
  const cpuOf = (all: readonly Lap[]): number => rounded(median(all.map(({ cpuMicros }) => cpuMicros)), digits);
  return {
    ...names,
    against: `${peer.id} (${peer.setup})`,
    ours: rateOf(ours),
    theirs: rateOf(theirs),
    ratio: rounded(ratio, 2),
    spread: [rounded(least, 2), rounded(most, 2)],
    cpuMicros: { ours: cpuOf(ours), theirs: cpuOf(theirs) },
    ...(target === undefined ? {} : { target, met: ratio >= target }),
  };
}
