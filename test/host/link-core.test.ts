import test, { type ExecutionContext } from 'ava';
import type { Carrier } from '../../src/host/carrier.js';
import type { Death, LinkEvents, RecordResult } from '../../src/host/link.js';
import { LinkCore } from '../../src/host/link-core.js';
import { deferred } from '../../src/kernel/deferred.js';
import type { TroupeError } from '../../src/kernel/errors.js';
import type { ToEntry } from '../../src/wire/messages.js';
import { specOf } from './recorder.js';

interface Bench {
  readonly core: LinkCore;
  readonly sent: ToEntry[];
  readonly replies: (readonly [number, readonly RecordResult[]])[];
  readonly failures: (readonly [number, TroupeError])[];
  readonly deaths: Death[];
  readonly stale: number[];
  /** What is told of token streams. */
  readonly streams: string[];
  kills: number;
  /** Resolves when it is killed. */
  readonly killed: Promise<void>;
}

/** A link whose other side is the test. */
async function openBench(t: ExecutionContext, killable = true): Promise<Bench> {
  const { promise: killed, resolve: onKill } = deferred<void>();
  const bench: Bench = {
    killed,
    core: undefined as never,
    sent: [],
    replies: [],
    failures: [],
    deaths: [],
    stale: [],
    streams: [],
    kills: 0,
  };
  const loaded = new Promise<void>((resolve) => {
    const events: LinkEvents = {
      ready: () => resolve(),
      reply: (id, results, streams, model) => {
        bench.replies.push([id, results]);
        if (streams !== undefined) bench.streams.push(`${streams.length} of ${model} began`);
      },
      streamEnded: (model) => bench.streams.push(`one of ${model} ended`),
      failed: (id, error) => bench.failures.push([id, error]),
      exited: (death) => bench.deaths.push(death),
      stale: (id) => bench.stale.push(id),
    };
    const core = new LinkCore(specOf('thread', { incarnation: 7, stopTimeoutMs: 5, pieceTimeoutMs: 5 }), events);
    Object.assign(bench, { core });
    const value = { signature: undefined, methods: [], repeatable: true, native: false, pid: 1, costs: [] };
    const carrier: Carrier = {
      isLocal: false,
      control: {
        start: async () => ({ ok: true, value }),
        call: () => new Promise(() => undefined),
        stop: () => new Promise(() => undefined),
        loadModel: () => new Promise(() => undefined),
        unloadModel: () => new Promise(() => undefined),
      },
      post: (message) => void bench.sent.push(message),
      copy: (given) => given,
      terminate: () => undefined,
      kill: () => {
        bench.kills++;
        onKill();
        return killable;
      },
      release: () => undefined,
    };
    core.begin(carrier);
  });
  await loaded;
  t.teardown(() => {
    bench.core.closedBy({ exitCode: 0 });
  });
  return bench;
}

const reply = (id: number, values: readonly unknown[], incarnation = 7) =>
  ({ kind: 'reply', incarnation, id, payload: { kind: 'rows', values }, faults: undefined }) as const;

test('a reply of another incarnation, of nothing asked, or told twice is dropped', async (t) => {
  const { core, replies, failures } = await openBench(t);
  core.send(1, ['a']);
  core.message(reply(1, ['stale'], 6));
  core.message(reply(99, ['unasked']));
  t.deepEqual(replies, []);
  core.message(reply(1, ['A']));
  core.message(reply(1, ['again']));
  t.deepEqual(replies, [[1, [{ ok: true, value: 'A' }]]]);
  t.deepEqual(failures, []);
});

test('a reply with a wrong number of results fails its batch and pairs nothing', async (t) => {
  const { core, replies, failures } = await openBench(t);
  core.send(1, ['a', 'b']);
  core.message(reply(1, ['A']));
  t.deepEqual(replies, []);
  t.is(failures[0]?.[1].code, 'PROTOCOL_VIOLATION');
});

test('a death is told once, last, and ends the calls that wait', async (t) => {
  const bench = await openBench(t);
  bench.core.send(1, ['a']);
  const call = t.throwsAsync(bench.core.call('m', []), { code: 'ACTOR_CRASHED' });
  bench.core.closedBy({ signal: 'SIGSEGV' });
  bench.core.message(reply(1, ['late']));
  bench.core.kill('hung');
  bench.core.stop();
  bench.core.abandon(1);
  bench.core.send(2, ['b']);
  await call;
  t.is(bench.deaths.length, 1);
  t.like(bench.deaths[0], { cause: 'crash', signal: 'SIGSEGV' });
  t.deepEqual(bench.replies, []);
  t.deepEqual(bench.stale, [1], 'what comes after the end is counted');
  t.is(bench.sent.length, 1);
  await t.throwsAsync(bench.core.call('m', []), { code: 'ACTOR_CRASHED' });
});

test('a replica that cannot be killed is told as hung at once, and is live until it really ends', async (t) => {
  const bench = await openBench(t, false);
  let isClosed = false;
  void bench.core.closed.then(() => {
    isClosed = true;
  });
  bench.core.kill('hung');
  t.deepEqual(bench.deaths, [], 'never told inside a call to the link');
  await new Promise((resolve) => setImmediate(resolve));
  t.is(bench.deaths[0]?.cause, 'hung');
  t.false(isClosed);
  bench.core.closedBy({ exitCode: 0 });
  await bench.core.closed;
  t.is(bench.deaths.length, 1);
});

test('an end of its own accord while a stop was asked is a stop; a crash then is still a crash', async (t) => {
  const obedient = await openBench(t);
  obedient.core.stop();
  obedient.core.closedBy({ exitCode: 0 });
  t.is(obedient.deaths[0]?.cause, 'stopped');
  const crashing = await openBench(t);
  crashing.core.stop();
  crashing.core.closedBy({ signal: 'SIGSEGV' });
  t.is(crashing.deaths[0]?.cause, 'crash');
});

test('a garbled data lane ends the replica with cause protocol', async (t) => {
  const bench = await openBench(t);
  bench.core.garbled(new Error('no frame'));
  t.is(bench.kills, 1);
  bench.core.closedBy({ signal: 'SIGKILL' });
  t.is(bench.deaths[0]?.cause, 'protocol');
  t.is((bench.deaths[0]?.error as TroupeError | undefined)?.code, 'PROTOCOL_VIOLATION');
});

test('a replica whose generator does not end after its stream was given up is hung', async (t) => {
  t.timeout(20_000);
  const bench = await openBench(t);
  bench.core.send(1, ['a']);
  bench.core.message({ ...reply(1, [undefined]), streams: [0] });
  const result = bench.replies[0]?.[1][0];
  const stream = (result?.ok === true ? result.value : undefined) as AsyncIterator<unknown>;
  await stream.return?.();
  t.like(bench.sent.at(-1), { kind: 'end-stream', id: 1, index: 0 });
  await bench.killed;
  bench.core.closedBy({ signal: 'SIGKILL' });
  t.is(bench.deaths[0]?.cause, 'hung');
  t.regex(String(bench.deaths[0]?.error), /has not ended a token stream 5 ms after it was given up/);
});

test('what is told of token streams names the model that their batch was for', async (t) => {
  const { core, streams } = await openBench(t);
  core.send(1, ['a', 'b'], false, 'fr@1');
  core.message({ ...reply(1, [undefined, undefined]), streams: [0, 1] });
  core.message({ kind: 'stream-ended', incarnation: 7, id: 1, index: 1 });
  t.deepEqual(streams, ['2 of fr@1 began', 'one of fr@1 ended']);
});
