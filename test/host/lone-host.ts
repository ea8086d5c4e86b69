import { readdirSync, readFileSync } from 'node:fs';
import { drainAll, liveCount } from '../../src/host/shutdown.js';
import { record, specOf } from './recorder.js';

/** A host in a process of its own, for tests that look at the process from outside. */

const [, , mode] = process.argv;

switch (mode) {
  case 'print': {
    for (const isolation of ['thread', 'process'] as const) {
      const actor = record(specOf(isolation));
      await actor.ready;
      await actor.ask([{ do: 'print' }]);
    }
    await drainAll(5000);
    process.stdout.write('done\n');
    break;
  }
  case 'orphans': {
    const idle = record(specOf('process'));
    const busy = record(specOf('process'));
    const pids = [(await idle.ready).pid, (await busy.ready).pid];
    busy.ask([{ do: 'loop' }]).catch(() => undefined);
    record(specOf('process', { options: { load: 'loop' } }));
    // The third one never tells its pid: it is the child that is neither of the other two.
    let loading: number | undefined;
    while (loading === undefined) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      loading = childrenOf(process.pid).find((pid) => !pids.includes(pid));
    }
    await new Promise((resolve) => setTimeout(resolve, 500));
    process.stdout.write(`${JSON.stringify([...pids, loading])}\n`);
    break;
  }
  case 'native': {
    // Stops three replicas in the middle of their native runs, again and again, and then leaves.
    const isolation = process.argv[3] === 'thread' ? 'thread' : 'process';
    const actor = new URL('./native-actor.js', import.meta.url).href;
    let answered = 0;
    let left = 0;
    for (let round = 0; round < Number(process.argv[4]); round++) {
      const replicas = [0, 1, 2].map((replica) => record(specOf(isolation, { actor, replica })));
      await Promise.all(replicas.map(({ ready }) => ready));
      for (const replica of replicas) {
        replica.ask([1]).then(
          () => answered++,
          () => undefined,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 15));
      left += (await drainAll(10_000)).leftCount;
    }
    process.stdout.write(`${JSON.stringify({ answered, left })}\n`, () => process.exit(0));
    break;
  }
  case 'native-hung': {
    const replica = record(specOf('thread', { actor: new URL('./native-actor.js', import.meta.url).href }));
    await replica.ready;
    replica.ask([1]).catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 15));
    replica.link.kill('hung');
    const { cause } = await replica.exited;
    const live = liveCount();
    const { leftCount } = await drainAll(10_000);
    process.stdout.write(`${JSON.stringify({ cause, live, leftCount })}\n`, () => process.exit(0));
    break;
  }
  default:
    throw new Error(`unknown mode ${mode}`);
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) === parent;
      } catch {
        return false;
      }
    });
}
