import { createHash } from 'node:crypto';
import path from 'node:path';
import { TroupeError } from '../kernel/errors.js';
import { mayShareFiles, type ModelFileInfo, openFile, walkFiles, type Within } from './files.js';

/** What the files of a version are, in one line, and whether they still are that. */

/** `sha256:` and 64 hexadecimal digits in lower case. */
export const HASH_PATTERN = /^sha256:[0-9a-f]{64}$/;

const CHUNK_BYTES = 1024 * 1024;

/**
 * `sha256:…` over path, length and bytes of each file, in the order of their paths: equal for equal trees on any machine.
 * Reads every byte. Rejects with MODEL_NOT_FOUND or MODEL_REFUSED.
 */
export async function contentHash(within: Within, files: readonly ModelFileInfo[]): Promise<string> {
  const hash = createHash('sha256').update('troupe-model-1\n');
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  for (const { path: name } of files) {
    const file = await openFile(within, name);
    try {
      // Lengths before contents: no two trees give the same bytes.
      hash.update(`${Buffer.byteLength(name)}:${name}:${file.bytes}\n`);
      for (let position = 0; position < file.bytes; position += CHUNK_BYTES) {
        const part = chunk.subarray(0, Math.min(CHUNK_BYTES, file.bytes - position));
        await file.read(part, position);
        hash.update(part);
      }
    } finally {
      await file.close();
    }
  }
  return `sha256:${hash.digest('hex')}`;
}

/** `modelDir`: `<root>/<model>/<version>`. Rejects with HASH_MISMATCH where its files are not those of the pinned hash. */
export async function checkContentHash(modelDir: string, pinned: string): Promise<void> {
  const within = { dir: modelDir, mayShare: mayShareFiles(path.dirname(path.dirname(modelDir))) };
  const found = await contentHash(within, await walkFiles(within));
  if (found === pinned) return;
  throw new TroupeError(
    'HASH_MISMATCH',
    `The files of ${modelDir} are not those that models.hashes pins: expected ${pinned}, found ${found}`,
  );
}
