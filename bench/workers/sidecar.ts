import { createSystem, silentLog } from 'troupe';
import echo from './echo-actor.js';
import noop from './tensor-noop.js';

/**
 * A process that serves two pools over the lane of its first argument and over gRPC, whose port it tells: `tensors` gives
 * back the tensor x as y, in batches of the second argument; `echo` gives back records as they are, in batches of the
 * third. Both models run in this process itself.
 */
const [lane = '', tensorBatch, echoBatch] = process.argv.slice(2);
process.on('disconnect', () => process.exit());
const system = createSystem({ log: silentLog });
await system.spawn('tensors', { actor: noop, batching: { maxSize: Number(tensorBatch) } });
await system.spawn('echo', { actor: echo, batching: { maxSize: Number(echoBatch) } });
const { addresses } = await system.serve({ lane, grpc: { port: 0 } });
process.send?.(addresses.find(({ port }) => port > 0)?.port);
