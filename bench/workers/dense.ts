/** A small real function: a dense layer without bias. Per record a matrix of 64 x 64 times a vector of 64 (4,096 products). */
export const WIDTH = 64;

/** Row by row; values that do not depend on chance, so that both sides hold the same. */
const weights = Float32Array.from({ length: WIDTH * WIDTH }, (_, index) => ((index * 31) % 17) / 17 - 0.5);

export function dense(batch: readonly Float32Array[]): Float32Array[] {
  const outputs = new Array<Float32Array>(batch.length);
  for (let index = 0; index < batch.length; index++) {
    const input = batch[index] as Float32Array;
    const output = new Float32Array(WIDTH);
    for (let row = 0, at = 0; row < WIDTH; row++) {
      let sum = 0;
      for (let column = 0; column < WIDTH; column++, at++) sum += (weights[at] as number) * (input[column] as number);
      output[row] = sum;
    }
    outputs[index] = output;
  }
  return outputs;
}
