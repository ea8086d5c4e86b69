import { InferenceSession, Tensor } from 'onnxruntime-node';
import { defineActor } from '../../src/actor/define-actor.js';
import { slowModel } from './slow-model.js';

const SIZE = 256;

/** A native engine whose run cannot be interrupted: terminating its thread, or leaving the process, aborts everything. */
export default defineActor({
  native: true,
  load: async () =>
    InferenceSession.create(slowModel(SIZE, 40), {
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      graphOptimizationLevel: 'disabled',
    }),
  async predict(batch: unknown[], { state }: { state: InferenceSession }) {
    const x = new Tensor('float32', new Float32Array(SIZE * SIZE).fill(1 / SIZE), [SIZE, SIZE]);
    const { y } = await state.run({ x });
    return batch.map(() => y?.data[0]);
  },
  unload: (session) => session.release(),
});
