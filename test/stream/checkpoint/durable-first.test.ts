import test from 'ava';
import type { Sink } from '../../../src/stream/sink.js';
import { Stamped } from '../../../src/stream/envelope.js';
import type { Acknowledgement, Source } from '../../../src/stream/source.js';
import { runIn, stream } from '../../../src/stream/pipeline.js';
import { MemoryDisk } from '../../../src/testing/memory-disk.js';
import { VirtualClock } from '../../../src/testing/virtual-clock.js';
import { alone } from './stores.js';

test('what no checkpoint has made durable is neither committed nor acknowledged', async (t) => {
  const disk = new MemoryDisk();
  let mayWrite = true;
  disk.onOperation = ({ kind }) => (kind === 'create' && !mayWrite ? new Error('the disk is full') : undefined);
  const acknowledged: unknown[] = [];
  const committed: unknown[] = [];
  let given = 0;
  const source: Source<number> = {
    name: 'tokens',
    open: () => ({
      read: () => (given < 10 ? [new Stamped(given, { token: given++ })] : undefined),
      acknowledge: (outcomes: readonly Acknowledgement[]) => {
        acknowledged.push(...outcomes.map(({ token }) => token));
      },
      close: () => undefined,
    }),
  };
  let prepared = 0;
  const sink: Sink<number> = {
    name: 'staged',
    write: () => {
      // The checkpoint that a run begins with is good; none after it is.
      mayWrite = false;
    },
    prepare: () => ++prepared,
    commit: (state) => {
      committed.push(state);
    },
    close: () => undefined,
  };
  const world = { disk, clock: new VirtualClock(), processes: alone };
  const report = await runIn(world, stream(source), sink, { checkpoint: { dir: '/c', onFailure: 'continue' } });
  t.is(report.results, 10);
  t.deepEqual({ prepared, committed, acknowledged }, { prepared: 2, committed: [1], acknowledged: [] });
  t.is(report.checkpoints?.failed, 1);
});
