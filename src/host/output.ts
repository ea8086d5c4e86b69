import type { Readable } from 'node:stream';

/** Characters of stderr that go into the error of a death. */
export const TAIL_MAX = 2048;

/**
 * Passes what an actor prints on to our stderr, never to stdout, where the results of a run are. Returns what was
 * printed last.
 */
export function forwardOutput(stream: Readable | null): () => string {
  let tail = '';
  stream?.on('data', (chunk: Buffer) => {
    process.stderr.write(chunk);
    tail = (tail + chunk.toString('utf8')).slice(-TAIL_MAX);
  });
  // A pipe of a child that was killed may end with an error; its end is told by 'exit'.
  stream?.on('error', () => undefined);
  return () => tail.trimEnd();
}
