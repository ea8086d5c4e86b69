import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import test from 'ava';
import { createSystem, silentLog } from 'troupe';
import { type ExitCode, runCommand } from '../../src/cli/command.js';
import { echo, stand } from '../control/stand.js';

interface Ran {
  readonly code: ExitCode;
  readonly out: string;
  readonly err: string;
}

async function troupe(
  words: readonly string[],
  more: { readonly stdin?: string; readonly stop?: AbortSignal; readonly heard?: (out: string) => void } = {},
): Promise<Ran> {
  let err = '';
  const stdout = new PassThrough();
  let out = '';
  stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
    more.heard?.(out);
  });
  const stdin = new PassThrough();
  stdin.end(more.stdin ?? '');
  const signal = new AbortController().signal;
  const code = await runCommand(words, {
    stdin,
    stdout,
    stderr: { write: (text) => void (err += text) },
    env: {},
    stop: more.stop ?? signal,
    kill: signal,
  });
  await new Promise((resolve) => setImmediate(resolve));
  return { code, out, err };
}

test('one command says one thing to a running system and prints its answer', async (t) => {
  const { socket, system } = await stand(t);
  const at = ['--socket', socket];
  const ps = await troupe(['ps', ...at]);
  t.is(ps.code, 0, ps.err);
  t.regex(ps.out, /^stand, pid \d+, up .*\n\npool .*\necho +running +- +1\/1/);
  t.regex((await troupe(['scale', 'echo', '2', ...at])).out, /\necho +running +- +2\/2/);
  t.is(system.get('echo')?.stats().replicas.length, 2);
  t.regex((await troupe(['swap', 'echo', '2', ...at])).out, /\necho +running +2 +2\/2/);
  t.is((await troupe(['versions', 'echo', ...at])).out, 'current   2\nreplicas  2: 2\n');
  t.is((await troupe(['ask', 'echo', '{"a":[1,2]}', ...at])).out, '{ a: [ 1, 2 ] }\nby version 2\n');
  t.regex((await troupe(['stats', 'echo', ...at])).out, /^mailbox\.capacity +1,024$/m);
  t.is((await troupe(['dead-letters', 'recent', ...at])).out, 'nothing failed\n');
  t.regex((await troupe(['restart', 'echo', ...at])).out, /\necho +running/);
  t.regex((await troupe(['drain', 'echo', ...at])).out, /\necho +draining/);
});

test('--json prints one object and nothing else, also for what went wrong', async (t) => {
  const { socket } = await stand(t);
  const at = [`--socket=${socket}`, '--json'];
  const ps = await troupe(['ps', ...at]);
  t.is((JSON.parse(ps.out) as { system: string }).system, 'stand');
  t.is(ps.out.trimEnd().split('\n').length, 1);
  const wrong = await troupe(['stats', 'ecoh', ...at]);
  t.is(wrong.code, 1);
  t.deepEqual(JSON.parse(wrong.out), {
    error: {
      name: 'TroupeError',
      code: 'POOL_NOT_FOUND',
      message: 'There is no pool "ecoh"; did you mean echo? The pools are echo',
    },
  });
  const misused = await troupe(['scale', 'echo', '0', ...at]);
  t.is(misused.code, 2);
  t.is((JSON.parse(misused.out) as { error: { name: string } }).error.name, 'TypeError');
});

test('wrong words end with 2 before anybody is connected to, and say how the command is used', async (t) => {
  for (const [words, message] of [
    [['swpa', 'x', '1'], /did you mean swap\?/],
    [['swap', 'x'], /swap: it takes a version; usage: swap POOL VERSION/],
    [['ps', '--jsno'], /ps: it has no option --jsno/],
    [['ask', 'x', 'hello'], /record must be JSON/],
    [['top', '--every-ms', '1'], /--every-ms must be a number from 100/],
    [['repl', 'a', 'b'], /repl takes one socket/],
    [['repl', '--wirte'], /--wirte/],
    [['tail', '--socket'], /--socket takes the path/],
    [['dead-letters', 'recnet'], /did you mean recent\?/],
  ] as const) {
    const { code, out, err } = await troupe(words);
    t.is(code, 2, words.join(' '));
    t.is(out, '');
    t.regex(err, message);
  }
  const help = await troupe(['swap', '--help']);
  t.regex(help.out, /troupe swap POOL VERSION \[--canary N\]/);
});

test('tail prints what happens until it is stopped, as text or as lines of JSON', async (t) => {
  const { socket, system } = await stand(t);
  for (const [replicas, json] of [
    [2, []],
    [3, ['--json']],
  ] as const) {
    const stop = new AbortController();
    let wasChanged = false;
    const { code, out, err } = await troupe(['tail', 'echo', '--last', '1', '--socket', socket, ...json], {
      stop: stop.signal,
      // With the first line, of the past, it is on; what is looked for comes after it.
      heard: (text) => {
        if (!wasChanged) void system.get('echo')?.scale(replicas);
        wasChanged = true;
        if (text.includes(`-> ${replicas} replicas`)) stop.abort();
      },
    });
    t.is(code, 0, err);
    const line = out.split('\n').find((text) => text.includes(`-> ${replicas} replicas`)) ?? '';
    if (json.length === 0)
      t.regex(line, /^\d\d:\d\d:\d\d\.\d{3} {2}echo {2}scaled {2}1 -> 2 replicas: somebody asked for it$/);
    else t.like(JSON.parse(line), { kind: 'scaled', pool: 'echo', message: '2 -> 3 replicas: somebody asked for it' });
  }
});

test('top shows a table again and again, with rates from the second on', async (t) => {
  const { socket, system } = await stand(t);
  void system.get('echo')?.askMany(Array.from({ length: 500 }, (_, index) => index));
  const { code, out, err } = await troupe(['top', '--count', '2', '--every-ms', '100', '--socket', socket]);
  t.is(code, 0, err);
  t.is(out.match(/^stand, pid/gm)?.length, 2);
  t.regex(out, /pool +results\/s +errors\/s\necho +- +-\n[\s\S]*pool +results\/s +errors\/s\necho +[\d.,]+ +0\n$/);
});

test('a session over the socket is read-only unless --write, and the system goes on after it', async (t) => {
  const { socket, system } = await stand(t);
  const looked = await troupe(['repl', socket], { stdin: 'scale echo 2\n(await ps()).pools[0].ready\n' });
  t.is(looked.code, 0);
  t.regex(looked.err, /^Connected to stand \(pid \d+\); read-only: --write to change it\./);
  t.regex(looked.out, /CONTROL_REFUSED: .*start the REPL with --write\n.*> 1\n/);
  const changed = await troupe(['repl', '--socket', socket, '--write'], { stdin: 'scale echo 2\n' });
  t.regex(changed.out, /2\/2/);
  t.is(await system.get('echo')?.ask(1), 1);
});

test.serial('without --socket the only system that runs is meant; none or several are said', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'tc-'));
  const before = { runtime: process.env['XDG_RUNTIME_DIR'], cwd: process.cwd() };
  process.env['XDG_RUNTIME_DIR'] = dir;
  process.chdir(dir);
  t.teardown(() => {
    process.chdir(before.cwd);
    if (before.runtime === undefined) delete process.env['XDG_RUNTIME_DIR'];
    else process.env['XDG_RUNTIME_DIR'] = before.runtime;
    rmSync(dir, { recursive: true });
  });
  const none = await troupe(['ps']);
  t.is(none.code, 1);
  t.regex(
    none.err,
    /CONTROL_UNREACHABLE: no running system found at .*\/troupe\/\*\.sock; start one whose config has "control: \{\}"/,
  );

  await using one = createSystem({ name: 'one', log: silentLog });
  await one.spawn('echo', { actor: echo });
  await one.openControl();
  t.regex((await troupe(['ps'])).out, /^one, pid/);

  await using two = createSystem({ name: 'two', log: silentLog });
  await two.openControl();
  const both = await troupe(['ps']);
  t.is(both.code, 1);
  t.regex(both.err, /2 systems run here; say which is meant: one: --socket .*one\.sock, two: --socket .*two\.sock/);

  writeFileSync('troupe.yaml', 'name: two\ncontrol: {}\n');
  t.regex((await troupe(['ps'])).out, /^two, pid/);
  writeFileSync('troupe.yaml', 'name: [broken\n');
  t.is((await troupe(['ps'])).code, 1);
  await two.stop();
  t.regex((await troupe(['ps'])).out, /^one, pid/);
});
