import fc from 'fast-check';
import test from 'ava';
import { connectControl, type ErrorCode, TroupeError } from 'troupe';
import { stand } from './stand.js';

/** What may come of a change that another one overtook; anything else is a defect. */
const EXPECTED: readonly ErrorCode[] = ['SWAP_ROLLED_BACK', 'NO_ROLLOUT'];

const verb = fc.oneof(
  fc.record({ verb: fc.constant('swap' as const), version: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ verb: fc.constant('canary' as const), version: fc.integer({ min: 1, max: 4 }) }),
  fc.record({ verb: fc.constant('scale' as const), replicas: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ verb: fc.constantFrom('promote' as const, 'rollback' as const, 'restart' as const) }),
);

test.serial(
  'clients that race each other with changes all get an answer, and no record is lost between them',
  async (t) => {
    t.timeout(240_000);
    const { system, socket } = await stand(t, { pools: [] });
    const pool = await system.spawn('echo', { actor: { predict: (batch: readonly unknown[]) => batch }, version: '1' });
    await using one = await connectControl(socket, { access: 'write', client: 'one' });
    await using two = await connectControl(socket, { access: 'write', client: 'two' });
    const race = async (calls: readonly (readonly [boolean, { readonly verb: string }])[]): Promise<void> => {
      const asked = pool.askMany(Array.from({ length: 200 }, (_, index) => index));
      const settled = await Promise.allSettled(
        calls.map(([isFirst, { verb: name, ...params }]) => {
          const trial = name === 'canary' ? { share: 0.5, bakeMs: 20 } : {};
          return (isFirst ? one : two).call(name as 'ps', { pool: 'echo', ...params, ...trial });
        }),
      );
      for (const outcome of settled) {
        if (outcome.status === 'fulfilled') continue;
        const { reason } = outcome as { readonly reason: unknown };
        t.true(reason instanceof TroupeError && EXPECTED.includes(reason.code), String(reason));
      }
      for (const outcome of await asked) t.true(outcome.ok, outcome.ok ? '' : outcome.error.message);
      const ps = await one.ps();
      t.like(ps.pools[0], { state: 'running' });
      const versions = new Set(pool.stats().replicas.map((replica) => replica.version));
      t.true(versions.size <= 2, `${[...versions].join(', ')} are resident`);
      t.is(await pool.ask('still here'), 'still here');
    };
    const calls = fc.array(fc.tuple(fc.boolean(), verb), { minLength: 2, maxLength: 12 });
    await fc.assert(fc.asyncProperty(calls, race), { numRuns: 25, seed: 7, endOnFailure: true });
  },
);

test.serial('a drain and a stop that others race leave every call settled', async (t) => {
  const { system, socket } = await stand(t);
  const pool = system.get('echo');
  await using one = await connectControl(socket, { access: 'write' });
  const two = await connectControl(socket, { access: 'write' });
  const calls = [
    two.swap('echo', 2),
    two.drain('echo'),
    one.swap('echo', 3),
    one.scale('echo', 3),
    one.restart('echo'),
    one.rollback('echo'),
    one.ask('echo', 'late'),
    two.drain('echo'),
  ].map((call) => call.then(String, (error: unknown) => error));
  const stopped = system.stop({ timeoutMs: 0 });
  for (const outcome of await Promise.all(calls))
    t.true(typeof outcome === 'string' || outcome instanceof TroupeError, String(outcome));
  await stopped;
  t.is(pool?.stats().state, 'stopped');
  await two.close();
});

test.serial(
  'whatever a frame says, the answer is an error that says what there is, and the system works on',
  async (t) => {
    t.timeout(240_000);
    const { system, socket, log } = await stand(t);
    await using control = await connectControl(socket, { access: 'write' });
    const verbs = [
      'ps',
      'stats',
      'versions',
      'explain',
      'deadLetters',
      'plan',
      'ask',
      'apply',
      'swap',
      'canary',
      'shadow',
    ] as const;
    const more = ['promote', 'rollback', 'scale', 'restart', 'preload', 'unload', 'drain'] as const;
    const strange = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.constantFrom('../../etc', '%2e%2e', '\u001b[2J', 'a\u0000b', 'constructor', '', '.', 'x'.repeat(100_000)),
      fc.double(),
      fc.jsonValue({ maxDepth: 3 }),
    );
    const keys = [
      'pool',
      'version',
      'replicas',
      'record',
      'file',
      'share',
      'verify',
      'model',
      'last',
      'bakeMs',
      'toString',
    ];
    const params = fc.dictionary(fc.constantFrom(...keys), strange, { maxKeys: 4 });
    const attempt = fc.asyncProperty(fc.constantFrom(...verbs, ...more), params, async (name, given) => {
      const outcome = await control.call(name, given).catch((error: unknown) => error);
      if (!(outcome instanceof Error)) return;
      t.true(outcome instanceof TroupeError || outcome instanceof TypeError, String(outcome));
      t.true(outcome.message.length < 2000, `${outcome.message.length} characters`);
      t.notRegex(outcome.message, /[\u0000-\u0008\u000e-\u001f\u007f-\u009f]/u, JSON.stringify(outcome.message));
    });
    await fc.assert(attempt, { numRuns: 500, endOnFailure: true });
    t.is(await system.get('echo')?.ask(1), 1);
    t.true(log.every(({ message }) => message.length < 10_000));
  },
);
