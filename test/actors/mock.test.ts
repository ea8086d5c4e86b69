import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { ActorDefinition, Columns, LoadContext } from 'troupe';
import mock, { type MockOptions } from '../../actors/mock.js';

// The definition itself is the subject here, called as the child side calls it; pools around it are in test/e2e.

const definition = mock as ActorDefinition<unknown, unknown, unknown>;

function contextOf(options: MockOptions | Record<string, unknown>): LoadContext {
  const { signal } = new AbortController();
  const place = { replica: 0, replicas: 1, version: 'v7', modelDir: undefined, maxBatchSize: 8, device: 'auto' };
  return {
    pool: 'fake',
    options: options as Record<string, unknown>,
    warmedUp: () => undefined,
    usesBytes: () => undefined,
    signal,
    ...place,
  };
}

async function start(options: MockOptions): Promise<{
  predict: (batch: readonly unknown[] | Columns) => Promise<unknown>;
  call: (method: string, ...args: unknown[]) => unknown;
  state: unknown;
}> {
  const state = await definition.load?.(contextOf(options));
  const { signal } = new AbortController();
  return {
    state,
    predict: async (batch) => definition.predict(batch, { state, signal, version: 'v7' }),
    call: (method, ...args) => definition.methods?.[method]?.(state, ...args),
  };
}

test('without options the mock echoes and costs nothing', async (t) => {
  const { predict, call } = await start({});
  t.deepEqual(await predict(['a', { b: 1 }]), ['a', { b: 1 }]);
  t.deepEqual(call('counts'), { batches: 1, records: 2, costMs: 0 });
});

test('in virtual time an hour of cost is reported and not waited for', async (t) => {
  const { predict, call } = await start({ a: 3_600_000, b: 10, time: 'virtual', answer: 'report' });
  const [first] = (await predict(['a', 'b', 'c'])) as unknown[];
  t.like(first, { batch: 1, index: 0, size: 3, costMs: 3_600_030, replica: 0, version: 'v7', pid: process.pid });
  t.deepEqual(call('counts'), { batches: 1, records: 3, costMs: 3_600_030 });
});

for (const work of ['wait', 'spin'] as const) {
  test(`in real time with work ${work} a batch takes a + b * n milliseconds`, async (t) => {
    const { predict } = await start({ a: 6, b: 2, work });
    const before = performance.now();
    await predict([1, 2]);
    // A timer may fire a fraction of a millisecond before its time.
    t.true(performance.now() - before >= 9, `took ${performance.now() - before} ms`);
  });
}

test('answer sum adds the numbers of a record and counts the letters of a text', async (t) => {
  const { predict } = await start({ answer: 'sum' });
  t.deepEqual(
    await predict([1.5, [1, 2], 'four', { a: 1, b: [2, 3n] }, Float32Array.of(4, 5), null]),
    [1.5, 3, 4, 6, 9, 0],
  );
});

test('with inputs the mock takes columns and answers columns', async (t) => {
  const inputs = [{ name: 'x', dtype: 'float32', shape: [2] }] as const;
  const batch: Columns = {
    count: 2,
    columns: { x: { dtype: 'float32', shape: [2], data: Float32Array.of(1, 2, 3, 4) } },
  };
  const echo = await start({ inputs });
  t.deepEqual((definition.signature as (state: unknown) => unknown)(echo.state), { inputs, outputs: inputs });
  t.deepEqual(await echo.predict(batch), batch);
  const sum = await start({ inputs, answer: 'sum' });
  const { columns } = (await sum.predict(batch)) as Columns;
  t.deepEqual(columns['sum'], { dtype: 'float64', shape: [], data: Float64Array.of(3, 7) });
});

test('a fault by batch number happens in that batch alone', async (t) => {
  const { predict } = await start({ faults: [{ do: 'throw', batch: 2, message: 'second' }] });
  t.deepEqual(await predict(['a']), ['a']);
  await t.throwsAsync(predict(['a']), { message: 'second' });
  t.deepEqual(await predict(['a']), ['a']);
});

test('a fault with every happens in each so many batches', async (t) => {
  const { predict } = await start({ faults: [{ do: 'reject', every: 3 }] });
  const ends = [];
  for (let batch = 1; batch <= 6; batch++)
    ends.push(
      await predict(['a']).then(
        () => 'ok',
        () => 'rejected',
      ),
    );
  t.deepEqual(ends, ['ok', 'ok', 'rejected', 'ok', 'ok', 'rejected']);
});

test('a fault by record content happens where a record holds the text', async (t) => {
  const { predict } = await start({ faults: [{ do: 'throw', record: 'poison' }] });
  t.deepEqual(await predict(['healthy', { note: 'well' }]), ['healthy', { note: 'well' }]);
  await t.throwsAsync(predict(['healthy', { note: 'poisoned' }]), { message: /scripted fault "throw"/ });
});

test('an error in place fails the meant records and answers the others', async (t) => {
  const { predict } = await start({ faults: [{ do: 'error-in-place', record: 'bad', message: 'no' }] });
  const outputs = (await predict(['a', 'bad', 'b'])) as unknown[];
  t.deepEqual([outputs[0], outputs[2]], ['a', 'b']);
  t.true(outputs[1] instanceof Error && outputs[1].message === 'no');
});

test('wrong numbers of outputs are one too few, one too many, or none at all', async (t) => {
  const countOf = async (misdeed: 'too-few' | 'too-many' | 'no-outputs'): Promise<unknown> =>
    ((await (await start({ faults: [{ do: misdeed }] })).predict(['a', 'b'])) as unknown[] | undefined)?.length;
  t.deepEqual([await countOf('too-few'), await countOf('too-many'), await countOf('no-outputs')], [1, 3, undefined]);
});

test('a late rejection comes after afterMs', async (t) => {
  const { predict } = await start({ faults: [{ do: 'reject-late', afterMs: 10 }] });
  const before = performance.now();
  await t.throwsAsync(predict(['a']));
  t.true(performance.now() - before >= 9);
});

test('a fault can be limited to a replica and to a version', async (t) => {
  const { predict } = await start({
    faults: [
      { do: 'throw', replica: 1 },
      { do: 'throw', version: 'v8' },
    ],
  });
  t.deepEqual(await predict(['a']), ['a']);
});

test('a fault with onceFile happens once, whoever looks next', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'troupe-mock-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const options: MockOptions = { faults: [{ do: 'throw', onceFile: join(dir, 'done') }] };
  await t.throwsAsync((await start(options)).predict(['a']));
  t.deepEqual(await (await start(options)).predict(['a']), ['a']);
});

interface End {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stderr: string;
}

/** Runs one batch in a process of its own, for faults that end it. */
function runAlone(options: MockOptions, flags: readonly string[] = []): Promise<End> {
  const url = JSON.stringify(new URL('../../actors/mock.js', import.meta.url).href);
  const context = { ...contextOf(options), signal: undefined };
  const script = `
    import mock from ${url};
    const { signal } = new AbortController();
    const state = await mock.load({ ...${JSON.stringify(context)}, signal });
    await mock.predict(['a'], { state, signal, version: 'v7' });
    setTimeout(() => process.exit(42), 500);`;
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [...flags, '--input-type=module', '-e', script],
      (_error, _out, stderr) => {
        resolve({ code: child.exitCode, signal: child.signalCode, stderr });
      },
    );
  });
}

test('exit ends the process with the exit code and no reply', async (t) => {
  t.like(await runAlone({ faults: [{ do: 'exit', exitCode: 7 }] }), { code: 7, signal: null });
});

for (const [misdeed, signal] of [
  ['abort', 'SIGABRT'],
  ['segfault', 'SIGSEGV'],
  ['sigkill', 'SIGKILL'],
] as const) {
  test(`${misdeed} ends the process by ${signal}`, async (t) => {
    t.like(await runAlone({ faults: [{ do: misdeed }] }), { code: null, signal });
  });
}

test('an unhandled rejection comes after the answer and ends the process', async (t) => {
  const end = await runAlone({ faults: [{ do: 'unhandled-rejection', afterMs: 5 }] });
  t.is(end.code, 1);
  t.regex(end.stderr, /unhandled-rejection/);
});

test('oom-heap fills the heap until the engine aborts', async (t) => {
  const end = await runAlone({ faults: [{ do: 'oom-heap' }] }, ['--max-old-space-size=32']);
  t.not(end.code, 0);
  t.not(end.code, 42);
  t.regex(end.stderr, /heap/);
});

test('oom-buffers gives up at its own limit when nothing else ends it', async (t) => {
  const { predict } = await start({ faults: [{ do: 'oom-buffers', limitBytes: 32 * 1024 * 1024 }] });
  await t.throwsAsync(predict(['a']), { message: /no memory limit ended this replica/ });
});

test('load can fail, and waits loadMs first', async (t) => {
  const before = performance.now();
  await t.throwsAsync(async () => definition.load?.(contextOf({ load: 'throw', loadMs: 10 })), {
    message: /load was told to fail/,
  });
  t.true(performance.now() - before >= 9);
});

test('a wrong option is refused with pool, option, expectation and value', async (t) => {
  const cases: readonly (readonly [Record<string, unknown>, RegExp])[] = [
    [{ cost: 3 }, /Pool "fake": option cost is unknown to actor mock; known are a, b, time/],
    [{ a: -1 }, /option a of actor mock must be milliseconds from 0, got -1/],
    [{ time: 'fast' }, /option time .* one of real, virtual, got "fast"/],
    [{ faults: [{ do: 'explode' }] }, /option faults\[0\]\.do of actor mock must be one of throw, .* got "explode"/],
    [{ faults: [{}] }, /option faults\[0\]\.do .* got nothing/],
    [{ faults: [{ do: 'throw', when: 2 }] }, /option faults\[0\]\.when is unknown/],
    [{ faults: [{ do: 'throw', batch: 0 }] }, /faults\[0\]\.batch .* whole number from 1, got 0/],
    [{ inputs: [], answer: 'report' }, /option answer .* got "report"/],
    [{ inputs: [], faults: [{ do: 'error-in-place' }] }, /faults\[0\]\.do .* must not be error-in-place/],
  ];
  for (const [options, message] of cases) {
    await t.throwsAsync(async () => definition.load?.(contextOf(options)), { instanceOf: TypeError, message });
  }
});

test('methods count, echo and fail', async (t) => {
  const { call } = await start({});
  t.deepEqual(call('counts'), { batches: 0, records: 0, costMs: 0 });
  t.deepEqual(call('echo', 1, 'b'), [1, 'b']);
  await t.throwsAsync(async () => call('fail', 'as told'), { message: 'as told' });
});
