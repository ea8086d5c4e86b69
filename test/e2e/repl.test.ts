import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** The lines a user types by the page on swapping, and what it says comes back. */
async function session(): Promise<{ typed: string[]; shown: string[] }> {
  const page = await readFile(`${root}docs/swapping.md`, 'utf8');
  const block = /```console\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
  const lines = block.trim().split('\n');
  return {
    typed: lines.filter((line) => line.startsWith('> ')).map((line) => line.slice(2)),
    shown: lines.filter((line) => !line.startsWith('> ')),
  };
}

test('the REPL session of the page on swapping swaps a model as written', async (t) => {
  t.timeout(60_000);
  const { typed, shown } = await session();
  t.true(typed.some((line) => line.includes('swap(2)')));
  t.true(shown.length > 0);
  const repl = spawn(process.execPath, ['-i'], { cwd: root, stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => repl.kill('SIGKILL'));
  let output = '';
  const prompts = () => output.split('> ').length - 1;
  let wake = (): void => undefined;
  repl.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    wake();
  });
  const until = async (count: number) => {
    while (prompts() < count) await new Promise<void>((resolve) => (wake = resolve));
  };
  await until(1);
  for (const [index, line] of typed.entries()) {
    repl.stdin.write(`${line}\n`);
    await until(index + 2);
  }
  repl.stdin.end('.exit\n');
  for (const line of shown) t.true(output.includes(line), `"${line}" in:\n${output}`);
  t.false(output.includes('Uncaught'), output);
});
