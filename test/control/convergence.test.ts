import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl, createSystem, silentLog, type System, TroupeError } from 'troupe';
import { privateFolder } from './stand.js';

const ACTOR = `import { readFileSync } from 'node:fs';
import { defineActor } from 'troupe/actor';
export default defineActor({
  load: ({ version }) => { if (version === 'broken') throw new Error('weights are missing'); return version; },
  async predict(batch, { state }) {
    if (batch.includes('slow')) await globalThis.finished;
    return batch.map((record) => record + ' by ' + state);
  },
});
`;

interface Place {
  readonly file: string;
  write(pools: Readonly<Record<string, object>>, more?: Readonly<Record<string, unknown>>): void;
}

function place(t: ExecutionContext): Place {
  const dir = privateFolder(t);
  mkdirSync(join(dir, 'node_modules'));
  const root = new URL('../../../', import.meta.url).href;
  writeFileSync(join(dir, 'package.json'), '{"type":"module"}');
  writeFileSync(join(dir, 'actor.js'), ACTOR.replace("'troupe/actor'", `'${root}dist/src/actor/actor-module.js'`));
  const file = join(dir, 'troupe.yaml');
  return {
    file,
    write: (pools, more = {}) => {
      const entries = Object.entries(pools).map(([name, pool]) => [
        name,
        { actor: './actor.js', isolation: 'inline', ...pool },
      ]);
      const control = { socket: './c.sock' };
      writeFileSync(file, JSON.stringify({ name: 'desired', control, pools: Object.fromEntries(entries), ...more }));
    },
  };
}

async function started(t: ExecutionContext, file: string): Promise<System> {
  const system = await createSystem({ config: file, log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  return system;
}

test('editing a version in the file and applying it is a swap; plan says so before and nothing after', async (t) => {
  const { file, write } = place(t);
  write({ a: { version: 1 }, b: { version: 1 } });
  const system = await started(t, file);
  await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  t.deepEqual(await control.plan(), { file, steps: [], nextStart: [] });

  write({ a: { version: 2, replicas: 2 }, c: { version: 7 } });
  const plan = await control.plan();
  t.deepEqual(plan.steps, [
    { action: 'spawn', pool: 'c' },
    { action: 'scale', pool: 'a', from: 1, to: 2 },
    { action: 'swap', pool: 'a', from: '1', to: '2' },
    { action: 'stop', pool: 'b' },
  ]);
  t.is(system.get('a')?.version, '1', 'a plan changes nothing');

  t.like(await control.apply(), { done: 4, nextStart: [] });
  t.deepEqual([...system.names()].sort(), ['a', 'c']);
  t.is(await system.get('a')?.ask('x'), 'x by 2');
  t.is(await system.get('c')?.ask('x'), 'x by 7');
  t.is(system.get('a')?.stats().replicas.length, 2);
  t.deepEqual((await control.plan()).steps, []);
  t.deepEqual(system.configuredPools(), ['a', 'c']);
  t.true((await control.explain('a')).values.some(({ path, value }) => path === 'pools.a.version' && value === '2'));
});

test('what was swapped and scaled by hand is shown as drift, and apply takes it back', async (t) => {
  const { file, write } = place(t);
  write({ a: { version: 1 } });
  const system = await started(t, file);
  await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  await control.swap('a', 5);
  await control.scale('a', 3);
  t.deepEqual((await control.plan()).steps, [
    { action: 'scale', pool: 'a', from: 3, to: 1, drift: true },
    { action: 'swap', pool: 'a', from: '5', to: '1', drift: true },
  ]);
  await control.apply();
  t.is(await system.get('a')?.ask('x'), 'x by 1');
});

test('a file that is not valid, or is of another system, changes nothing', async (t) => {
  const { file, write } = place(t);
  write({ a: { version: 1 } });
  const system = await started(t, file);
  await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  write({ a: { version: 2 }, b: { replicas: 0 } });
  const invalid = await t.throwsAsync(control.apply(), { instanceOf: TroupeError });
  t.is(invalid.code, 'CONFIG_INVALID');
  t.regex(invalid.message, /pools\.b\.replicas/);
  write({ a: { version: 2 } }, { name: 'another' });
  await t.throwsAsync(control.apply(), { instanceOf: TypeError, message: /of a system named "another".*is "desired"/ });
  await t.throwsAsync(control.apply('/nowhere/troupe.yaml'), { code: 'CONFIG_INVALID', message: /no such file/ });
  await t.throwsAsync(control.call('apply', { file: 'relative.yaml' }), {
    instanceOf: TypeError,
    message: /^apply: file: must be an absolute path/,
  });
  t.is(system.get('a')?.version, '1');
  t.deepEqual(system.names(), ['a']);
});

test('the step that fails is the last: what was done stays, what was not begun is named, and apply goes on from there', async (t) => {
  const { file, write } = place(t);
  write({ a: { version: 1 }, b: { version: 1 } });
  const system = await started(t, file);
  await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  write({ a: { version: 'broken', replicas: 2 }, b: { version: 2 } });
  const error = await t.throwsAsync(control.apply(), { instanceOf: TroupeError });
  t.is(error.code, 'APPLY_FAILED');
  t.regex(
    error.message,
    /swap a 1 -> broken failed: .*stays on version 1.*done before it: scale a 1 -> 2; not begun: swap b 1 -> 2/,
  );
  t.is((error.cause as TroupeError).code, 'SWAP_ROLLED_BACK');
  t.is(await system.get('a')?.ask('x'), 'x by 1');

  write({ a: { version: 3, replicas: 2 }, b: { version: 2 } });
  // Two at once: one after the other, and the second finds nothing to do.
  const [first, second] = await Promise.all([control.apply(undefined, { canary: 0.5, bakeMs: 20 }), control.apply()]);
  t.deepEqual([first.done, second.done], [2, 0]);
  t.is(await system.get('b')?.ask('x'), 'x by 2');
});

test('keys that need a new start are named by plan and apply until it comes, and the rest is done', async (t) => {
  const { file, write } = place(t);
  write({ a: { version: 1 } });
  const system = await started(t, file);
  await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  write({ a: { version: 2, mailbox: { capacity: 7 } } }, { tracing: true });
  const nextStart = ['pools.a.mailbox.capacity', 'tracing'];
  t.like(await control.apply(), { done: 1, nextStart });
  t.is(system.get('a')?.version, '2');
  t.deepEqual(await control.plan(), { file, steps: [], nextStart });
});

test('a read-only connection may plan and not apply; a system made by code follows the file it is given', async (t) => {
  const { file, write } = place(t);
  write({ a: { version: 1 } });
  const system = createSystem({ name: 'desired', log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const { socket } = await system.openControl({ socket: join(privateFolder(t), 'c.sock') });
  await using reader = await connectControl(socket);
  await t.throwsAsync(reader.plan(), { instanceOf: TypeError, message: /not made from a config file; name/ });
  t.deepEqual((await reader.plan(file)).steps, [{ action: 'spawn', pool: 'a' }]);
  await t.throwsAsync(reader.apply(file), { code: 'CONTROL_REFUSED' });
  await using writer = await connectControl(socket, { access: 'write' });
  t.is((await writer.apply(file)).done, 1);
  t.is(await system.get('a')?.ask('x'), 'x by 1');
  t.deepEqual((await writer.plan()).steps, [], 'from now on that is its file');
});

test("a pool of many models is part of a plan: its replicas are scaled, its models are nobody's but those who ask", async (t) => {
  const { file, write } = place(t);
  const models = { list: ['x', 'y'], maxBytes: 1000 };
  write({ a: { version: 1 }, many: { models } });
  const system = await started(t, file);
  await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  t.deepEqual((await control.plan()).steps, []);
  write({ a: { version: 2 }, many: { models, replicas: 2 } });
  t.deepEqual((await control.plan()).steps, [
    { action: 'scale', pool: 'many', from: 1, to: 2 },
    { action: 'swap', pool: 'a', from: '1', to: '2' },
  ]);
  t.is((await control.apply()).done, 2);
  write({ a: { version: 2 }, many: { models: { ...models, maxBytes: 2000 }, replicas: 2 } });
  t.deepEqual((await control.plan()).nextStart, ['pools.many.models.maxBytes']);
  write({ a: { version: 2 } });
  t.deepEqual((await control.plan()).steps, [{ action: 'stop', pool: 'many' }]);
  await control.apply();
  t.deepEqual(system.names(), ['a']);
});

test('a pool whose model is gone from the disk can still be taken out of the file', async (t) => {
  const { file, write } = place(t);
  const model = join(file, '../net');
  for (const version of ['1', '2']) {
    mkdirSync(join(model, version), { recursive: true });
    writeFileSync(join(model, version, 'm'), '');
  }
  write({ a: { version: 1 }, old: { model: './net', version: 1 } });
  const system = await started(t, file);
  await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  rmSync(join(model, '1'), { recursive: true });
  const error = await t.throwsAsync(control.plan(), { instanceOf: TroupeError });
  t.is(error.code, 'VERSION_NOT_FOUND', 'what the file asks for is not there');
  write({ a: { version: 1 } });
  t.is((await control.apply()).done, 1);
  t.deepEqual(system.names(), ['a']);
});

test('bounds of the number of replicas are in force with the next start, and said until then', async (t) => {
  const { file, write } = place(t);
  write({ a: { version: 1, replicas: { min: 1, max: 2 } } });
  const system = await started(t, file);
  await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  write({ a: { version: 2, replicas: { min: 1, max: 3 } } });
  t.like(await control.apply(), { done: 1, nextStart: ['pools.a.replicas.max'] });
  t.is(system.get('a')?.version, '2');
  write({ a: { version: 2, replicas: 2 } });
  t.like(await control.plan(), { steps: [], nextStart: ['pools.a.replicas'] });
});

test('an apply beside a trial of another version leaves it alone, and one for its very version ends the trial by a swap', async (t) => {
  const { file, write } = place(t);
  write({ a: { version: 1 }, b: { version: 1 } });
  const system = await started(t, file);
  await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  await control.canary('a', 2, 0.5, { bakeMs: 600_000 });
  write({ a: { version: 1 }, b: { version: 3 } });
  t.is((await control.apply()).done, 1);
  t.like(await control.versions('a'), { current: '1', next: '2', step: 'baking' });
  write({ a: { version: 2 }, b: { version: 3 } });
  await control.apply();
  const after = await control.versions('a');
  t.is(after.current, '2');
  t.is(after.next, undefined);
});

test('an apply that a stop overtakes settles, and says how far it came', async (t) => {
  const { file, write } = place(t);
  write({ a: { version: 1 }, b: { version: 1 } });
  const system = await started(t, file);
  const control = await connectControl(system.control?.socket ?? '', { access: 'write' });
  write({ a: { version: 2 }, b: { version: 2 } });
  const applied = control.apply(undefined, { canary: 0.5, bakeMs: 600_000 });
  const baking = new Promise<void>((resolve) => {
    system.get('a')?.on('rollout', ({ step }) => {
      if (step === 'baking') resolve();
    });
  });
  await baking;
  await system.stop({ timeoutMs: 0 });
  const error = await t.throwsAsync(applied, { instanceOf: TroupeError });
  t.true(error.code === 'APPLY_FAILED' || error.code === 'CONTROL_UNREACHABLE', error.message);
  await control.close();
});

/** What the actor of these tests waits for at the record `slow`. */
function held(): () => void {
  let finish: () => void = () => undefined;
  Object.assign(globalThis, { finished: new Promise<void>((resolve) => (finish = resolve)) });
  return finish;
}

test.serial(
  'a pool that is taken out has a limited time to finish: what is left is told, and the next apply goes on',
  async (t) => {
    const { file, write } = place(t);
    write({ a: { version: 1 }, b: { version: 1 }, c: { version: 1 } });
    const system = await started(t, file);
    await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
    const finish = held();
    const asked = system.get('b')?.ask('slow');
    write({ a: { version: 1 } });
    const error = await t.throwsAsync(control.apply(undefined, { drainTimeoutMs: 20 }), { instanceOf: TroupeError });
    t.is(error.code, 'APPLY_FAILED');
    t.regex(
      error.message,
      /stop b failed: Pool "b" has not finished within 20 ms: it holds 1 record, 1 of them with a replica; .* goes on; nothing was changed before it; not begun: stop c/,
    );
    t.is((error.cause as TroupeError).code, 'DRAIN_OVERDUE');
    t.is(system.get('b')?.stats().state, 'draining');
    t.deepEqual((await control.plan()).steps, [
      { action: 'stop', pool: 'b' },
      { action: 'stop', pool: 'c' },
    ]);
    const applied = control.apply();
    finish();
    t.is(await asked, 'slow by 1', 'nothing is lost');
    t.is((await applied).done, 2);
    t.deepEqual(system.names(), ['a']);
  },
);

test.serial(
  'a version that does not get done holds an apply up for a limited time, and the swap goes on',
  async (t) => {
    const { file, write } = place(t);
    write({ a: { version: 1 } });
    const system = await started(t, file);
    await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
    const pool = system.get('a');
    const finish = held();
    const asked = pool?.ask('slow');
    while (pool?.stats().replicas[0]?.inFlightBatches === 0) await new Promise((resolve) => setImmediate(resolve));
    write({ a: { version: 2 } });
    const error = await t.throwsAsync(control.apply(undefined, { drainTimeoutMs: 20 }), { instanceOf: TroupeError });
    t.regex(
      error.message,
      /swap a 1 -> 2 failed: Pool "a" is at version 2, and .* not finished within 20 ms: it holds 1 record/,
    );
    t.is(await pool?.ask('x'), 'x by 2', 'the new one serves');
    // One that would have to wait for the same is limited in the same way.
    write({ a: { version: 3 } });
    const second = await t.throwsAsync(control.apply(undefined, { drainTimeoutMs: 20 }), { instanceOf: TroupeError });
    t.is((second.cause as TroupeError).code, 'DRAIN_OVERDUE');
    finish();
    t.is(await asked, 'slow by 1');
    await control.apply();
    t.is(await pool?.ask('x'), 'x by 3');
    t.deepEqual((await control.plan()).steps, []);
  },
);

test.serial(
  'a version that is taken back while an apply waits, and does not get done, holds it up for a limited time',
  async (t) => {
    const { file, write } = place(t);
    write({ a: { version: 1 } });
    const system = await started(t, file);
    await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
    const pool = system.get('a');
    if (pool === undefined) return t.fail();
    const baking = new Promise<void>((resolve) => {
      pool.on('rollout', ({ step }) => {
        if (step === 'baking') resolve();
      });
    });
    const swapped = t.throwsAsync(pool.swap(2, { bakeMs: 600_000 }), { code: 'SWAP_ROLLED_BACK' });
    await baking;
    const finish = held();
    const asked = pool.ask('slow');
    const isHeld = () => pool.stats().replicas.some(({ inFlightBatches }) => inFlightBatches > 0);
    while (!isHeld()) await new Promise((resolve) => setImmediate(resolve));
    // Behind a swap that is under way the step waits, and its limit begins with what the swap leaves.
    const scaling = new Promise<void>((resolve) => {
      const scale = pool.scale.bind(pool);
      pool.scale = (count) => {
        setImmediate(resolve);
        return scale(count);
      };
    });
    write({ a: { version: 1, replicas: 2 } });
    const applied = t.throwsAsync(control.apply(undefined, { drainTimeoutMs: 20 }), { instanceOf: TroupeError });
    await scaling;
    const takenBack = pool.rollback();
    const error = await applied;
    t.is((error?.cause as TroupeError | undefined)?.code, 'DRAIN_OVERDUE');
    t.regex(error?.message ?? '', /Pool "a" is at version 1, .* not finished within 20 ms: it holds 1 record/);
    await swapped;
    t.is(await pool.ask('x'), 'x by 1', 'the old one serves');
    finish();
    t.is(await asked, 'slow by 2', 'nothing is lost');
    await takenBack;
    await control.apply();
    t.is(pool.stats().replicas.length, 2);
  },
);
