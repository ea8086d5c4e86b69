import { defineActor } from 'troupe';
import { dense } from './dense.js';

export default defineActor<Float32Array, Float32Array, undefined>({
  predict: (batch: Float32Array[]) => dense(batch),
});
