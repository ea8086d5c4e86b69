import test from 'ava';
import { createSystem, type DeadLetter, fromIterable, silentLog, stream, toArray } from 'troupe';
import { breakerSchema } from '../../src/actor/pool-options.js';
import { TroupeError } from '../../src/kernel/errors.js';
import { deadLetterOf, type Envelope } from '../../src/stream/envelope.js';
import { inferPlan } from '../../src/stream/infer-options.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { HandTarget, settleDown } from './hand-target.js';
import { contextOf, drain, inferStage, PushStage } from './stage-rig.js';

/** What a failure of the actor leads to: tries, time, fallback, dead letter. Numbers name defects of others. */

const crashed = (): TroupeError => new TroupeError('ACTOR_CRASHED', 'exit 3', { modelVersion: '4' });
const kindAndValue = ({ kind, value }: Envelope): unknown => [kind, value];

test('a record that fails is tried again after a backoff, in its place, with one timer for all (B13)', async (t) => {
  const clock = new VirtualClock();
  const target = new HandTarget<number, number>();
  const source = new PushStage().push(0, 1, 2).end();
  const retry = { attempts: 3, backoffMs: 100, jitter: 0, budget: Infinity };
  const out = drain(inferStage(target, { retry }, source, contextOf({ clock })));
  await target.holds(3);
  for (const submission of [...target.waiting]) target.fail(submission, crashed());
  await settleDown();
  t.is(target.waiting.length, 0);
  t.is(clock.timerCount, 1);
  clock.advance(99);
  t.is(target.waiting.length, 0);
  const { flushed } = target;
  clock.advance(1);
  t.is(target.waiting.length, 3);
  t.is(target.flushed, flushed + 1, 'the source has ended: retries must not wait for company');
  const of = (input: number) => target.waiting.find((submission) => submission.input === input)!;
  target.answer(of(2), 2);
  target.answer(of(0), 0);
  target.fail(of(1), crashed());
  clock.advance(200);
  target.answer(of(1), 1);
  t.deepEqual((await out).map(kindAndValue), [
    ['value', 0],
    ['value', 1],
    ['value', 2],
  ]);
});

test('the timer goes with the step, and what was tried again is cancelled', async (t) => {
  const clock = new VirtualClock();
  const target = new HandTarget<number, number>();
  const run = contextOf({ clock });
  const stage = inferStage(
    target,
    { retry: { attempts: 2, backoffMs: 100, jitter: 0 } },
    new PushStage().push(0, 1),
    run,
  );
  await target.holds(2);
  target.fail(target.waiting[0]!, crashed());
  t.is(clock.timerCount, 1);
  run.interrupt.set();
  stage.close();
  t.is(clock.timerCount, 0);
  t.is(target.cancelled, 1);
  clock.advance(1000);
  t.is(target.offered, 2);
});

test('timeout element is one deadline over all tries, timeout batch is one for each try', async (t) => {
  for (const mode of ['element', 'batch'] as const) {
    const clock = new VirtualClock();
    const target = new HandTarget<number, number>();
    const source = new PushStage().push(7).end();
    const retry = { attempts: 3, backoffMs: 100, jitter: 0, budget: Infinity };
    const out = drain(inferStage(target, { retry, timeout: { ms: 250, mode } }, source, contextOf({ clock })));
    const seen: unknown[] = [];
    const fail = async (): Promise<void> => {
      await target.holds(1);
      const [submission] = target.waiting;
      seen.push([submission?.deadlineAt, submission?.callTimeoutMs]);
      clock.advance(60);
      target.fail(submission!, new TroupeError('DEADLINE_PASSED', 'too slow'));
      await settleDown();
      clock.advance(240);
    };
    await fail();
    if (mode === 'batch') {
      await fail();
      await fail();
    } else await fail().catch(() => undefined);
    const [record] = await out;
    t.is(record?.error?.code, 'DEADLINE_PASSED');
    t.is(record?.failure?.attempts, mode === 'batch' ? 3 : 2);
    t.deepEqual(seen[0], mode === 'batch' ? [Infinity, 250] : [250, Infinity]);
    t.true(
      seen.every((each) => JSON.stringify(each) === JSON.stringify(seen[0])),
      'the deadline does not move',
    );
  }
});

test('every record of a call that expired has an outcome of its own: none vanishes (B8, A2)', async (t) => {
  const target = new HandTarget<number, number>();
  const source = new PushStage().push(0, 1, 2, 3).end();
  const out = drain(inferStage(target, { timeout: { ms: 50, mode: 'batch' } }, source));
  await target.holds(4);
  const [a, b, c, d] = [...target.waiting];
  target.fail(b!, new TroupeError('DEADLINE_PASSED', 'late'));
  target.answer(a!, 10);
  target.answer(d!, 13);
  target.fail(c!, new TroupeError('DEADLINE_PASSED', 'late'));
  t.deepEqual((await out).map(kindAndValue), [
    ['value', 10],
    ['failed', 1],
    ['failed', 2],
    ['value', 13],
  ]);
});

test('results stay with their records, whatever order they come in (B11)', async (t) => {
  const target = new HandTarget<number, number>();
  const source = new PushStage().push(...Array.from({ length: 9 }, (_, n) => n)).end();
  const options = { order: 'unordered' as const, output: (record: number, result: number) => [record, result] };
  const out = drain(inferStage(target, options, source));
  await target.holds(9);
  for (const at of [3, 7, 0, 2, 4, 1, 1, 1, 0]) target.answer(target.waiting[at]!, target.waiting[at]!.input * 100);
  for (const { value } of await out) t.is((value as number[])[1], (value as number[])[0]! * 100);
});

test('null, 0, empty strings and false are records and results like others (D3)', async (t) => {
  const target = new HandTarget<unknown, unknown>();
  const values = [null, 0, '', false, Number.NaN];
  const out = drain(inferStage(target, {}, new PushStage().push(...values).end()));
  await target.holds(5);
  while (target.waiting.length > 0) target.answer(target.waiting[0]!, target.waiting[0]!.input);
  t.deepEqual(
    (await out).map(kindAndValue),
    values.map((value) => ['value', value]),
  );
});

test('a retry offers the same input, made once (B3)', async (t) => {
  const clock = new VirtualClock();
  const target = new HandTarget<object, number>();
  let made = 0;
  const input = (record: object): object => ({ ...record, n: (made += 1) });
  const retry = { attempts: 3, backoffMs: 1, jitter: 0 };
  const source = new PushStage().push({ text: 'x' }).end();
  const out = drain(inferStage(target, { retry, input }, source, contextOf({ clock })));
  await target.holds(1);
  const first = target.waiting[0]!.input;
  target.fail(target.waiting[0]!, crashed());
  clock.advance(1);
  t.is(target.waiting[0]?.input, first);
  t.deepEqual(first, { text: 'x', n: 1 });
  target.answer(target.waiting[0]!, 1);
  t.is((await out).length, 1);
  t.is(made, 1);
});

test('a step opens its senders once and closes them once, also when upstream fails as a whole (B6)', async (t) => {
  const target = new HandTarget<number, number>();
  const second = new HandTarget<number, number>();
  const upstream = {
    pull: () => Promise.reject(new TroupeError('SOURCE_FAILED', 'gone')),
    close: () => undefined,
  };
  const stage = inferStage(target, { fallback: second }, upstream);
  t.deepEqual([target.openSenders, second.openSenders], [1, 1]);
  await t.throwsAsync(stage.pull(1), { message: 'gone' });
  stage.close();
  t.deepEqual([target.openSenders, second.openSenders], [0, 0]);
});

test('a full second pool holds back what waits for it, and nothing else', async (t) => {
  const target = new HandTarget<number, number>();
  const second = new HandTarget<number, number>(1);
  const source = new PushStage().push(0, 1, 2);
  const stage = inferStage(target, { order: 'unordered', fallback: second }, source);
  await target.holds(3);
  target.fail(target.waiting[0]!, crashed());
  target.fail(target.waiting[0]!, crashed());
  await settleDown();
  t.is(second.waiting.length, 1);
  source.push(3, 4).end();
  await target.holds(3);
  for (const submission of [...target.waiting]) target.answer(submission, submission.input);
  t.deepEqual(
    (await stage.pull(9))?.map(({ seq }) => seq),
    [2, 3, 4],
  );
  second.answer(second.waiting[0]!, 10);
  await second.holds(1);
  second.answer(second.waiting[0]!, 11);
  t.deepEqual(
    (await drain(stage)).map(({ value }) => value),
    [10, 11],
  );
});

test('a priority that is no whole number from -100 to 100 fails its record', async (t) => {
  const target = new HandTarget<number, number>();
  const priority = (n: number): number => [1, 0.5, Number.NaN, 'high' as never, 101][n] as number;
  const source = new PushStage().push(0, 1, 2, 3, 4).end();
  const out = drain(inferStage(target, { priority }, source));
  await target.holds(1);
  target.answer(target.waiting[0]!, 0);
  const words = (await out).map(({ error }) => error?.message);
  t.is(words[3], 'priority of infer("hand") for record 3 threw: expected a whole number from -100 to 100, got high');
  t.is(words.filter((word) => word === undefined).length, 1);
});

test('a record that cannot be copied to the actor fails alone, by name (D3)', async (t) => {
  await using system = createSystem({ log: silentLog });
  const actor = new URL('../fixtures/actors/fragile.js', import.meta.url).href;
  const pool = await system.spawn<unknown, unknown>('echo', { actor, isolation: 'thread' });
  const letters: DeadLetter[] = [];
  const records = ['a', () => 2, 'b', Symbol('x'), null];
  const report = await stream(fromIterable(records))
    .infer(pool)
    .to(toArray(), {
      deadLetters: { name: 'dead', write: (some) => void letters.push(...some), close: () => undefined },
    });
  t.like(report, { results: 3, deadLetters: 2, errors: { INPUT_INVALID: 2 } });
  t.deepEqual(
    letters.map(({ id, input, error }) => [id, input, error.code]),
    [
      ['1', '[function ]', 'INPUT_INVALID'],
      ['3', '[Symbol(x)]', 'INPUT_INVALID'],
    ],
  );
  t.regex(letters[1]?.error.message ?? '', /^Record 3: .* cannot be copied to the actor: Symbol\(x\)/);
});

test('a fallback answers with a value, a function or another pool, in the place of the record', async (t) => {
  const second = new HandTarget<string, string>();
  const cases = [
    { fallback: { value: 'default' }, expected: 'default' },
    {
      fallback: (n: number, error: TroupeError, { id }: { id: string }) => `${n} ${error.code} ${id}`,
      expected: '1 ACTOR_CRASHED 1',
    },
    { fallback: second, expected: 'out second in 1' },
    {
      fallback: {
        pool: second,
        input: (n: number) => `own ${n}`,
        output: (_: number, result: string) => `[${result}]`,
      },
      expected: '[second own 1]',
    },
  ];
  for (const { fallback, expected } of cases) {
    const target = new HandTarget<string, string>();
    const options = {
      input: (n: number) => `in ${n}`,
      output: (_: number, result: string) => `out ${result}`,
      fallback: fallback as never,
    };
    const stage = inferStage(target, options, new PushStage().push(0, 1, 2).end());
    const out = drain(stage);
    await target.holds(3);
    const [a, b, c] = [...target.waiting];
    target.answer(c!, 'c');
    target.fail(b!, crashed());
    target.answer(a!, 'a');
    if ('offer' in fallback || 'pool' in fallback) {
      await second.holds(1);
      const [submission] = second.waiting;
      t.is(submission?.sender, second.openSenders);
      second.answer(submission!, `second ${submission!.input}`);
    }
    const envelopes = await out;
    t.deepEqual(envelopes.map(kindAndValue), [
      ['value', 'out a'],
      ['fallback', expected],
      ['value', 'out c'],
    ]);
    t.is(envelopes[1]?.error?.code, 'ACTOR_CRASHED', 'why it was asked is known');
    stage.close();
    t.is(second.openSenders, 0);
  }
});

test('a fallback that fails leaves the first error, says so, and is not tried again (FLINK-38082)', async (t) => {
  const second = new HandTarget<number, number>(1);
  const thrower = (): never => {
    throw new Error('no default');
  };
  for (const [fallback, words] of [
    [second, 'exit 3; the fallback failed too: the second is full'],
    [thrower, 'exit 3; the fallback failed too: it threw: no default'],
    [
      { pool: second, input: thrower },
      /exit 3; the fallback failed too: input of the fallback of infer\("hand"\) for record 0 threw/,
    ],
  ] as const) {
    const target = new HandTarget<number, number>();
    const out = drain(inferStage(target, { fallback: fallback as never }, new PushStage().push(0, 1).end()));
    await target.holds(2);
    target.fail(target.waiting[0]!, crashed());
    target.fail(target.waiting[0]!, crashed());
    if (fallback === second) {
      for (const _ of [0, 1]) {
        await second.holds(1);
        second.fail(second.waiting[0]!, new TroupeError('MAILBOX_FULL', 'the second is full'));
        await settleDown();
      }
    }
    const [record] = await out;
    t.like(record, { kind: 'failed', error: { code: 'ACTOR_CRASHED' } });
    if (typeof words === 'string') t.is(record?.error?.message, words);
    else t.regex(record?.error?.message ?? '', words);
    t.is(target.offered, 2);
  }
});

test('a fallback does not answer for a record that was cancelled, or that failed before the step', async (t) => {
  const target = new HandTarget<number, number>();
  const source = new PushStage().push(0, 1).end();
  source.pending[0]?.fail(new TroupeError('PARSE_FAILED', 'line 1'));
  const out = drain(inferStage(target, { fallback: { value: 9 } }, source));
  await target.holds(1);
  target.fail(target.waiting[0]!, new TroupeError('CANCELLED', 'given up'));
  t.deepEqual(
    (await out).map(({ kind, error }) => [kind, error?.code]),
    [
      ['failed', 'PARSE_FAILED'],
      ['failed', 'CANCELLED'],
    ],
  );
});

test('an open breaker goes to the fallback at once, and the actor is not asked', async (t) => {
  const target = new HandTarget<number, number>();
  const source = new PushStage();
  const breaker = { minCalls: 2, openMs: 60_000 };
  const stage = inferStage(target, { breaker, fallback: { value: 'cheap' } }, source);
  source.push(0, 1);
  await target.holds(2);
  for (const submission of [...target.waiting]) target.fail(submission, crashed());
  source.push(2, 3).end();
  const out = await drain(stage);
  t.deepEqual(
    out.map(({ value, error }) => [value, error?.code]),
    [
      ['cheap', 'ACTOR_CRASHED'],
      ['cheap', 'ACTOR_CRASHED'],
      ['cheap', 'BREAKER_OPEN'],
      ['cheap', 'BREAKER_OPEN'],
    ],
  );
  t.is(target.offered, 2);
  t.like(stage.metrics(), { breaker: 'open', breakerRefusals: 2, step: 1, pool: 'hand' });
});

test('a dead letter says which record, where, when, how often and why, in plain data (A2)', async (t) => {
  const clock = new VirtualClock({ wallMs: Date.UTC(2025, 0, 1) });
  clock.advance(1000);
  const target = new HandTarget<unknown, unknown>();
  const input = { text: 'x', size: 10n, made: () => 1, bytes: new Float32Array([1, 2]) };
  const source = new PushStage().push('ok', input).end();
  const retry = { attempts: 2, backoffMs: 10, jitter: 0 };
  const options = {
    retry,
    input: (record: unknown) => JSON.stringify(record, (_, v) => (typeof v === 'bigint' ? 0 : v)),
  };
  const out = drain(inferStage(target, options, source, contextOf({ clock }), 4));
  await target.holds(2);
  target.answer(target.waiting[0]!, 1);
  target.fail(target.waiting[0]!, crashed());
  clock.advance(10);
  await settleDown();
  clock.advance(490);
  const cause = Object.assign(new Error('CUDA'), { code: 77 });
  target.fail(target.waiting[0]!, new TroupeError('ACTOR_OOM', 'died', { modelVersion: '4', cause }));
  const failed = (await out)[1]!;
  const letter = deadLetterOf(failed, 'nightly', clock.wallNow() - clock.now());
  t.deepEqual(JSON.parse(JSON.stringify(letter)), JSON.parse(JSON.stringify(letter)));
  t.like(letter, {
    input: { text: 'x', size: '10', made: '[function made]', bytes: [1, 2] },
    error: {
      code: 'ACTOR_OOM',
      message: 'died',
      ran: 'interrupted',
      retryable: true,
      cause: { message: 'CUDA', code: 77 },
    },
    attempts: 2,
    actor: 'hand',
    version: '4',
    seq: 1,
    id: '1',
    timestamp: 1001,
    metadata: { line: 1 },
    pipeline: 'nightly',
    step: 4,
    times: { pulledAt: '2025-01-01T00:00:00.000Z', failedAt: '2025-01-01T00:00:01.500Z' },
  });
});

test('a step and a pool have the same breaker, where nothing else is said', (t) => {
  t.deepEqual(inferPlan(new HandTarget(), { breaker: {} }).breaker, breakerSchema.parse({}));
});

test('options of retry, timeout, breaker and fallback are checked at once, and unknown keys are named (C3)', (t) => {
  const target = new HandTarget<number, number>();
  const refused = (options: object, message: RegExp): void => {
    t.throws(() => inferStage(target, options, new PushStage()), { instanceOf: TypeError, message });
  };
  refused({ retry: { maxAttempts: 3 } }, /infer\.retry: unknown option "maxAttempts"; known are attempts, backoffMs/);
  refused({ retry: { attempts: 0 } }, /infer\.retry\.attempts must be a whole number of at least 1, got 0/);
  refused({ retry: { jitter: 2 } }, /infer\.retry\.jitter must be a number from 0 to 1, got 2/);
  refused({ retry: { rules: { PREDICT_FAILD: 'never' } } }, /infer\.retry\.rules: unknown option "PREDICT_FAILD"/);
  refused({ retry: { rules: { PREDICT_FAILED: 'always' } } }, /rules\.PREDICT_FAILED must be "never" or an object/);
  refused({ retry: { rules: { PREDICT_FAILED: { tries: 1 } } } }, /rules\.PREDICT_FAILED: unknown option "tries"/);
  refused({ timeout: { ms: 5, scope: 'element' } }, /infer\.timeout: unknown option "scope"; known are ms, mode/);
  refused({ timeout: { ms: 5, mode: 'call' } }, /infer\.timeout\.mode must be one of element, batch, got "call"/);
  refused({ breaker: { failureRate: 0 } }, /infer\.breaker\.failureRate must be above 0/);
  refused({ breaker: { minCalls: 1.5 } }, /infer\.breaker\.minCalls must be a whole number/);
  refused({ fallback: 'none' }, /infer\.fallback must be a function, \{ value \}, a pool, or/);
  refused({ fallback: { pool: {} } }, /infer\.fallback\.pool must be a pool/);
  refused({ fallback: { value: 1, output: () => 2 } }, /infer\.fallback: unknown option "output"/);
  refused({ order: 'keyed' }, /infer\.key must be a function .* got undefined/);
  refused({ key: () => 'a' }, /infer\.key has a meaning only with infer\.order "keyed", got "ordered"/);
});
