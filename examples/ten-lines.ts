/** An own actor, spawned from code, asked, supervised and stopped: node dist/examples/ten-lines.js */
import { createSystem } from 'troupe';

await using system = createSystem();
const actor = new URL('./actors/shout.js', import.meta.url).href;
const shout = await system.spawn<string, string>('shout', { actor, replicas: 2, options: { suffix: '!' } });

console.log(await shout.ask('hello'));
const outcomes = await shout.askMany(['one', 'boom', 'two']);
for (const outcome of outcomes)
  console.log(outcome.ok ? outcome.value : `${outcome.error.code} (${outcome.error.ran})`);

const { restarts, batches, meanBatchSize } = shout.stats();
console.log({ restarted: restarts > 0, batched: batches > 0 && meanBatchSize >= 1 });
