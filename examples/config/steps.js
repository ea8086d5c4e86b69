// The functions that troupe.yaml names.
import { readFileSync } from 'node:fs';

const labels = readFileSync(new URL('../../models/filetype/labels.txt', import.meta.url), 'utf8')
  .trimEnd()
  .split('\n');

/** @param {import('troupe').FileRecord} file */
export const hasBytes = (file) => file.size > 0;

/** The one input of the model: uint8 [2048], padded with zeros. */
export function sample(file) {
  const bytes = new Uint8Array(2048);
  bytes.set(file.bytes);
  return { bytes };
}

/** A record and the scores of the model become one result. */
export function label(file, { scores }) {
  const best = scores.indexOf(Math.max(...scores));
  return { path: file.path, type: labels[best] };
}
