import { mkdtemp, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { connectControl, createSystem, silentLog } from 'troupe';

test('a system made from a config has every pool of the file up, and asks reach them', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'troupe-config-'));
  await writeFile(join(dir, 'echo.mjs'), 'export default { predict: (batch) => batch.map((n) => n + 1) };\n');
  await writeFile(
    join(dir, 'troupe.yaml'),
    'name: two\npools:\n  a: { actor: ./echo.mjs, isolation: thread }\n  b: { actor: ./echo.mjs, isolation: inline }\n',
  );
  await using system = await createSystem({ config: join(dir, 'troupe.yaml') });
  t.is(system.name, 'two');
  t.is(await system.get('a')?.ask(1), 2);
  t.is(await system.get('b')?.ask(2), 3);
});

test('a pool of the config that does not start rejects the whole system with its own error', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'troupe-config-'));
  await writeFile(
    join(dir, 'sick.mjs'),
    'export default { load() { throw new Error("no luck"); }, predict: () => [] };\n',
  );
  await writeFile(join(dir, 'troupe.yaml'), 'name: broken\npools:\n  a: { actor: ./sick.mjs, isolation: thread }\n');
  const error = await t.throwsAsync(createSystem({ config: join(dir, 'troupe.yaml'), log: silentLog }), {
    message: /no luck/,
  });
  t.is((error as { code?: string }).code, 'ACTOR_LOAD_FAILED');
});

test('control in the config opens the socket before the pools load, and explain says where every setting came from', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'troupe-config-'));
  await writeFile(join(dir, 'echo.mjs'), 'export default { predict: (batch) => batch };\n');
  await writeFile(
    join(dir, 'troupe.yaml'),
    'name: watched\ncontrol: { socket: ./run/c.sock }\npools:\n  a: { actor: ./echo.mjs, isolation: inline, options: { apiKey: hunter2 } }\n',
  );
  await using system = await createSystem({ config: join(dir, 'troupe.yaml'), log: silentLog });
  t.is(system.control?.socket, join(dir, 'run', 'c.sock'));
  await using control = await connectControl(system.control?.socket ?? '');
  t.is(control.system, 'watched');
  const { values } = await control.explain('a');
  t.like(
    values.find(({ path }) => path === 'pools.a.isolation'),
    { value: 'inline', from: `${join(dir, 'troupe.yaml')}:4:38` },
  );
  t.like(
    values.find(({ path }) => path === 'pools.a.replicas'),
    { value: 1, from: 'default' },
  );
  t.is(values.find(({ path }) => path === 'pools.a.options.apiKey')?.value, '***');
  await t.throwsAsync(control.explain('b'), { message: /There is no pool "b"/ });
});

test.serial(
  'without a path the socket lies in the runtime directory of the user, or in one of their own',
  async (t) => {
    const dir = await mkdtemp(join(tmpdir(), 'tc-'));
    const before = { runtime: process.env['XDG_RUNTIME_DIR'], temporary: process.env['TMPDIR'] };
    t.teardown(() => {
      if (before.runtime === undefined) delete process.env['XDG_RUNTIME_DIR'];
      else process.env['XDG_RUNTIME_DIR'] = before.runtime;
      if (before.temporary === undefined) delete process.env['TMPDIR'];
      else process.env['TMPDIR'] = before.temporary;
    });
    process.env['XDG_RUNTIME_DIR'] = dir;
    process.env['TMPDIR'] = dir;
    const uid = process.getuid?.() ?? 0;
    for (const place of [join(dir, 'troupe'), join(dir, `troupe-${uid}`)]) {
      await using system = createSystem({ name: 'placed', log: silentLog });
      t.is((await system.openControl()).socket, join(place, 'placed.sock'));
      t.is((await stat(place)).mode & 0o777, 0o700);
      process.env['XDG_RUNTIME_DIR'] = join(dir, 'absent');
    }
  },
);
