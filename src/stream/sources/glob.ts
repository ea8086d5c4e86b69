import picomatch from 'picomatch';

/** The door to picomatch. Paths are relative and use `/`. */
export type PathTest = (path: string) => boolean;

export interface GlobParts {
  /** The directory before the first wildcard; '' for the current one. */
  readonly base: string;
  /** Tests a path relative to `base`. */
  readonly test: PathTest;
}

/** Undefined where the text has no wildcard. */
export function parseGlob(text: string): GlobParts | undefined {
  const { isGlob, base, glob } = picomatch.scan(text);
  return isGlob ? { base, test: picomatch(glob) } : undefined;
}

/** True for what any of the patterns matches, files with a leading dot included. */
export function anyOf(patterns: readonly string[]): PathTest {
  return patterns.length === 0 ? () => false : picomatch([...patterns], { dot: true });
}
