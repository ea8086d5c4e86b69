import { join } from 'node:path';
import test from 'ava';
import { connectControl, createSystem, defineActor, silentLog, TroupeError, type LogEntry } from 'troupe';
import { echo, privateFolder, stand } from './stand.js';

test('every verb does over the socket what it does in code', async (t) => {
  const { system, socket } = await stand(t, { pools: ['echo', 'other'] });
  await using control = await connectControl(socket, { access: 'write' });
  t.is(control.system, 'stand');
  t.is(control.pid, process.pid);

  t.deepEqual((await control.ask('echo', { a: [1, 2] })).value, { a: [1, 2] });
  t.is((await control.stats('echo')).results, 1);
  t.deepEqual(Object.keys(await control.stats()), ['echo', 'other']);
  const { pools } = await control.ps();
  t.like(pools[0], { name: 'echo', state: 'running', ready: 1, replicas: 1, results: 1, errors: 0 });

  t.is((await control.scale('echo', 3)).ready, 3);
  t.is(system.get('echo')?.stats().replicas.length, 3);
  await control.swap('echo', '2.0');
  t.is(system.get('echo')?.version, '2.0');
  t.like(await control.versions('echo'), { pool: 'echo', current: '2.0', replicas: { '2.0': 3 }, available: [] });
  t.is((await control.restart('echo')).ready, 3);
  t.like(system.get('echo')?.stats().replicas[0], { incarnation: 2, version: '2.0' });
  t.is((await control.drain('other')).state, 'draining');
});

test('errors are those of the same call in code, with their fields', async (t) => {
  const { system, socket } = await stand(t);
  await using control = await connectControl(socket, { access: 'write' });
  const local = await t.throwsAsync(system.get('echo')?.ask('bad') ?? Promise.resolve(), { instanceOf: TroupeError });
  const remote = await t.throwsAsync(control.ask('echo', 'bad'), { instanceOf: TroupeError });
  for (const field of ['code', 'ran', 'retryable', 'actor'] as const) t.deepEqual(remote[field], local[field], field);
  t.is((remote.cause as Error).message, 'unlucky');

  const strange = await t.throwsAsync(control.stats('ecoh'), { instanceOf: TroupeError });
  t.is(strange.code, 'POOL_NOT_FOUND');
  t.is(strange.message, 'There is no pool "ecoh"; did you mean echo? The pools are echo');
  await t.throwsAsync(control.scale('echo', -1), { instanceOf: TypeError, message: /^scale: replicas: / });
  await t.throwsAsync(control.call('promtoe' as 'ps', {}), {
    instanceOf: TypeError,
    message: /no verb "promtoe".*the verbs are ps/i,
  });
  for (const name of ['../x', '', '.x', 'a'.repeat(129), 'a\0b', '%2e%2e', 'a b', 'а']) {
    await t.throwsAsync(control.swap(name, 1), { instanceOf: TypeError, message: /^swap: pool: / }, name);
    await t.throwsAsync(control.swap('echo', name), { instanceOf: TypeError, message: /^swap: version: / }, name);
  }
  await t.throwsAsync(control.explain(), { instanceOf: TypeError, message: /not made from a config/ });
  await t.throwsAsync(control.deadLetters('p'), { instanceOf: TypeError, message: /there are no pipelines/i });
});

test('a read-only connection looks at everything and changes nothing', async (t) => {
  const { system, socket, log } = await stand(t);
  await using control = await connectControl(socket);
  t.is(control.access, 'read');
  await control.ps();
  await control.stats('echo');
  await control.versions('echo');
  const before = system.stats();
  const attempts = [
    control.ask('echo', 1),
    control.swap('echo', 2),
    control.scale('echo', 2),
    control.restart('echo'),
    control.drain('echo'),
  ];
  for (const attempt of attempts) {
    const error = await t.throwsAsync(attempt, { instanceOf: TroupeError, message: /may only read/ });
    t.is(error.code, 'CONTROL_REFUSED');
  }
  const after = system.stats();
  t.is(after['echo']?.accepted, before['echo']?.accepted);
  t.deepEqual(after['echo']?.replicas, before['echo']?.replicas);
  t.is(
    log.filter(({ level, message }) => level === 'audit' && message.startsWith('refused: ')).length,
    attempts.length,
  );
});

test('every call that changes something is in the log before it begins and when it has ended, without the record', async (t) => {
  const { socket, log } = await stand(t);
  await using control = await connectControl(socket, { access: 'write', client: 'audit \u001b[31mtest' });
  await control.scale('echo', 2);
  await control.ask('echo', { secret: 'hunter2' });
  await t.throwsAsync(control.ask('echo', 'bad'));
  const audit = log.filter((entry): entry is LogEntry => entry.level === 'audit');
  t.deepEqual(
    audit.map(({ message, pool }) => [
      pool,
      message.replace(/after \d+ ms/, 'after N ms').replace(/connection \d+ \((.*?)\)/, '$1'),
    ]),
    [
      ['echo', 'begun: scale pool=echo replicas=2 by audit  [31mtest'],
      ['echo', 'done: scale pool=echo replicas=2 by audit  [31mtest after N ms'],
      ['echo', 'begun: ask pool=echo record=… by audit  [31mtest'],
      ['echo', 'done: ask pool=echo record=… by audit  [31mtest after N ms'],
      ['echo', 'begun: ask pool=echo record=… by audit  [31mtest'],
      [
        'echo',
        'failed: ask pool=echo record=… by audit  [31mtest after N ms: PREDICT_FAILED: predict of actor "echo" failed: unlucky',
      ],
    ],
  );
  const events = [];
  for (const { kind, message } of await lastEvents(control, 10)) if (kind === 'audit') events.push(message);
  t.deepEqual(
    events,
    audit.map(({ message }) => message),
  );
  t.false(JSON.stringify(events).includes('hunter2'));
});

async function lastEvents(control: Awaited<ReturnType<typeof connectControl>>, last: number) {
  const events = [];
  const ended = new AbortController();
  for await (const event of control.tail(undefined, { last, signal: ended.signal })) {
    events.push(event);
    if (event.message.startsWith('failed: ')) ended.abort();
  }
  return events;
}

test('tail gives the past first, then what happens, and ends when it is told to', async (t) => {
  const { system, socket } = await stand(t, { pools: ['echo', 'other'] });
  await using control = await connectControl(socket);
  const events = control.tail('echo');
  t.like((await events.next()).value, { kind: 'spawned', pool: 'echo' });
  t.like((await events.next()).value, { kind: 'ready', pool: 'echo', message: 'replica 0 is ready' });
  const next = events.next();
  await system.get('other')?.scale(2);
  await system.get('echo')?.scale(2);
  t.like((await next).value, { kind: 'scaled', pool: 'echo', message: '1 -> 2 replicas: somebody asked for it' });
  t.deepEqual(await events.return?.(), { done: true, value: undefined });
  const unknown = await t.throwsAsync(control.tail('ehco').next(), { message: /did you mean echo\?/ });
  t.is((unknown as TroupeError).code, 'POOL_NOT_FOUND');
  t.truthy(await control.ps());
});

test('a version can be tried on a share of the records, promoted, brought back, and verified before it is given any', async (t) => {
  const { system, socket, log } = await stand(t, { pools: [] });
  await system.spawn('v', {
    version: '1',
    actor: {
      load: ({ version }: { version: string | undefined }) => version,
      predict: (batch: readonly unknown[], { state }: { state: string }) => batch.map(() => Number(state)),
    },
  });
  await using control = await connectControl(socket, { access: 'write' });
  t.like(await control.canary('v', 2, 0.25, { bakeMs: 60_000 }), {
    current: '1',
    next: '2',
    step: 'baking',
    share: 0.25,
  });
  t.is((await control.canary('v', 2, 0.25, { bakeMs: 60_000 })).next, '2', 'the very same trial is shared');
  t.like((await control.ps()).pools[0], { version: '1', next: '2', share: 0.25 });
  t.is((await control.promote('v')).version, '2');
  t.like(await control.versions('v'), { current: '2', previous: '1', replicas: { 2: 1 } });
  t.is((await control.rollback('v')).version, '1');

  await control.swap('v', 3, { verify: { records: [0, 0], expect: [3, 3] } });
  const error = await t.throwsAsync(control.swap('v', 4, { verify: { records: ['hunter2'], expect: [5] } }), {
    instanceOf: TroupeError,
  });
  t.like(error, { code: 'SWAP_ROLLED_BACK', step: 'verifying' });
  t.false(JSON.stringify(log.filter(({ level }) => level === 'audit')).includes('hunter2'));
  const none = await t.throwsAsync(control.promote('v'), { instanceOf: TroupeError });
  t.is(none.code, 'NO_ROLLOUT');
  await t.throwsAsync(control.swap('v', 4, { canary: 1 }), { instanceOf: TypeError, message: /^swap: canary: / });
  await t.throwsAsync(control.swap('v', 4, { canray: 0.5 } as object), { instanceOf: TypeError, message: /canray/ });
});

test('a version can be shown a share of the records without anybody who waits, and is promoted by what was seen of it', async (t) => {
  const { system, socket } = await stand(t, { pools: [] });
  await system.spawn('v', {
    version: '1',
    actor: {
      load: ({ version }: { version: string | undefined }) => version,
      predict: (batch: readonly unknown[], { state }: { state: string }) => batch.map(() => Number(state)),
    },
  });
  await using control = await connectControl(socket, { access: 'write' });
  const begun = await control.shadow('v', 2, 1, { tolerance: 1, minAgreement: 0.5, bakeMs: 600_000 });
  t.like(begun, { current: '1', next: '2', step: 'baking', share: 0 });
  t.like(begun.shadow, { share: 1, compared: 0 });
  const again = await control.shadow('v', 2, 1, { tolerance: 1, minAgreement: 0.5, bakeMs: 600_000 });
  t.is(again.next, '2', 'the very same trial is shared');
  t.is((await control.ask('v', 0)).value, 1, 'the old one answers');
  let seen = (await control.versions('v')).shadow;
  while (seen !== undefined && seen.compared === 0) seen = (await control.versions('v')).shadow;
  t.like(seen, { compared: 1, agreed: 1 }, '2 is within 1 of 1');
  t.is((await control.promote('v')).version, '2');

  t.like((await control.shadow('v', 3)).shadow, { share: 0.1 }, 'a tenth, unless more is asked for');
  t.is((await control.rollback('v')).version, '2');
  await t.throwsAsync(control.shadow('v', 3, 1.5), {
    instanceOf: TypeError,
    message: /^shadow: share: must be a share/,
  });
  const reader = await connectControl(socket);
  await t.throwsAsync(reader.shadow('v', 3), { code: 'CONTROL_REFUSED' });
  await reader.close();
});

test('one of many models is loaded before anybody asks, and has to go when it is told to, unless it is pinned', async (t) => {
  const { system, socket, log } = await stand(t);
  const loads: unknown[] = [];
  const models = { list: ['fr', 'de'], pin: ['de'], maxBytes: 10 };
  const pool = await system.spawn('many', {
    actor: defineActor({ load: ({ model }) => void loads.push(model), predict: (batch: unknown[]) => batch }),
    models,
  });
  await using control = await connectControl(socket, { access: 'write' });
  t.like(await control.preload('many', 'fr'), { name: 'many', models: 2 });
  t.deepEqual(loads, ['de', 'fr']);
  const evicted = new Promise((resolve) => pool.once('model-evicted', resolve));
  await control.unload('many', 'fr');
  t.like(await evicted, { model: 'fr', reason: 'asked' });
  t.like((await control.ps()).pools[1], { name: 'many', models: 1 });
  await t.throwsAsync(control.unload('many', 'de'), {
    instanceOf: TypeError,
    message: /"de" of pool "many" is pinned/,
  });
  const unknown = await t.throwsAsync(control.unload('many', 'es'), {
    instanceOf: TroupeError,
    message: /it has de, fr/,
  });
  t.is(unknown.code, 'MODEL_NOT_FOUND');
  await t.throwsAsync(control.unload('echo', 'fr'), { instanceOf: TypeError, message: /"echo" holds one model/ });
  t.true(log.some(({ message }) => message.startsWith('done: unload pool=many model=fr by')));
});

test('a drain that is given a time says what is left when it is over, and goes on', async (t) => {
  const { system, socket } = await stand(t, { pools: [] });
  let finish: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (finish = resolve));
  const pool = await system.spawn('slow', {
    actor: {
      predict: async (batch: readonly unknown[]) => {
        await gate;
        return [...batch];
      },
    },
    batching: { maxSize: 1 },
  });
  await using control = await connectControl(socket, { access: 'write' });
  const asked = [pool.ask(1), pool.ask(2)];
  const error = await t.throwsAsync(control.drain('slow', { timeoutMs: 20 }), { instanceOf: TroupeError });
  t.is(error.code, 'DRAIN_OVERDUE');
  t.regex(
    error.message,
    /^Pool "slow" has not finished within 20 ms: it holds 2 records, 1 of them with a replica; it takes/,
  );
  await t.throwsAsync(pool.ask(3), { code: 'POOL_STOPPED' });
  finish();
  t.deepEqual(await Promise.all(asked), [1, 2], 'nothing was given up');
  t.is((await control.drain('slow', { timeoutMs: 60_000 })).held, 0);
  await t.throwsAsync(pool.drain({ timeout: 5 } as object), {
    instanceOf: TypeError,
    message: /unknown option "timeout"/,
  });
  await t.throwsAsync(pool.drain({ timeoutMs: -1 }), {
    instanceOf: TypeError,
    message: /timeoutMs must be a number of at least 0, got -1/,
  });
});

test('an ask whose caller has gone is given up; a change goes on to its end', async (t) => {
  let signalled = (): void => undefined;
  const aborted = new Promise<void>((resolve) => {
    signalled = resolve;
  });
  let begun = (): void => undefined;
  const running = new Promise<void>((resolve) => {
    begun = resolve;
  });
  let finish = (): void => undefined;
  const loading = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const { system, socket, log } = await stand(t);
  await system.spawn('slow', {
    actor: {
      load: async ({ version }: { version: string | undefined }) => {
        if (version === '2') await loading;
      },
      predict: async (batch: readonly unknown[], { signal }: { signal: AbortSignal }) => {
        signal.addEventListener('abort', signalled);
        begun();
        await aborted;
        return batch;
      },
    },
  });
  const control = await connectControl(socket, { access: 'write' });
  const asked = control.ask('slow', 1);
  const swapped = control.swap('slow', 2);
  await running;
  await control.close();
  for (const call of [asked, swapped]) {
    const error = await t.throwsAsync(call, { instanceOf: TroupeError });
    t.is(error.code, 'CONTROL_UNREACHABLE');
  }
  await aborted;
  const done = new Promise<void>((resolve) => system.get('slow')?.once('swapped', () => resolve()));
  finish();
  await done;
  t.is(system.get('slow')?.version, '2');
  t.true(log.some(({ message }) => message.startsWith('begun: swap')));
});

test('a call that is under way when the system stops settles, and the socket is gone afterwards', async (t) => {
  const { system, socket } = await stand(t);
  const control = await connectControl(socket);
  await system.stop();
  const error = await control.closed;
  t.is(error?.code, 'CONTROL_UNREACHABLE');
  t.is((await t.throwsAsync(control.ps(), { instanceOf: TroupeError })).code, 'CONTROL_UNREACHABLE');
  t.is((await t.throwsAsync(connectControl(socket), { instanceOf: TroupeError })).code, 'CONTROL_UNREACHABLE');
  t.is(system.control, undefined);
});

test('an ask that is answered with a token stream gives its pieces', async (t) => {
  const { system, socket } = await stand(t);
  async function* words(text: string): AsyncGenerator<string> {
    yield* text.split(' ');
  }
  await system.spawn('words', { actor: defineActor({ predict: (batch: string[]) => batch.map(words) }) });
  await using control = await connectControl(socket, { access: 'write' });
  t.deepEqual((await control.ask('words', 'one two three')).value, ['one', 'two', 'three']);
});

test('records of tensor actors are given as lists of numbers, and results come as such', async (t) => {
  const { system, socket } = await stand(t);
  await system.spawn('sum', {
    actor: {
      signature: {
        inputs: [
          { name: 'x', dtype: 'float32', shape: [2, 2] },
          { name: 'n', dtype: 'int64', shape: [1] },
        ],
        outputs: [{ name: 'y', dtype: 'float32', shape: [1] }],
      },
      predict: ({ count, columns }: any) => {
        const y = new Float32Array(count);
        for (let i = 0; i < count; i++) {
          y[i] = Number(columns.n.data[i]);
          for (let k = 0; k < 4; k++) y[i] += columns.x.data[i * 4 + k];
        }
        return { count, columns: { y: { dtype: 'float32', shape: [1], data: y } } };
      },
    } as any,
  });
  await using control = await connectControl(socket, { access: 'write' });
  const { value } = await control.ask('sum', {
    x: [
      [1, 2],
      [3, 4],
    ],
    n: ['5'],
  });
  t.deepEqual(value, { y: [15] });
  const error = await t.throwsAsync(control.ask('sum', { x: [1, 2, 3, 'four'], n: [1] }), { instanceOf: TroupeError });
  t.is(error.code, 'INPUT_INVALID');
  t.is((await t.throwsAsync(control.ask('sum', 7), { instanceOf: TroupeError })).code, 'INPUT_INVALID');
});

test('wrong use is a TypeError that names what was expected', async (t) => {
  await t.throwsAsync(connectControl('', {}), { instanceOf: TypeError, message: /path of a socket/ });
  await t.throwsAsync(connectControl('x', { access: 'all' as 'read' }), { instanceOf: TypeError, message: /access/ });
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop());
  await t.throwsAsync(system.openControl({ sokcet: 'x' } as object), {
    instanceOf: TypeError,
    message: /unknown option "sokcet"/,
  });
  await system.openControl({ socket: join(privateFolder(t), 'c.sock') });
  await t.throwsAsync(system.openControl(), { instanceOf: TypeError, message: /open already/ });
  await system.spawn('echo', { actor: echo });
  t.deepEqual(system.names(), ['echo']);
});
