import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { importOptional } from '../../src/stream/optional-package.js';

test('a package that is not installed is told by its install command; any other failure keeps its words', async (t) => {
  const name = 'no-such-package-anywhere';
  const error = await t.throwsAsync(importOptional('redis://h s', name, '6', async () => import(name)));
  t.like(error, {
    code: 'PACKAGE_NOT_INSTALLED',
    message: `redis://h s needs the package ${name}: npm install ${name}@6`,
  });
  const inner = await t.throwsAsync(importOptional('x', 'redis', '6', async () => import(name)));
  t.like(inner, { code: 'ERR_MODULE_NOT_FOUND' }, 'a package that redis itself lacks is not redis');
  t.is(await importOptional('x', 'redis', '6', async () => 7), 7);
});

test('a package of an older major is told by the version that was found, and the install command', async (t) => {
  const error = await t.throwsAsync(importOptional('redis://h s', 'redis', '99', async () => import('redis')));
  t.is((error as { code?: string }).code, 'PACKAGE_NOT_INSTALLED');
  const words = /^redis:\/\/h s needs the package redis from version 99 on, and found 6\.\S+: npm install redis@99$/;
  t.regex(error?.message ?? '', words);
});

/** Nobody has these two: what a user without them has. */
const HOOK = `export async function resolve(name, context, next) {
  if (name !== 'redis' && name !== 'pg') return next(name, context);
  throw Object.assign(new Error("Cannot find package '" + name + "' imported from x"), { code: 'ERR_MODULE_NOT_FOUND' });
}`;
const asUrl = (code: string): string => `data:text/javascript,${encodeURIComponent(code)}`;
const REGISTER = asUrl(`import { register } from 'node:module'; register(${JSON.stringify(asUrl(HOOK))});`);
const INDEX = new URL('../../src/index.js', import.meta.url).href;

test('without redis and pg everything else works, and a run that needs them ends with PACKAGE_NOT_INSTALLED', (t) => {
  const code = `
    import { fromIterable, fromPostgres, fromRedis, stream, toArray, toPostgres, toRedis } from ${JSON.stringify(INDEX)};
    const redis = { url: 'redis://h', stream: 's' };
    const table = { connection: 'postgres://h/d', table: 't' };
    const numbers = fromIterable([1]);
    for (const run of [
      () => stream(numbers).to(toArray()),
      () => stream(fromRedis({ ...redis, group: 'g', consumer: 'c' })).to(toArray()),
      () => stream(fromPostgres(table)).to(toArray()),
      () => stream(numbers).to(toRedis(redis)),
      () => stream(numbers).to(toPostgres(table)),
    ]) console.log(await run().then(({ results }) => results, ({ code, message }) => code + ' ' + message));
  `;
  const args = ['--import', REGISTER, '--input-type=module', '-e', code];
  const { stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
  });
  t.deepEqual(
    stdout.trim().split('\n'),
    [
      '1',
      'PACKAGE_NOT_INSTALLED redis://h s needs the package redis: npm install redis@6',
      'PACKAGE_NOT_INSTALLED postgres://h/d t needs the package pg: npm install pg@8',
      'PACKAGE_NOT_INSTALLED redis://h s needs the package redis: npm install redis@6',
      'PACKAGE_NOT_INSTALLED postgres://h/d t needs the package pg: npm install pg@8',
    ],
    stderr,
  );
});
