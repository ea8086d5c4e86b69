import test from 'ava';
import type { Link, StartLink } from '../../src/host/link.js';
import { startLink } from '../../src/host/start-link.js';
import { deferred } from '../../src/kernel/deferred.js';
import type { StopReport } from '../../src/actor/pool-life.js';
import { virtualPool } from './virtual-pool.js';

test('a listener that hears of a crash may stop the pool: the replica that is started in its place ends too', async (t) => {
  const links: Link[] = [];
  let endCount = 0;
  // The first replica's end is told as a crash.
  const start: StartLink = (spec, events) => {
    const isFirst = links.length === 0;
    const link = startLink(spec, {
      ready: events.ready.bind(events),
      reply: events.reply.bind(events),
      failed: events.failed.bind(events),
      stale: events.stale.bind(events),
      exited: (death) => {
        endCount++;
        events.exited(isFirst ? { ...death, cause: 'crash' } : death);
      },
    });
    links.push(link);
    return link;
  };
  const { pool } = await virtualPool({}, start);
  const report = deferred<StopReport>();
  pool.on('died', () => report.resolve(pool.stop()));
  links[0]?.stop({ now: true });
  t.deepEqual(await report.promise, { drained: 0, rejected: 0 });
  t.is(pool.stats().state, 'stopped');
  t.is(links.length, 2, 'it was being started already');
  t.is(endCount, 2);
});
