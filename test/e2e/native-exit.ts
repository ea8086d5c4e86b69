import { createSystem } from '../../src/actor/system.js';
import { silentLog } from '../../src/telemetry/log.js';

/** native-exit.js <model> <rounds>: stops at once, in each round, while onnxruntime runs in five threads of this process; then exits. */
const [model = '', rounds = '4'] = process.argv.slice(2);
const outcomes: Record<string, number> = {};
let inFlight = 0;
let stopped = 0;
for (let round = 0; round < Number(rounds); round++) {
  const system = createSystem({ log: silentLog });
  const pool = await system.spawn<{ x: Float32Array }, unknown>('net', {
    actor: 'onnx',
    model,
    isolation: 'thread',
    replicas: 5,
    batching: { maxSize: 64 },
    mailbox: { capacity: 4096 },
    options: { warmUp: false, intraOpThreads: 1 },
  });
  pool.on('died', ({ death }) => {
    if (death.cause === 'stopped') stopped++;
  });
  const running = pool.askMany(Array.from({ length: 1024 }, () => ({ x: new Float32Array(768).fill(1) })));
  while (pool.stats().replicas.some(({ inFlightBatches }) => inFlightBatches === 0)) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  inFlight += pool.stats().replicas.reduce((sum, replica) => sum + replica.inFlightBatches, 0);
  await system.stop({ timeoutMs: 0 });
  for (const outcome of await running) {
    const code = outcome.ok ? 'ok' : outcome.error.code;
    outcomes[code] = (outcomes[code] ?? 0) + 1;
  }
}
process.stdout.write(JSON.stringify({ stopped, inFlight, outcomes }), () => process.exit(0));
