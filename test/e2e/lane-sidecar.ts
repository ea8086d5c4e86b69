/** A process that owns a pool and serves it at the lane of its argument, until it is killed or told to go. */
import { createSystem } from '../../src/create-system.js';
import { silentLog } from '../../src/telemetry/log.js';

const [lane = ''] = process.argv.slice(2);
const system = createSystem({ log: silentLog });
process.on('SIGTERM', () => void system.stop().then(() => process.exit(0)));
const actor = new URL('./lane-actor.js', import.meta.url).href;
const pool = await system.spawn('square', { actor, isolation: 'thread', replicas: 2, batching: { maxSize: 8 } });
await system.serve({ lane });
process.stdout.write('up\n');
process.on('SIGUSR2', () => process.stdout.write(`held ${pool.stats().held}\n`));
