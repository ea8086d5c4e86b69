import test from 'ava';
import type { Death, Description, Link, LinkEvents, ReplicaSpec, StartLink } from '../../src/host/link.js';
import { drainAll } from '../../src/host/shutdown.js';
import { defaultStartsAtOnce, inTurn, StartTurns } from '../../src/host/start-turns.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { specOf } from './recorder.js';

const DESCRIPTION = { signature: undefined, methods: [], repeatable: true, pid: 1 } satisfies Description;

/** Links that start when the test says so. */
function rig(atOnce: number) {
  const clock = new VirtualClock();
  const begun: { readonly spec: ReplicaSpec; readonly events: LinkEvents; readonly calls: string[] }[] = [];
  const told: string[] = [];
  const startLink: StartLink = (spec, events) => {
    const calls: string[] = [];
    begun.push({ spec, events, calls });
    return {
      spec,
      send: (id) => void calls.push(`send ${id}`),
      abandon: (id) => void calls.push(`abandon ${id}`),
      call: (method) => Promise.resolve(method),
      loadModel: () => Promise.reject(new Error('none')),
      unloadModel: () => Promise.resolve(),
      stop: ({ now = false } = {}) => void calls.push(`stop ${now}`),
      kill: (reason) => void calls.push(`kill ${reason}`),
    };
  };
  const start = inTurn(startLink, new StartTurns(atOnce, clock));
  const open = (replica: number, changes: Partial<ReplicaSpec> = {}): Link =>
    start(specOf('process', { replica, ...changes }), {
      ready: () => void told.push(`ready ${replica}`),
      reply: () => undefined,
      failed: () => undefined,
      exited: ({ cause }: Death) => void told.push(`exited ${replica} ${cause}`),
      stale: () => undefined,
    });
  const replicas = (): number[] => begun.map(({ spec }) => spec.replica);
  return { clock, begun, told, open, replicas };
}

test('replicas start in turn, each as soon as one before it is ready or has ended', async (t) => {
  const { begun, told, open, replicas } = rig(2);
  const links = [0, 1, 2, 3].map((replica) => open(replica));
  t.deepEqual(replicas(), [0, 1]);
  t.deepEqual(
    links.map(({ isWaiting = false }) => isWaiting),
    [false, false, true, true],
  );
  begun[0]?.events.ready(DESCRIPTION);
  t.deepEqual(replicas(), [0, 1, 2]);
  begun[0]?.events.exited({ cause: 'crash' });
  t.deepEqual(replicas(), [0, 1, 2], 'the end of one that was ready is the turn of nobody');
  begun[1]?.events.exited({ cause: 'load-failed' });
  t.deepEqual(replicas(), [0, 1, 2, 3]);
  t.deepEqual(told, ['ready 0', 'exited 0 crash', 'exited 1 load-failed']);
  begun[3]?.events.ready(DESCRIPTION);
  const late = links[3] as Link;
  late.send(7, []);
  late.abandon(7);
  late.stop({ now: true });
  late.kill('hung');
  t.deepEqual(begun[3]?.calls, ['send 7', 'abandon 7', 'stop true', 'kill hung'], 'what waited is what it waited for');
  t.is(await late.call('labels', []), 'labels');
});

test('a replica that waits ends when it is told to, and never starts', async (t) => {
  const { begun, told, open, replicas } = rig(1);
  const [, second, third] = [0, 1, 2].map((replica) => open(replica)) as [Link, Link, Link];
  await t.throwsAsync(second.call('labels', []), { code: 'NO_REPLICA' });
  second.stop();
  second.stop({ now: true });
  t.deepEqual(told, [], 'never inside a call to it');
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual(told, ['exited 1 stopped']);
  t.false(second.isWaiting);
  begun[0]?.events.ready(DESCRIPTION);
  t.deepEqual(replicas(), [0, 2]);
  t.false(third.isWaiting);
});

test('a start that takes long holds up nobody, and inline replicas have no turns', (t) => {
  const { clock, open, replicas } = rig(1);
  open(0);
  open(1);
  open(2, { isolation: 'inline' });
  t.deepEqual(replicas(), [0, 2]);
  clock.advance(1999);
  t.deepEqual(replicas(), [0, 2]);
  clock.advance(1);
  t.deepEqual(replicas(), [0, 2, 1]);
  t.true(defaultStartsAtOnce() >= 4);
});

test.serial('what waits for its turn is stopped with everything else before the process ends', async (t) => {
  const { told, open, replicas } = rig(1);
  open(0);
  open(1);
  open(2);
  const { leftCount } = await drainAll(60_000);
  t.is(leftCount, 0);
  t.deepEqual(told, ['exited 1 stopped', 'exited 2 stopped']);
  t.deepEqual(replicas(), [0]);
});
