/** How much the reliability rows do: little with every commit, the full figure of the scorecard with `npm run nightly`. */
export interface Sizes {
  /** A2: for how long, and the span of time between two kills, drawn at random; the pause of a caller between two asks. */
  readonly a2: { readonly seconds: number; readonly killsMin: number; readonly betweenMs: readonly [number, number] };
  readonly a2CallerPauseMs: number;
  /** B2: how often the whole list of broken versions is gone through, after once. */
  readonly b2Rounds: number;
  /** B4: what each of 32 callers does, by where the replicas live. */
  readonly b4Calls: { readonly inline: number; readonly thread: number; readonly models: number };
  /** B5: how often a side is killed at each step. */
  readonly b5Rounds: number;
  /** D3: records per isolation. */
  readonly d3Records: number;
  /** F5: how often every replica is killed. */
  readonly f5Rounds: number;
  /** H2: opened while it is replaced. */
  readonly h2Races: number;
  /** H5: applied files. */
  readonly h5Reloads: number;
  /** I7: distinct names, keys, methods and error texts of each kind. */
  readonly i7Names: number;
  /** K3: replicas that die at once. */
  readonly k3Replicas: number;
  /** K5: changes of the number of replicas. */
  readonly k5Resizes: { readonly thread: number; readonly process: number };
  /** G1 to G4: inputs of each property of the codec of the Open Inference Protocol. */
  readonly oipRuns: number;
  /** K6: rounds of five replicas. */
  readonly k6ThreadRounds: number;
  readonly k6ProcessRounds: number;
  /** Whether a bound on a p99 is asserted as such; else of the best part, which holds on a busy machine too. */
  readonly isQuiet: boolean;
}

const QUICK: Sizes = {
  a2: { seconds: 10, killsMin: 2, betweenMs: [50, 300] },
  a2CallerPauseMs: 0,
  b2Rounds: 0,
  b4Calls: { inline: 16, thread: 6, models: 24 },
  b5Rounds: 1,
  d3Records: 6000,
  f5Rounds: 1,
  h2Races: 20_000,
  h5Reloads: 40,
  i7Names: 400,
  k3Replicas: 6,
  k5Resizes: { thread: 16, process: 4 },
  oipRuns: 300,
  k6ThreadRounds: 4,
  k6ProcessRounds: 2,
  isQuiet: false,
};

const FULL: Sizes = {
  a2: { seconds: 600, killsMin: 500, betweenMs: [500, 1500] },
  a2CallerPauseMs: 10,
  b2Rounds: 10,
  b4Calls: { inline: 1024, thread: 1024, models: 1024 },
  b5Rounds: 10,
  d3Records: 1_000_000,
  f5Rounds: 50,
  h2Races: 100_000,
  h5Reloads: 1000,
  i7Names: 100_000,
  k3Replicas: 64,
  k5Resizes: { thread: 1000, process: 100 },
  oipRuns: 100_000, // As many as a nightly row without figures of its own is said to have had.
  k6ThreadRounds: 6,
  k6ProcessRounds: 6,
  isQuiet: true,
};

export const isFull = process.env['TROUPE_SIZE'] === 'full';
export const sizes: Sizes = isFull ? FULL : QUICK;
/** Of whatever the rows draw by chance. */
export const seed = Number(process.env['TROUPE_SEED'] ?? 1);
