/** A source of chance in [0, 1). Cores take it as an argument, so a seed replays a run. */
export type Random = () => number;

/** The process's own chance; not for secrets. */
export const systemRandom: Random = Math.random;

/** A seeded generator (mulberry32, Tommy Ettinger's public-domain design): same seed, same numbers, on every machine. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
