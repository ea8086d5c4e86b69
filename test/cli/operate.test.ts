import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { createSystem, silentLog, type System } from 'troupe';
import { VERBS } from '../../src/control/grammar.js';
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
  t.regex(help.out, /^troupe swap POOL VERSION \[--canary N\]/);
  for (const { name } of VERBS.swap.options)
    t.true(help.out.includes(`--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)} `), name);
  t.regex(help.out, /--socket .*\n.*--json/);
  t.deepEqual(await troupe(['help', 'swap']), help);
  t.regex((await troupe(['tail', '-h'])).out, /--last [\s\S]*--follow /);
  t.regex((await troupe(['dead-letters', 'recent', '--help'])).out, /^troupe dead-letters recent \[PIPELINE\]/);
  t.deepEqual(await troupe(['help']), await troupe(['--help']));
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

/** A command that goes on while the test does other things. */
function begun(words: readonly string[]): {
  readonly stdin: PassThrough;
  /** Resolves when what it has said since the last call matches. */
  until(wanted: RegExp): Promise<void>;
  readonly stop: AbortController;
  readonly ended: Promise<ExitCode>;
} {
  const stop = new AbortController();
  const stdin = new PassThrough();
  const stdout = new PassThrough();
  let text = '';
  let wake = (): void => undefined;
  const heard = (more: string): void => {
    text += more;
    wake();
  };
  stdout.setEncoding('utf8').on('data', heard);
  const { signal } = new AbortController();
  const stderr = { write: heard };
  const ended = runCommand(words, { stdin, stdout, stderr, env: {}, stop: stop.signal, kill: signal });
  const until = async (wanted: RegExp): Promise<void> => {
    for (;;) {
      const found = wanted.exec(text);
      if (found !== null) {
        text = text.slice(found.index + found[0].length);
        return;
      }
      await new Promise<void>((resolve) => (wake = resolve));
    }
  };
  return { stdin, until, stop, ended };
}

async function again(t: ExecutionContext, socket: string): Promise<System> {
  const system = createSystem({ name: 'stand', log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  await system.openControl({ socket });
  await system.spawn('echo', { actor: echo });
  return system;
}

test('a session outlives a restart of the system: it says so, and what is typed meanwhile fails with a reason', async (t) => {
  const { socket, system } = await stand(t);
  const repl = begun(['repl', socket, '--write']);
  repl.stdin.write('ps\n');
  await repl.until(/echo +running/);
  await system.stop();
  await repl.until(/the system ended the connection\. Trying to get back to stand/);
  repl.stdin.write('scale echo 2\n');
  await repl.until(/CONTROL_UNREACHABLE: There is no connection to stand now, so scale was not sent/);
  const next = await again(t, socket);
  await repl.until(/Connected to stand again \(pid \d+/);
  repl.stdin.write('scale echo 3\n');
  await repl.until(/3\/3/);
  t.is(next.get('echo')?.stats().replicas.length, 3);
  repl.stdin.end('.exit\n');
  t.is(await repl.ended, 0);
});

test('top shows that the system is away, and goes on when it is back; so many tables and no more end with it', async (t) => {
  const { socket, system } = await stand(t);
  const top = begun(['top', '--every-ms', '100', '--socket', socket]);
  const scripted = begun(['top', '--every-ms', '100', '--count', '1000000', '--socket', socket]);
  await top.until(/results\/s/);
  await scripted.until(/results\/s/);
  await system.stop();
  await top.until(/AWAY: .*ps was not sent[\s\S]*echo +running/);
  t.is(await scripted.ended, 1);
  await again(t, socket);
  await top.until(/stand, pid \d+, up .*\n\npool .*\necho +running[\s\S]*results\/s/);
  top.stop.abort();
  t.is(await top.ended, 0);
});

test('tail --follow goes on with a system that is started again, and says nothing twice', async (t) => {
  const { socket, system } = await stand(t);
  const plain = begun(['tail', 'echo', '--socket', socket]);
  const tail = begun(['tail', 'echo', '--follow', '--socket', socket]);
  await plain.until(/replica 0 is ready/);
  await tail.until(/replica 0 is ready/);
  await system.stop();
  t.is(await plain.ended, 1, 'without it the end of the system is its end');
  await tail.until(/Trying to get back to stand/);
  const next = await again(t, socket);
  await next.get('echo')?.scale(2);
  await tail.until(/1 -> 2 replicas/);
  tail.stop.abort();
  t.is(await tail.ended, 0);
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
