import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../../', import.meta.url));

test('the config example recognises every page of the documentation', async (t) => {
  t.timeout(120_000);
  const command = `${root}dist/src/cli/main.js`;
  const { stdout } = await run(process.execPath, [command, 'run', '--quiet', `${root}examples/config/troupe.yaml`]);
  const lines = stdout.trimEnd().split('\n');
  const types = lines.map((line) => (JSON.parse(line) as { type: string }).type);
  const pages = readdirSync(`${root}docs`, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  t.is(lines.length, pages.length);
  t.true(types.filter((type) => type === 'markdown').length >= types.length / 2, types.join(' '));
});
