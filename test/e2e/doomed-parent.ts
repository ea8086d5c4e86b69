import { createSystem } from '../../src/actor/system.js';
import { silentLog } from '../../src/telemetry/log.js';
import { FAULTY_URL, linesOf, until } from './faulty-pool.js';

/** Has one child idle, one busy in a loop and one loading in a loop, says so, and waits to be killed. */
const [journal = ''] = process.argv.slice(2);
const system = createSystem({ log: silentLog });
const common = { actor: FAULTY_URL, isolation: 'process' } as const;
await system.spawn('idle', { ...common, options: { journal } });
const busy = await system.spawn('busy', { ...common, options: { journal } });
busy.tell({ id: 1, do: 'loop' });
system.spawn('loading', { ...common, options: { journal, load: 'loop' } }).catch((error: unknown) => {
  throw error;
});
await until('busy and loading', () => linesOf(journal).length === 4);
process.send?.('ready');
