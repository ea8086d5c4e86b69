// Pythons of others: `pythonOf` makes an environment for each, with packages of exactly these versions, and makes it anew when
// they change. As a command, `node scripts/python.mjs NAME KNOWN PACKAGE==VERSION ...` prints { bin, versions } or { why }.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const INSTALL_MS = 600_000;
export const TRITONCLIENT = 'tritonclient[http,grpc]==2.73.0';
export const VENVS = fileURLToPath(new URL('../node_modules/.cache/troupe-interop', import.meta.url));

/**
 * A Python with the packages of `requirement` (separated by blanks) in it, as { bin, versions }, or { why } there is none.
 * `known` is the package whose version is told.
 */
export async function pythonOf(name, requirement, known) {
  const dir = path.join(VENVS, name);
  const bin = path.join(dir, 'bin/python');
  const mark = path.join(dir, 'requirement');
  try {
    if (!existsSync(mark) || readFileSync(mark, 'utf8') !== requirement) {
      rmSync(dir, { recursive: true, force: true });
      mkdirSync(VENVS, { recursive: true });
      await run('python3', ['-m', 'venv', dir]);
      await run(bin, ['-m', 'pip', 'install', '-q', ...requirement.split(' ')], { timeout: INSTALL_MS });
      writeFileSync(mark, requirement);
    }
    const words = `import sys, importlib.metadata as m; print("Python", sys.version.split()[0] + ",", "${known}", m.version("${known}"))`;
    return { bin, versions: (await run(bin, ['-c', words])).stdout.trim() };
  } catch (error) {
    return {
      why: `no Python with ${requirement}: ${String(error.stderr || error.message)
        .trim()
        .split('\n')
        .at(-1)}`,
    };
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [name, known, ...packages] = process.argv.slice(2);
  process.stdout.write(`${JSON.stringify(await pythonOf(name, packages.join(' '), known))}\n`);
}
