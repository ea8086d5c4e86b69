import type { Config } from './schema.js';

/** A path that a pipeline writes to and nobody else may touch: two would destroy each other's output or checkpoints. */
interface Claim {
  /** Absolute. */
  readonly path: string;
  readonly what: string;
  readonly pipeline: string;
  /** In the config. */
  readonly at: readonly PropertyKey[];
}

export interface Conflict {
  /** Of the later one. */
  readonly at: readonly PropertyKey[];
  readonly text: string;
}

/** Every path that is claimed a second time. `identityOf`: one name for one file; undefined for what may be shared. */
export function conflictsOf(
  pipelines: Config['pipelines'],
  identityOf: (path: string) => string | undefined,
): readonly Conflict[] {
  const conflicts: Conflict[] = [];
  const claimed = new Map<string, Claim>();
  // Many may read a file, so long as none of them writes to it.
  const read = new Map<string, Claim>();
  for (const claim of sourcesOf(pipelines)) {
    const identity = identityOf(claim.path);
    if (identity !== undefined && !read.has(identity)) read.set(identity, claim);
  }
  for (const claim of claimsOf(pipelines)) {
    const identity = identityOf(claim.path);
    if (identity === undefined) continue;
    const first = claimed.get(identity) ?? read.get(identity);
    if (first === undefined) claimed.set(identity, claim);
    else conflicts.push({ at: claim.at, text: `expected a path of its own; ${wordsOf(first, claim)}` });
  }
  return conflicts;
}

function* sourcesOf(pipelines: Config['pipelines']): Generator<Claim> {
  for (const [pipeline, { source }] of Object.entries(pipelines)) {
    if (source.file === undefined) continue;
    yield { path: source.file, what: 'source file', pipeline, at: ['pipelines', pipeline, 'source', 'file'] };
  }
}

function* claimsOf(pipelines: Config['pipelines']): Generator<Claim> {
  for (const [pipeline, { sink, deadLetters, checkpoint }] of Object.entries(pipelines)) {
    const at = ['pipelines', pipeline];
    if (sink.file !== undefined) yield { path: sink.file, what: 'sink file', pipeline, at: [...at, 'sink', 'file'] };
    if (deadLetters !== undefined) {
      yield { path: deadLetters.file, what: 'dead-letter file', pipeline, at: [...at, 'deadLetters', 'file'] };
    }
    if (checkpoint !== undefined) {
      yield { path: checkpoint.dir, what: 'checkpoint directory', pipeline, at: [...at, 'checkpoint', 'dir'] };
    }
  }
}

/** Without the path, which may come from a variable. */
function wordsOf(first: Claim, second: Claim): string {
  const other = first.pipeline === second.pipeline ? 'the same pipeline' : `pipeline ${JSON.stringify(first.pipeline)}`;
  return (
    `it is already the ${first.what} of ${other}, and pipeline ${JSON.stringify(second.pipeline)} cannot have it as ` +
    `its ${second.what}`
  );
}
