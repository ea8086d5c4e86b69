import { InferenceSession, Tensor } from 'onnxruntime-node';

/**
 * The bare loop: one session in a process of its own, runs of one size one after another for as long as it is told, each
 * with a batch that is ready. Messages: { model, shape } once, then { size, ms }, answered with { records, ms }.
 */
interface Start {
  readonly model: string;
  /** Of one record. */
  readonly shape: readonly number[];
}
interface Run {
  readonly size: number;
  readonly ms: number;
}

let session: InferenceSession | undefined;
let shape: readonly number[] = [];

process.on('message', (message: Start | Run) => {
  void answer(message);
});

async function answer(message: Start | Run): Promise<void> {
  if ('model' in message) {
    shape = message.shape;
    session = await InferenceSession.create(message.model, {
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      extra: { session: { intra_op: { allow_spinning: '0' } } },
    });
    process.send?.({ records: 0, ms: 0 });
    return;
  }
  const { size, ms } = message;
  const length = shape.reduce((product, dim) => product * dim, size);
  const feeds = { x: new Tensor('float32', new Float32Array(length).fill(0.5), [size, ...shape]) };
  const startedAt = performance.now();
  let records = 0;
  while (performance.now() - startedAt < ms) {
    await session?.run(feeds);
    records += size;
  }
  process.send?.({ records, ms: performance.now() - startedAt });
}
