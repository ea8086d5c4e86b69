import { connectControl, createSystem, type RolloutNotice, silentLog } from 'troupe';
import { children } from './family.js';

/** swapping-host.js <config>: runs a system with a pool `p`, and applies its file when it is told to. */
export type SwappingHostWord =
  | { readonly kind: 'up'; readonly versions: readonly (string | undefined)[]; readonly pids: number[] }
  | { readonly kind: 'step'; readonly step: RolloutNotice['step']; readonly pids: number[] };

const say = (word: SwappingHostWord): void => void process.send?.(word);
const pids = (): number[] => children().map(({ pid }) => pid);

const system = await createSystem({ config: process.argv[2] ?? '', log: silentLog });
const pool = system.get('p');
pool?.on('rollout', ({ step }) => say({ kind: 'step', step, pids: pids() }));
process.on('message', () => {
  void (async () => {
    await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
    await control.apply(undefined, { bakeMs: 200 });
  })();
});
process.on('SIGTERM', () => void system.stop().then(() => process.exit(0)));
say({ kind: 'up', versions: pool?.stats().replicas.map(({ version }) => version) ?? [], pids: pids() });
