/** How much the reliability rows do: little with every commit, the full figure of the scorecard with `npm run nightly`. */
export interface Sizes {
  /** A2: for how long, and the span of time between two kills, drawn at random; the pause of a caller between two asks. */
  readonly a2: { readonly seconds: number; readonly killsMin: number; readonly betweenMs: readonly [number, number] };
  readonly a2CallerPauseMs: number;
  /** A2-idle: kills of a replica that has no work. */
  readonly idleKills: number;
  /** B1-memory: swaps until code is compiled and the heaps have their sizes, and those that count, whole fives. */
  readonly memorySwaps: { readonly warm: number; readonly counted: number };
  /** B2: how often the whole list of broken versions is gone through, after once. */
  readonly b2Rounds: number;
  /** B4: what each of 32 callers does, by where the replicas live. */
  readonly b4Calls: { readonly inline: number; readonly thread: number; readonly models: number };
  /** B5: how often a side is killed at each step. */
  readonly b5Rounds: number;
  /** D3: records per isolation. */
  readonly d3Records: number;
  /** F1: one of so many offsets. */
  readonly f1Stride: number;
  /** F2: of each share. */
  readonly f2Records: number;
  /** F5: how often every replica is killed. */
  readonly f5Rounds: number;
  /** G3: shapes whose memory is measured. */
  readonly g3Shapes: number;
  /** G5: floods of a million chunks, and rounds of bombs. */
  readonly g5Floods: number;
  /** G6: slow connections at once, and requests of others in each round beside them. */
  readonly g6Slow: number;
  readonly g6Requests: number;
  /** G6: frames of each flood over HTTP/2; requests of h2load, and for how long slowhttptest goes on. */
  readonly g6Frames: number;
  readonly g6Flood: number;
  readonly g6Seconds: number;
  /** H2: opened while it is replaced. */
  readonly h2Races: number;
  /** H3: changed models; H4: texts of each of the three generators. */
  readonly h3Runs: number;
  readonly h4Runs: number;
  /** H5: applied files. */
  readonly h5Reloads: number;
  /** I7: distinct names, keys, methods and error texts of each kind. */
  readonly i7Names: number;
  /** K3: replicas that die at once. */
  readonly k3Replicas: number;
  /** K5: changes of the number of replicas. */
  readonly k5Resizes: { readonly thread: number; readonly process: number };
  /** G1, G2, G4: inputs of each property of the codec of the Open Inference Protocol. */
  readonly oipRuns: number;
  /** The kills of clients and servers of a lane: records of the job, and kills. */
  readonly laneRecords: number;
  readonly laneKills: number;
  /** Orders of events of a lane under virtual time, for each property. */
  readonly laneRuns: number;
  /** G7: inputs of each of the two properties of the messages of the framed lane. */
  readonly g7Runs: number;
  /** K6: rounds of five replicas. */
  readonly k6ThreadRounds: number;
  readonly k6ProcessRounds: number;
  /** Whether a bound on a p99 is asserted as such; else of the best part, which holds on a busy machine too. */
  readonly isQuiet: boolean;
}

const QUICK: Sizes = {
  a2: { seconds: 10, killsMin: 2, betweenMs: [50, 300] },
  a2CallerPauseMs: 0,
  idleKills: 2,
  memorySwaps: { warm: 0, counted: 10 },
  b2Rounds: 0,
  b4Calls: { inline: 16, thread: 6, models: 24 },
  b5Rounds: 1,
  d3Records: 6000,
  f1Stride: 16,
  f2Records: 300,
  f5Rounds: 1,
  g3Shapes: 100,
  g5Floods: 3,
  g6Slow: 90,
  g6Requests: 40,
  g6Frames: 3000,
  g6Flood: 1000,
  g6Seconds: 2,
  h2Races: 20_000,
  h3Runs: 5000,
  h4Runs: 500,
  h5Reloads: 40,
  i7Names: 400,
  k3Replicas: 6,
  k5Resizes: { thread: 16, process: 4 },
  oipRuns: 300,
  laneRecords: 1500,
  laneKills: 2,
  laneRuns: 1000,
  g7Runs: 1000,
  k6ThreadRounds: 4,
  k6ProcessRounds: 2,
  isQuiet: false,
};

const FULL: Sizes = {
  a2: { seconds: 600, killsMin: 500, betweenMs: [500, 1500] },
  a2CallerPauseMs: 10,
  idleKills: 100,
  memorySwaps: { warm: 20, counted: 100 },
  b2Rounds: 10,
  b4Calls: { inline: 1024, thread: 1024, models: 1024 },
  b5Rounds: 10,
  d3Records: 1_000_000,
  f1Stride: 1,
  f2Records: 5000,
  f5Rounds: 50,
  g3Shapes: 10_000,
  g5Floods: 100,
  g6Slow: 1000,
  g6Requests: 2000,
  g6Frames: 100_000,
  g6Flood: 200_000,
  g6Seconds: 30,
  h2Races: 100_000,
  h3Runs: 100_000,
  h4Runs: 100_000,
  h5Reloads: 1000,
  i7Names: 100_000,
  k3Replicas: 64,
  k5Resizes: { thread: 1000, process: 100 },
  laneRecords: 60_000,
  laneKills: 25,
  laneRuns: 100_000,
  g7Runs: 6_000_000,
  oipRuns: 1_000_000,
  k6ThreadRounds: 6,
  k6ProcessRounds: 6,
  isQuiet: true,
};

export const isFull = process.env['TROUPE_SIZE'] === 'full';
export const sizes: Sizes = isFull ? FULL : QUICK;
/** Of whatever the rows draw by chance. */
export const seed = Number(process.env['TROUPE_SEED'] ?? 1);

/** For properties: so many inputs, at full size by the seed of the run and other ones with every commit. */
export function fuzzOf(numRuns: number): { readonly numRuns: number; readonly seed?: number } {
  return isFull ? { numRuns, seed } : { numRuns };
}
