import test from 'ava';
import type { Death } from '../../src/host/link.js';
import type { ErrorCode, TroupeError } from '../../src/kernel/errors.js';
import { record, specOf } from '../host/recorder.js';

const deaths: readonly (readonly [name: string, command: object, cause: Death['cause'], code: ErrorCode])[] = [
  ['process.exit(0) without a reply', { do: 'exit', code: 0 }, 'exit', 'ACTOR_CRASHED'],
  ['process.exit(3) without a reply', { do: 'exit', code: 3 }, 'exit', 'ACTOR_CRASHED'],
  ['an uncaught throw', { do: 'throw-late' }, 'crash', 'ACTOR_CRASHED'],
];
for (const [name, command, cause, code] of deaths) {
  test(`thread: ${name} is a death by ${cause}`, async (t) => {
    const actor = record(specOf('thread'));
    await actor.ready;
    await t.throwsAsync(async () => actor.ask([command]), { any: true });
    const death = await actor.exited;
    t.is(death.cause, cause);
    t.is((death.error as TroupeError).code, code);
    if (cause === 'crash') t.like((death.error as Error).cause, { code: 'E_THROWN_LATE', message: 'thrown late' });
  });
}

test('thread: a rejection nobody handles ends the actor, not the host', async (t) => {
  const actor = record(specOf('thread'));
  await actor.ready;
  await actor.ask([{ do: 'reject-late' }]).catch(() => undefined);
  const death = await actor.exited;
  t.is(death.cause, 'crash');
  t.like((death.error as Error).cause, { code: 'E_LATE' });
});

for (const command of ['loop', 'wait']) {
  test(`thread: kill ends a replica that is stuck in ${command}`, async (t) => {
    const actor = record(specOf('thread'));
    await actor.ready;
    const asked = t.throwsAsync(async () => actor.ask([{ do: command }]), { any: true });
    await new Promise((resolve) => setTimeout(resolve, 50));
    actor.link.kill('hung');
    await asked;
    t.is((await actor.exited).cause, 'hung');
  });
}

test('thread: heap exhaustion under a limit is told as oom', async (t) => {
  const actor = record(specOf('thread', { memoryLimitBytes: 64 * 2 ** 20 }));
  await actor.ready;
  await t.throwsAsync(async () => actor.ask([{ do: 'heap' }]), { any: true });
  const death = await actor.exited;
  t.is(death.cause, 'oom');
  t.is((death.error as TroupeError).code, 'ACTOR_OOM');
});

test('thread: a record that cannot be copied fails alone', async (t) => {
  await using actor = record(specOf('thread'));
  await actor.ready;
  const hostile = {
    get field(): never {
      throw new Error('no reading');
    },
  };
  const answer = await actor.ask(['a', () => 1, hostile, new Proxy({}, {}), 'e']);
  if (answer.kind !== 'reply') return t.fail(answer.error.message);
  t.deepEqual(
    answer.results.map((result) => (result.ok ? result.value : result.error.code)),
    ['a', 'INPUT_INVALID', 'INPUT_INVALID', 'INPUT_INVALID', 'e'],
  );
});

test('thread: an output that cannot be copied fails alone', async (t) => {
  await using actor = record(specOf('thread'));
  await actor.ready;
  const answer = await actor.ask(['a', { do: 'function' }, { do: 'error' }, 'd']);
  if (answer.kind !== 'reply') return t.fail(answer.error.message);
  t.deepEqual(
    answer.results.map((result) => (result.ok ? result.value : result.error.code)),
    ['a', 'PREDICT_FAILED', 'PREDICT_FAILED', 'd'],
  );
});

test('thread: options that cannot be copied end as load-failed', async (t) => {
  const death = await record(specOf('thread', { options: { fn: () => 1 } })).exited;
  t.is(death.cause, 'load-failed');
  t.regex((death.error as Error).message, /options cannot be copied/);
});
