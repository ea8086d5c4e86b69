import type { ModelName, ModelServer } from './peers/servers.js';
import type { Row } from './report.js';
import { median, rounded, spread } from './statistics.js';

export interface MeasuredModel {
  readonly name: ModelName;
  readonly what: string;
}

/** What one server did in one round with one model. */
export interface ServerLap {
  readonly rate: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuMicros: number;
}

/** Requests per second, and the times of half and of nearly all requests, which are to be the smaller ones. */
export function rowsOf(
  server: Pick<ModelServer, 'id' | 'name' | 'setup' | 'target'>,
  { name, what }: MeasuredModel,
  ours: readonly ServerLap[],
  theirs: readonly ServerLap[],
): Row[] {
  const row = (id: string, words: string, valueOf: (lap: ServerLap) => number): Row => {
    const ratios = ours.map((lap, round) => valueOf(lap) / valueOf(theirs[round] as ServerLap));
    const [least, most] = spread(ratios);
    return {
      part: 'servers',
      id: `servers/${server.id}-${name}-${id}`,
      what: `${words}, ${what}`,
      against: `${server.name} (${server.setup})`,
      ours: rounded(median(ours.map(valueOf)), 2),
      theirs: rounded(median(theirs.map(valueOf)), 2),
      ratio: rounded(median(ratios), 3),
      spread: [rounded(least, 3), rounded(most, 3)],
    };
  };
  const cpuOf = (laps: readonly ServerLap[]): number => rounded(median(laps.map(({ cpuMicros }) => cpuMicros)), 0);
  const rate = row('rate', 'requests/s', (lap) => lap.rate);
  const times = [
    row('p50', 'ms of a request, p50', (lap) => lap.p50Ms),
    row('p99', 'ms of a request, p99', (lap) => lap.p99Ms),
  ];
  const { target = 1 } = server;
  return [
    { ...rate, cpuMicros: { ours: cpuOf(ours), theirs: cpuOf(theirs) }, target, met: (rate.ratio as number) >= target },
    ...times.map((one): Row => ({ ...one, target: 1, atMost: true, met: (one.ratio as number) < 1 })),
  ];
}
