import { performance } from 'node:perf_hooks';
import { type Lap, lapOf, rowOfPeer, runLaps } from './laps.js';
import type { OpenLane } from './peers/lane.js';
import { tensorLanes } from './peers/tensors.js';
import type { Row } from './report.js';

/**
 * What a large tensor costs: IN_FLIGHT callers, each sending a Float32Array of 224 x 224 x 3 values (602 KB), checking what
 * comes back and sending the next.
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
  const laps = await runLaps(lanes, { rounds, unit: 'tensors', progress, measure: (lane) => measure(lane, laneMs) });
  return lanes
    .filter(({ isOurs }) => isOurs !== true)
    .map((lane) =>
      rowOfPeer(lane, laps, {
        part: 'tensor',
        id: `tensor-${lane.kind}/${lane.id}`,
        what: `tensors per second, ${lane.kind}, 602 KB echo, ${IN_FLIGHT} in flight`,
        target: TARGETS[lane.id],
        digits: 0,
      }),
    );
}

/** Asks for `laneMs`, and checks the ends of every answer. */
async function measure(lane: OpenLane, laneMs: number): Promise<Lap> {
  const cpuFrom = process.cpuUsage();
  const startedAt = performance.now();
  let count = 0;
  const caller = async (last: number): Promise<void> => {
    const input = new Float32Array(VALUES);
    for (let n = 0; performance.now() < startedAt + laneMs; n++) {
      input[0] = n;
      input[VALUES - 1] = last;
      const output = await lane.ask(input);
      if (output.length !== VALUES || output[0] !== n || output[VALUES - 1] !== last)
        throw new Error(`expected ${VALUES} values from ${n} to ${last}, got ${output.length} from ${output[0]}`);
      count++;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, (_, index) => caller(index + 1)));
  return lapOf(count, startedAt, cpuFrom);
}
