// Everything that can be checked without running the product: types, lint, format, the tidy and docs tests, and
// whether generated pages are up to date. Runs all, then says what failed.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

const FOLDERS = ['src', 'actors', 'examples', 'test', 'bench', 'scripts'].filter((folder) => existsSync(folder));

const STEPS = [
  // A build, not --noEmit: the tests below run the compiled files.
  ['types', ['typescript/bin/tsc', '-p', 'tsconfig.json', '--pretty', 'false']],
  ['page', ['typescript/bin/tsc', '-p', 'src/dashboard/browser', '--pretty', 'false']],
  ['lint', ['oxlint/bin/oxlint', '--type-aware', '--deny-warnings', ...FOLDERS]],
  ['format', ['@biomejs/biome/bin/biome', 'format']],
  ['tidy', ['ava/entrypoints/cli.mjs', 'dist/test/tidy.test.js']],
  ['supply', ['ava/entrypoints/cli.mjs', 'dist/test/supply.test.js']],
  ['docs', ['ava/entrypoints/cli.mjs', 'dist/test/docs.test.js']],
];

const failed = [];
for (const [name, [script, ...rest]] of STEPS) {
  const startedAt = performance.now();
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [`node_modules/${script}`, ...rest], {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const isGood = status === 0;
  process.stdout.write(`${isGood ? 'ok  ' : 'FAIL'} ${name.padEnd(8)} ${seconds.padStart(6)} s\n`);
  if (isGood) continue;
  failed.push(name);
  process.stdout.write(`${stdout ?? ''}${stderr ?? ''}${error === undefined ? '' : `${String(error)}\n`}`);
}
if (failed.length > 0) process.stdout.write(`check failed: ${failed.join(', ')}\n`);
process.exitCode = failed.length > 0 ? 1 : 0;
