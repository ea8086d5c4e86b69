import test from 'ava';
import { overheadRow } from '../../bench/lane.js';
import { grpcHead } from '../../bench/peers/grpc-tensor.js';
import { readInferMessage } from '../../src/serve/grpc-infer-message.js';

const lap = (rate: number): { rate: number; cpuMicros: number } => ({ rate, cpuMicros: 1_000_000 / rate });

test('an overhead is the median of the ratios of the rounds, and is met up to twice', (t) => {
  const laps = { ours: [lap(100), lap(50), lap(400)], theirs: [lap(200), lap(25), lap(900)] };
  const row = overheadRow('time', 'us', laps, ({ cpuMicros }) => cpuMicros);
  t.like(row, { id: 'lane/bulk-time', ratio: 2, spread: [0.5, 2.25], target: 2, atMost: true, met: true });
  const slower = overheadRow('time', 'us', { ours: [lap(100)], theirs: [lap(201)] }, ({ cpuMicros }) => cpuMicros);
  t.like(slower, { ratio: 2.01, met: false });
});

test('what is sent to gRPC beside the lane is a ModelInferRequest of one record', (t) => {
  const values = Float32Array.from({ length: 64 }, (_, index) => index);
  const message = readInferMessage(Buffer.concat([grpcHead('tensors', 64), Buffer.from(values.buffer)]));
  t.is(message.modelName, 'tensors');
  const [input] = message.decode().inputs;
  t.like(input, { name: 'x', shape: [1, 64] });
  t.deepEqual(input?.data, values);
});
