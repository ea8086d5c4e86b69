import { defineActor } from 'troupe';

/** Some milliseconds of arithmetic over a large tensor, and a small answer. */
export default defineActor<Float32Array, number, undefined>({
  predict: (batch: Float32Array[]) => batch.map(sumOf),
  handsOver: true,
});

function sumOf(values: Float32Array): number {
  let sum = 0;
  for (let pass = 1; pass <= 4; pass++) {
    for (let i = 0; i < values.length; i++) sum += Math.sqrt((values[i] as number) * pass);
  }
  return sum;
}
