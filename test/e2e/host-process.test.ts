import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import test from 'ava';
import type { Death } from '../../src/host/link.js';
import type { ErrorCode, TroupeError } from '../../src/kernel/errors.js';
import { type Recorded, record, SCRIPTED, specOf } from '../host/recorder.js';

const LONE_HOST = fileURLToPath(new URL('../host/lone-host.js', import.meta.url));

async function dies(actor: Recorded, command: object): Promise<Death> {
  await actor.ready;
  await actor.ask([command]).catch(() => undefined);
  return actor.exited;
}

const deaths: readonly (readonly [name: string, command: object, death: Partial<Death>, code: ErrorCode])[] = [
  ['process.exit(0) without a reply', { do: 'exit', code: 0 }, { cause: 'exit', exitCode: 0 }, 'ACTOR_CRASHED'],
  ['process.exit(3) without a reply', { do: 'exit', code: 3 }, { cause: 'exit', exitCode: 3 }, 'ACTOR_CRASHED'],
  ['an abort', { do: 'abort' }, { cause: 'crash', signal: 'SIGABRT' }, 'ACTOR_CRASHED'],
  ['SIGSEGV', { do: 'signal', signal: 'SIGSEGV' }, { cause: 'crash', signal: 'SIGSEGV' }, 'ACTOR_CRASHED'],
  ['SIGBUS', { do: 'signal', signal: 'SIGBUS' }, { cause: 'crash', signal: 'SIGBUS' }, 'ACTOR_CRASHED'],
  ['SIGKILL', { do: 'signal', signal: 'SIGKILL' }, { cause: 'killed', signal: 'SIGKILL' }, 'ACTOR_CRASHED'],
  ['an uncaught throw', { do: 'throw-late' }, { cause: 'crash', exitCode: 1 }, 'ACTOR_CRASHED'],
  ['a late rejection', { do: 'reject-late' }, { cause: 'crash', exitCode: 1 }, 'ACTOR_CRASHED'],
];
for (const [name, command, expected, code] of deaths) {
  test.serial(`process: ${name} is a death by ${expected.cause}`, async (t) => {
    const actor = record(specOf('process'));
    const death = await dies(actor, command);
    t.like(death, expected);
    t.is((death.error as TroupeError).code, code);
    t.regex((death.error as TroupeError).message, new RegExp(expected.signal ?? `exit code ${expected.exitCode}`));
    t.is(actor.told.at(-1), 'exited');
    if (name === 'a late rejection') t.like((death.error as Error).cause, { code: 'E_LATE', message: 'too late' });
  });
}

test.serial('process: a SIGTERM from outside lets the running batch finish and is told as killed', async (t) => {
  const actor = record(specOf('process'));
  const { pid } = await actor.ready;
  const running = actor.ask(['until-abandoned']);
  await actor.link.call('loads', []); // The batch is in the child by now or soon.
  await new Promise((resolve) => setTimeout(resolve, 50));
  process.kill(pid, 'SIGTERM');
  await new Promise((resolve) => setTimeout(resolve, 50));
  actor.link.abandon(1);
  t.is((await running).kind, 'reply');
  t.like(await actor.exited, { cause: 'killed', signal: 'SIGTERM' });
});

for (const command of ['loop', 'wait']) {
  test.serial(`process: kill ends a child stuck in ${command} at once`, async (t) => {
    const actor = record(specOf('process'));
    await actor.ready;
    const asked = actor.ask([{ do: command }]).catch(() => 'lost');
    await new Promise((resolve) => setTimeout(resolve, 700));
    t.deepEqual(actor.told, ['ready'], 'a blocked loop still has a heartbeat');
    actor.link.kill('hung');
    t.is(await asked, 'lost');
    t.like(await actor.exited, { cause: 'hung', signal: 'SIGKILL' });
  });
}

test.serial('process: a stopped child is hung after two missed beats, and a late reply is never told', async (t) => {
  const actor = record(specOf('process', { heartbeatMs: 200 }));
  const { pid } = await actor.ready;
  const asked = actor.ask(['late']).catch(() => 'lost');
  process.kill(pid, 'SIGSTOP');
  const from = performance.now();
  const death = await actor.exited;
  t.is(death.cause, 'hung');
  t.is((death.error as TroupeError).code, 'ACTOR_HUNG');
  const tookMs = performance.now() - from;
  t.log(`noticed after ${Math.round(tookMs)} ms`);
  t.true(tookMs >= 200 && tookMs < 5000);
  await asked;
  t.is(actor.told.at(-1), 'exited');
});

test.serial('process: a child that gets a fifth of its time beats by the clock, and is not hung', async (t) => {
  const actor = record(specOf('process', { heartbeatMs: 1000, memoryLimitBytes: 2 ** 30 }));
  const { pid } = await actor.ready;
  for (const until = performance.now() + 5000; performance.now() < until; ) {
    process.kill(pid, 'SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 80));
    process.kill(pid, 'SIGCONT');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  t.deepEqual(actor.told, ['ready']);
  actor.link.stop();
  t.like(await actor.exited, { cause: 'stopped' });
});

test.serial('process: a stop ladder ends in SIGKILL for a child that ignores everything', async (t) => {
  const actor = record(specOf('process', { stopTimeoutMs: 200 }));
  await actor.ready;
  actor.ask([{ do: 'loop' }]).catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 50));
  actor.link.stop();
  t.like(await actor.exited, { cause: 'stopped', signal: 'SIGKILL' });
});

test.serial('process: the fatal error of V8 on heap exhaustion is told as oom', async (t) => {
  const before = process.env['NODE_OPTIONS'];
  process.env['NODE_OPTIONS'] = `${before ?? ''} --max-old-space-size=64`;
  const actor = record(specOf('process'));
  if (before === undefined) delete process.env['NODE_OPTIONS'];
  else process.env['NODE_OPTIONS'] = before;
  const death = await dies(actor, { do: 'heap' });
  t.is(death.cause, 'oom');
  t.is((death.error as TroupeError).code, 'ACTOR_OOM');
});

test.serial('process: memory outside the heap counts too', async (t) => {
  const actor = record(specOf('process', { memoryLimitBytes: 256 * 2 ** 20 }));
  t.is((await dies(actor, { do: 'buffers' })).cause, 'oom');
});

test.serial('process: a record that cannot be copied fails alone', async (t) => {
  await using actor = record(specOf('process'));
  await actor.ready;
  const hostile = {
    get field(): never {
      throw new Error('no reading');
    },
  };
  const answer = await actor.ask(['a', () => 1, hostile, { do: 'function' }, 'e']);
  if (answer.kind !== 'reply') return t.fail(answer.error.message);
  t.deepEqual(
    answer.results.map((result) => (result.ok ? result.value : result.error.code)),
    ['a', 'INPUT_INVALID', 'INPUT_INVALID', 'PREDICT_FAILED', 'e'],
  );
});

test.serial('process: megabytes cross whole in both directions, batch after batch', async (t) => {
  await using actor = record(specOf('process'));
  await actor.ready;
  const inputs = Array.from({ length: 4 }, (_, index) => new Float32Array(300_000 + index).fill(index + 0.5));
  const answers = await Promise.all([actor.ask(inputs), actor.ask(inputs), actor.ask([{ nested: inputs[3] }])]);
  for (const answer of answers.slice(0, 2)) {
    if (answer.kind !== 'reply') return t.fail(answer.error.message);
    answer.results.forEach((result, index) => {
      const value = result.ok ? (result.value as Float32Array) : new Float32Array();
      t.is(Buffer.compare(Buffer.from(value.buffer), Buffer.from((inputs[index] as Float32Array).buffer)), 0);
    });
  }
  const nested = answers[2];
  t.like(nested, { kind: 'reply', results: [{ ok: true, value: { nested: inputs[3] } }] });
});

test.serial('process: an actor may use threads of its own', async (t) => {
  await using actor = record(specOf('process'));
  await actor.ready;
  t.like(await actor.ask([{ do: 'thread' }]), { kind: 'reply', results: [{ ok: true, value: 1 }] });
});

test.serial('process: what an actor prints goes to stderr of the host', async (t) => {
  const { stdout, stderr } = await new Promise<{ stdout: string; stderr: string }>((resolve, reject) => {
    execFile(process.execPath, [LONE_HOST, 'print'], (error, out, err) =>
      error === null ? resolve({ stdout: out, stderr: err }) : reject(error),
    );
  });
  t.is(stdout, 'done\n');
  t.is(stderr.match(/printed by the actor/g)?.length, 2);
});

test.serial('process: child processes are refused in a worker thread', async (t) => {
  const code = `
    const { parentPort } = require('node:worker_threads');
    import(${JSON.stringify(import.meta.resolve('../host/recorder.js'))}).then(async ({ record, specOf }) => {
      const death = await record(specOf('process')).exited;
      parentPort.postMessage({ cause: death.cause, message: death.error.message });
    });`;
  const worker = new Worker(code, { eval: true });
  const told = await new Promise<{ cause: string; message: string }>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  t.is(told.cause, 'load-failed');
  t.regex(told.message, /main thread only/);
});

test.serial('process: children that are idle, busy or loading vanish after their host was killed', async (t) => {
  t.timeout(30_000);
  const host = spawn(process.execPath, [LONE_HOST, 'orphans', SCRIPTED], { stdio: ['ignore', 'pipe', 'inherit'] });
  const pids = await new Promise<number[]>((resolve) => {
    let text = '';
    host.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      if (text.includes('\n')) resolve(JSON.parse(text) as number[]);
    });
  });
  t.is(pids.length, 3);
  t.true(pids.every(isAlive));
  const gone = new Promise((resolve) => host.once('exit', resolve));
  host.kill('SIGKILL');
  await gone;
  const from = performance.now();
  while (pids.some(isAlive) && performance.now() - from < 5000) await new Promise((resolve) => setTimeout(resolve, 20));
  const tookMs = performance.now() - from;
  t.log(`gone after ${Math.round(tookMs)} ms`);
  t.deepEqual(pids.filter(isAlive), []);
  // One second on an idle machine; the watchdogs need a turn of the processor each.
  t.true(tookMs < 3000);
});

/** A dead orphan may stay a zombie where nobody reaps; kill(pid, 0) would succeed for it. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
