import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { createSystem, silentLog } from 'troupe';

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
