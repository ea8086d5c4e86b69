import { type Columns, defineActor } from 'troupe';

/** Counts from x down: one answer for each number. */
export default defineActor({
  signature: {
    inputs: [{ name: 'x', dtype: 'float32', shape: [1] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: [1] }],
    decoupled: true,
  },
  predict: ({ columns }: Columns) =>
    Array.from(columns['x']?.data as Float32Array).map(async function* (from) {
      for (let n = from; n > 0; n--) yield { y: Float32Array.of(n) };
    }),
});
