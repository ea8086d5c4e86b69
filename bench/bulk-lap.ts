import { performance } from 'node:perf_hooks';
import type { Outcome } from 'troupe';
import { VALUES } from './callers.js';
import { type Lap, lapOf } from './laps.js';
import { settle } from './settle.js';

/** Records of one call in bulk, and of one batch of it: so small that the callers' side and the actor's are at work together. */
export const BULK_RECORDS = 1000;
export const BULK_BATCH_SIZE = 250;

/** Asks for the same records, made before, again and again for `laneMs`, and checks every answer. */
export async function bulkLap<Answer>(
  ask: (records: readonly Float32Array[]) => Promise<readonly Answer[]>,
  valueOf: (answer: Answer) => Float32Array,
  laneMs: number,
): Promise<Lap> {
  await settle();
  const records = Array.from({ length: BULK_RECORDS }, (_, index) => new Float32Array(VALUES).fill(index));
  const cpuFrom = process.cpuUsage();
  const startedAt = performance.now();
  const endAt = startedAt + laneMs;
  let count = 0;
  while (performance.now() < endAt) {
    const answers = await ask(records);
    if (answers.length !== BULK_RECORDS) throw new Error(`${answers.length} answers to ${BULK_RECORDS} records`);
    for (let index = 0; index < BULK_RECORDS; index++) {
      const value = valueOf(answers[index] as Answer);
      if (value.length !== VALUES || value[0] !== index) throw new Error(`Record ${index} came back as another`);
    }
    count += BULK_RECORDS;
  }
  return lapOf(count, startedAt, cpuFrom);
}

export function valueOfOutcome(outcome: Outcome<Float32Array>): Float32Array {
  if (!outcome.ok) throw outcome.error;
  return outcome.value;
}
