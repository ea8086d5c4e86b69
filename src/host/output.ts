import type { Readable } from 'node:stream';

/** Characters that are kept: V8 prints a native stack of some 4 KiB after it said that the heap is exhausted. */
const TAIL_MAX = 8192;

/**
 * Passes what an actor prints on to our stderr, never to stdout, where the results of a run are. Returns what was
 * printed last. It is passed on as it is, colours and control characters included: what a model prints is code's word, not
 * data's, and whoever runs it chose to trust it.
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
