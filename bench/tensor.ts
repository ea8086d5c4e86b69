import { performance } from 'node:perf_hooks';
import type { OpenLane } from './peers/lane.js';
import { type TensorLane, tensorLanes } from './peers/tensors.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

/**
 * What a large tensor costs: IN_FLIGHT callers, each sending a Float32Array of 224 x 224 x 3 values (602 KB), checking what
 * comes back and sending the next. Lanes are interleaved as in the part `ask`.
 */
const VALUES = 224 * 224 * 3;
const IN_FLIGHT = 2;

export interface TensorOptions {
  readonly rounds: number;
  /** How long one lane runs in one round. */
  readonly laneMs: number;
  readonly progress: (line: string) => void;
}

/** Least ratio promised, by peer. */
const TARGETS: Readonly<Record<string, number>> = { transfer: 0.8, socket: 0.8, fork: 3 };

export async function benchTensor({ rounds, laneMs, progress }: TensorOptions): Promise<Row[]> {
  const lanes = tensorLanes(VALUES, IN_FLIGHT);
  const open = new Map<string, OpenLane>();
  const laps = new Map<string, Lap[]>(lanes.map(({ id }) => [id, []]));
  try {
    for (const lane of lanes) {
      progress(`${lane.id}: ${lane.setup}`);
      open.set(lane.id, await lane.open());
    }
    for (const { id } of lanes) await measure(open.get(id) as OpenLane, laneMs);
    for (let round = 1; round <= rounds; round++) {
      const said: string[] = [];
      for (const { id } of lanes) {
        const lap = await measure(open.get(id) as OpenLane, laneMs);
        laps.get(id)?.push(lap);
        said.push(`${id} ${Math.round(lap.rate)}`);
      }
      progress(`round ${round} of ${rounds}, tensors per second: ${said.join(', ')}`);
    }
  } finally {
    for (const lane of open.values()) await lane.close();
  }
  return lanes.filter(({ isOurs }) => isOurs !== true).map((lane) => rowOf(lane, laps));
}

interface Lap {
  /** Tensors per second. */
  readonly rate: number;
  /** CPU time of this process per tensor in microseconds. */
  readonly cpuMicros: number;
}

function rowOf(lane: TensorLane, laps: ReadonlyMap<string, readonly Lap[]>): Row {
  const theirs = laps.get(lane.id) as readonly Lap[];
  const ours = laps.get(`troupe-${lane.kind}`) as readonly Lap[];
  const ratios = ours.map(({ rate }, round) => rate / (theirs[round] as Lap).rate);
  const ratio = median(ratios);
  const [least, most] = spread(ratios);
  const target = TARGETS[lane.id];
  return {
    part: 'tensor',
    id: `tensor-${lane.kind}/${lane.id}`,
    what: `tensors per second, ${lane.kind}, 602 KB echo, ${IN_FLIGHT} in flight`,
    against: `${lane.id} (${lane.setup})`,
    ours: rounded(median(ours.map(({ rate }) => rate)), 0),
    theirs: rounded(median(theirs.map(({ rate }) => rate)), 0),
    ratio: rounded(ratio, 2),
    spread: [rounded(least, 2), rounded(most, 2)],
    cpuMicros: {
      ours: rounded(median(ours.map(({ cpuMicros }) => cpuMicros)), 0),
      theirs: rounded(median(theirs.map(({ cpuMicros }) => cpuMicros)), 0),
    },
    ...(target === undefined ? {} : { target, met: ratio >= target }),
  };
}

/** Asks for `laneMs`, and checks the ends of every answer. */
async function measure(lane: OpenLane, laneMs: number): Promise<Lap> {
  const cpuFrom = process.cpuUsage();
  const startedAt = performance.now();
  const endAt = startedAt + laneMs;
  let count = 0;
  const caller = async (first: number): Promise<void> => {
    const input = new Float32Array(VALUES);
    for (let n = 0; performance.now() < endAt; n++) {
      input[0] = n;
      input[VALUES - 1] = first;
      const output = await lane.ask(input);
      if (output.length !== VALUES || output[0] !== n || output[VALUES - 1] !== first)
        throw new Error(`expected ${VALUES} values from ${n} to ${first}, got ${output.length} from ${output[0]}`);
      count++;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, (_, index) => caller(index + 1)));
  const { user, system } = process.cpuUsage(cpuFrom);
  return { rate: (count * 1000) / (performance.now() - startedAt), cpuMicros: (user + system) / count };
}
