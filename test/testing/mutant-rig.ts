import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';

/** One deliberate defect. */
export interface Mutant {
  readonly name: string;
  /** Compiled, below dist/src. */
  readonly file: string;
  /** Stands exactly once in it. */
  readonly from: string;
  readonly to: string;
}

export interface Campaign {
  readonly seeds: number;
  readonly violations: readonly { readonly checker: string; readonly seed: number; readonly what: string }[];
}

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const run = promisify(execFile);

/** Copies of the compiled code, each with one defect. */
export class MutantRig {
  readonly #dirs: string[] = [];

  /** Runs the simulator of the copy; undefined: the code as it is. */
  async simulate(t: ExecutionContext, mutant: Mutant | undefined, args: readonly string[]): Promise<Campaign> {
    const dir = await this.#copy(t, mutant, ['src']);
    const command = [join(dir, 'dist/src/testing/simulate.js'), '--first', '--json', ...args];
    // Exit code 1 says that something was found.
    const { stdout } = await run(process.execPath, command).catch((error: { code: number; stdout: string }) => {
      if (error.code !== 1 || error.stdout === '') throw error;
      return error;
    });
    return JSON.parse(stdout) as Campaign;
  }

  /** Runs one file of the tests, or `only` those of a title, against the copy: the titles of those that fail. */
  async test(t: ExecutionContext, mutant: Mutant | undefined, file: string, only?: string): Promise<readonly string[]> {
    const dir = await this.#copy(t, mutant, ['src', 'test']);
    await cp(join(ROOT, 'ava.config.js'), join(dir, 'ava.config.js'));
    await symlink(join(ROOT, 'test'), join(dir, 'test'));
    const ava = join(ROOT, 'node_modules/ava/entrypoints/cli.mjs');
    const match = only === undefined ? [] : [`--match=${only}`];
    const { stdout } = await run(process.execPath, [ava, '--tap', '--timeout=20s', ...match, file], {
      cwd: dir,
      maxBuffer: 2 ** 26,
    }).catch((error: { code: number; stdout: string }) => {
      if (error.code !== 1) throw error;
      return error;
    });
    t.regex(stdout, /^(not )?ok /m, `${file} ran`);
    return stdout.split('\n').flatMap((line) => /^not ok (?:\d+ )?- (.*)/.exec(line)?.[1] ?? []);
  }

  async #copy(t: ExecutionContext, mutant: Mutant | undefined, folders: readonly string[]): Promise<string> {
    const dir = await mkdtemp(join(tmpdir(), 'troupe-mutant-'));
    this.#dirs.push(dir);
    await cp(join(ROOT, 'package.json'), join(dir, 'package.json'));
    await symlink(join(ROOT, 'node_modules'), join(dir, 'node_modules'));
    for (const folder of folders) {
      await cp(join(ROOT, 'dist', folder), join(dir, 'dist', folder), {
        recursive: true,
        filter: (path) => !/\.(map|d\.ts)$/.test(path),
      });
    }
    if (mutant === undefined) return dir;
    const path = join(dir, 'dist/src', mutant.file);
    const text = await readFile(path, 'utf8');
    t.is(text.split(mutant.from).length, 2, `the text to change stands exactly once in ${mutant.file}`);
    await writeFile(
      path,
      text.replace(mutant.from, () => mutant.to),
    );
    return dir;
  }

  async dispose(): Promise<void> {
    await Promise.all(this.#dirs.map((dir) => rm(dir, { recursive: true, force: true })));
  }
}
