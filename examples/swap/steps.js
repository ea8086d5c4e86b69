// The functions that troupe.yaml names.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

const beside = (name) => readFileSync(new URL(`../../models/filetype/${name}`, import.meta.url), 'utf8');
const labels = beside('labels.txt').trimEnd().split('\n');
/** The type that an extension promises. */
const promised = new Map(Object.entries(JSON.parse(beside('extensions.json'))));
/** Of each version: how many files had an extension that promises a type, and how many of these it recognised as that. */
const tallies = new Map();

/** The model looks at the beginning of a file and at its end. */
export function read(path) {
  const all = readFileSync(path);
  return { path, bytes: all.length <= 2048 ? all : Buffer.concat([all.subarray(0, 1536), all.subarray(-512)]) };
}

/** The one input of the model: uint8 [2048], padded with zeros. */
export function sample({ bytes: some }) {
  const bytes = new Uint8Array(2048);
  bytes.set(some);
  return { bytes };
}

/** A file and the scores of the model become one result, with the agreement of the version up to here. */
export function label({ path }, { scores }, version) {
  const type = labels[scores.indexOf(Math.max(...scores))];
  const tally = tallies.get(version) ?? { seen: 0, agreed: 0 };
  tallies.set(version, tally);
  const expected = promised.get(/(\.[^.]*)?$/.exec(basename(path).toLowerCase())[0]);
  if (expected !== undefined) {
    tally.seen += 1;
    if (expected === type) tally.agreed += 1;
  }
  return { path, type, version, agreement: Number((tally.agreed / Math.max(1, tally.seen)).toFixed(3)) };
}
