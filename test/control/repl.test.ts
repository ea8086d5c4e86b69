import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { createSystem, silentLog, type System } from 'troupe';
import { completionsFor } from '../../src/control/repl-completion.js';
import { VERB_NAMES, VERBS } from '../../src/control/grammar.js';
import { connectControl } from 'troupe';
import { echo, stand } from './stand.js';

async function systemWith(t: ExecutionContext, ...pools: readonly string[]): Promise<System> {
  const system = createSystem({ name: 'demo', log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  for (const name of pools) await system.spawn(name, { actor: echo });
  return system;
}

/** What the session shows for each line. */
async function type(
  system: System,
  lines: readonly string[],
  options: { readonly write?: boolean } = {},
): Promise<string[]> {
  const input = new PassThrough();
  const output = new PassThrough();
  let text = '';
  output.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  input.end(`${lines.join('\n')}\n`);
  await system.repl({ ...options, input, output });
  await new Promise((resolve) => setImmediate(resolve));
  return text
    .split(/demo(?: \(write\))?> /)
    .slice(1)
    .map((part) => part.replace(/\n$/, ''));
}

test('a verb is awaited and shown as a table, as words or as a call, and JavaScript goes on around it', async (t) => {
  const system = await systemWith(t, 'echo');
  const shown = await type(
    system,
    [
      'ps',
      'scale echo 2',
      "scale('echo', 3)",
      'const before = await ps()',
      'before.pools[0].ready',
      '(await stats("echo")).replicas.length',
      'ask echo {"a": [1, 2]}',
      "ask('echo', { text: 'a ) b' }, { timeoutMs: 500 });",
      '[1,',
      '2].length',
      'swap echo 2.0',
      'versions echo',
    ],
    { write: true },
  );
  t.regex(shown[0] ?? '', /^demo, pid \d+, up .*\n\npool +state +version +ready[\s\S]*\necho +running +- +1\/1 /);
  t.regex(shown[1] ?? '', /\necho +running +- +2\/2 /);
  t.regex(shown[2] ?? '', /\necho +running +- +3\/3 /);
  t.deepEqual(shown.slice(3, 8), ['', '3', '3', '{ a: [ 1, 2 ] }', "{ text: 'a ) b' }"]);
  t.regex(shown[8] ?? '', /^(?:\.\.\.|\|) 2$/, 'what Node asks for the rest of a line with differs by its version');
  t.regex(shown[9] ?? '', /\necho +running +2\.0 +3\/3 /);
  t.is(shown[10], 'current   2.0\nreplicas  2.0: 3');
});

test('without write nothing is changed, and the session says how to', async (t) => {
  const system = await systemWith(t, 'echo');
  const shown = await type(system, [
    'scale echo 2',
    'ask("echo", 1)',
    'drain echo',
    'swap echo 2',
    'restart echo',
    'ps',
  ]);
  for (const text of shown.slice(0, 5))
    t.regex(text, /^CONTROL_REFUSED: .* may only read; start the REPL with --write$/);
  t.regex(shown[5] ?? '', /\necho +running +- +1\/1 +0\/1,024 +0 +0 /);
});

test('what went wrong is one line with what there is, never a stack', async (t) => {
  const system = await systemWith(t, 'echo', 'other');
  const shown = await type(
    system,
    [
      'stats ecoh',
      'swap echo',
      'scale("echo")',
      'scale echo 1 2',
      'scale echo x',
      'promote echo',
      'rollback echo',
      'ask echo "bad"',
    ],
    { write: true },
  );
  t.deepEqual(shown.slice(0, 8), [
    'POOL_NOT_FOUND: There is no pool "ecoh"; did you mean echo? The pools are echo, other',
    'TypeError: swap: it takes a version; usage: swap POOL VERSION [--canary N] [--bake-ms N] …',
    'TypeError: scale: replicas: must be a number',
    'TypeError: scale: "2" is too much; usage: scale POOL REPLICAS',
    'TypeError: scale: replicas must be a number, got "x"; usage: scale POOL REPLICAS',
    'NO_ROLLOUT: Pool "echo", version none: nothing to promote: no version is on trial',
    'NO_ROLLOUT: Pool "echo", version none: nothing to rollback: no version is being rolled out, and none served before',
    'PREDICT_FAILED: predict of actor "echo" failed: unlucky',
  ]);
});

test('help is enough to begin with: every verb with its example, and one verb with its options', async (t) => {
  const system = await systemWith(t, 'echo');
  const [help = '', bare = '', one = '', two = '', dot = '', words = '', strange = ''] = await type(system, [
    'help()',
    'help',
    'help("swap")',
    'canary',
    '.help',
    'help swap',
    'help nothing;',
  ]);
  for (const name of VERB_NAMES) t.true(help.includes(VERBS[name].example), name);
  t.regex(help, /Change \(needs --write\):/);
  t.is(bare, help);
  t.is(dot, help);
  t.is(words, one);
  t.is(strange, help);
  t.regex(one, /^swap POOL VERSION .*\n {2}swap\('filetype', 2\)\n {2}--canary, canary /);
  t.regex(two, /^canary POOL VERSION \[SHARE\]/);
});

test('exit and quit leave, and nothing after them runs', async (t) => {
  for (const word of ['exit', 'quit;']) {
    const system = await systemWith(t, 'echo');
    const shown = await type(system, ['1 + 1', word, 'scale echo 3'], { write: true });
    t.is(shown[0], '2');
    t.is(system.get('echo')?.stats().replicas.length, 1, word);
  }
});

test('a share that is none is told as one', async (t) => {
  const system = await systemWith(t, 'echo');
  const [text = ''] = await type(system, ['canary echo 2 10'], { write: true });
  t.is(text, 'TypeError: canary: share: must be a share above 0 and below 1, such as 0.1 for a tenth');
});

test('a name that JavaScript takes is JavaScript: an assignment, a property, a function of a user', async (t) => {
  const system = await systemWith(t, 'echo');
  const shown = await type(system, [
    'const psalm = 3',
    'psalm',
    'ps.length',
    'typeof tail',
    'const scaled = [1].map((n) => n * 2); scaled[0]',
    'Object.getPrototypeOf(await ps()) === Object.prototype',
  ]);
  t.deepEqual(shown.slice(0, 5), ['', '3', '0', "'function'", '2']);
});

test('values from actors reach the terminal without what it would obey', async (t) => {
  const system = await systemWith(t, 'echo');
  await system.spawn('evil', {
    actor: { predict: (batch: readonly unknown[]) => batch.map(() => new Error('\u001b[2Jgone\u009b')) },
  });
  const shown = await type(
    system,
    ['ask echo "\\u001b[2J\\u0007"', 'ask evil 1', '(await control.ask("echo", "\\u009b31m")).value', "'\\u202eabc'"],
    { write: true },
  );
  t.notRegex(shown.join(''), /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  t.regex(shown[1] ?? '', /gone/);
});

test('top is one table where nobody can interrupt it, and a name of JavaScript where it is more than that', async (t) => {
  const system = await systemWith(t, 'echo');
  const [words = '', call = '', sum = ''] = await type(system, ['top', 'top();', 'top.length + 1']);
  for (const text of [words, call]) {
    t.regex(
      text,
      /^demo, pid \d+, up .*\n\npool +state [\s\S]*\necho +running [\s\S]*\npool +results\/s +errors\/s\necho +- +-$/,
    );
  }
  t.is(sum, '1');
});

test('tail and top show what happens until they are interrupted, and the session goes on', async (t) => {
  const system = await systemWith(t, 'echo');
  const input = new PassThrough();
  const output = Object.assign(new PassThrough(), { isTTY: true, columns: 200, rows: 50 });
  let text = '';
  let wake = (): void => undefined;
  output.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    wake();
  });
  const until = async (wanted: RegExp): Promise<void> => {
    while (!wanted.test(text)) await new Promise<void>((resolve) => (wake = resolve));
    text = '';
  };
  const historyFile = join(mkdtempSync(join(tmpdir(), 'tc-')), 'history');
  const session = system.repl({ write: true, input, output, historyFile });
  await until(/demo \(write\)> /);
  input.write('tail echo\r');
  await until(/echo {2}ready {2}replica 0 is ready/);
  await system.get('echo')?.scale(2);
  await until(/echo {2}scaled {2}1 -> 2 replicas: somebody asked for it/);
  input.write('\u0003');
  await until(/demo \(write\)> /);
  input.write('top\r');
  await until(/\u001b\[\?1049h[\s\S]*echo +running/);
  input.write('\u0003');
  await until(/\u001b\[\?1049l[\s\S]*demo \(write\)> /);
  input.write('sca\t');
  await until(/scale/);
  input.write(' ec\t');
  await until(/echo/);
  input.write(' 3\r');
  await until(/3\/3/);
  input.write('.exit\r');
  await session;
  t.is(system.get('echo')?.stats().replicas.length, 3);
  t.regex(readFileSync(historyFile, 'utf8'), /scale echo 3\ntop\ntail echo/);
  t.is(statSync(historyFile).mode & 0o777, 0o600);
});

test('pools, versions and verbs are completed where they may stand, JavaScript elsewhere', async (t) => {
  const { system, socket } = await stand(t, { pools: ['filetype', 'files', 'other'] });
  await using control = await connectControl(socket);
  const found = async (line: string) => (await completionsFor(line, control))?.[0];
  t.deepEqual(await found('sc'), ['scale']);
  t.deepEqual(await found('swap fi'), ['filetype', 'files']);
  t.deepEqual(await found("swap('file"), ["'filetype'", "'files'"]);
  t.deepEqual(await found('const x = await stats("o'), ['"other"']);
  t.deepEqual(await found('swap filetype '), []);
  t.deepEqual(await found('scale filetype '), []);
  t.deepEqual(await found('help dr'), ['drain']);
  await system.spawn('many', { actor: echo, models: { list: ['de', 'fr', 'frisian'], maxBytes: 10 } });
  t.deepEqual(await found('unload many '), ['de', 'fr', 'frisian']);
  t.deepEqual(await found("preload('many', 'fr"), ["'fr'", "'frisian'"]);
  t.is(await found('Math.ma'), undefined);
  t.is(await found('const y = mat'), undefined);
});

test('options of repl that do not exist or do not fit are refused', async (t) => {
  const system = await systemWith(t);
  await t.throwsAsync(system.repl({ wirte: true } as object), {
    instanceOf: TypeError,
    message: /unknown option "wirte"/,
  });
  await t.throwsAsync(system.repl({ write: 1 as unknown as boolean }), {
    instanceOf: TypeError,
    message: /write must be/,
  });
});

test('a program that imports the library keeps plain events: node:domain comes with the first REPL', async (t) => {
  const look = "import 'troupe'; import events from 'node:events'; console.log(events.usingDomains)";
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', look]);
  t.is(stdout.trim(), 'false');
});
