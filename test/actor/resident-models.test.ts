import { rmSync } from 'node:fs';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  createSystem,
  defineActor,
  fromIterable,
  isTroupeError,
  type LoadContext,
  type LogEntry,
  type Pool,
  type PoolEvents,
  type Signature,
  silentLog,
  stream,
  toArray,
  type SystemOptions,
  type TensorRecord,
  TroupeError,
} from 'troupe';
import { addTree, makeTree } from '../models/model-tree.js';

interface State {
  readonly model: string | undefined;
  readonly version: string | undefined;
}

interface Said {
  readonly loads: string[];
  readonly unloads: string[];
}

/** Answers with the model and version that answered; counts loads. `bad` never loads; every model says that it holds ten bytes. */
function namer(said: Said, hold: (context: LoadContext) => unknown = () => undefined) {
  return defineActor({
    async load(context: LoadContext): Promise<State> {
      const { model, version } = context;
      said.loads.push(`${model}@${version ?? '-'}`);
      await hold(context);
      if (model === 'bad') throw new Error('its weights are not finite');
      context.usesBytes(10);
      return { model, version };
    },
    predict(batch: string[], { state, model, version }) {
      if (state.model !== model || state.version !== version) throw new Error('the state of another model');
      return batch.map((text) => `${model}@${version ?? '-'} ${text}`);
    },
    unload({ model }) {
      said.unloads.push(String(model));
    },
  });
}

const nothingSaid = (): Said => ({ loads: [], unloads: [] });

async function codeOf(t: ExecutionContext, promise: Promise<unknown>): Promise<TroupeError> {
  const error = await t.throwsAsync(promise);
  if (!isTroupeError(error)) throw error;
  return error;
}

const quiet = (options: SystemOptions = {}) => createSystem({ log: silentLog, ...options });

test('each ask is answered by the model it names, and outcomes say which model and version that was', async (t) => {
  const root = makeTree(t, { 'fr/1/m': 'x', 'fr/3/m': 'x', 'de/2/m': 'x' });
  const said = nothingSaid();
  await using system = quiet({ models: { aliases: { fr: { stable: 1 } } } });
  const pool = await system.spawn('p', { actor: namer(said), models: { root, maxBytes: 100 } });
  t.deepEqual(said.loads, [], 'nothing is loaded before it is wanted');
  t.is(await pool.ask('a', { model: 'fr' }), 'fr@3 a', 'the newest version');
  t.is(await pool.ask('a', { model: 'fr@1' }), 'fr@1 a');
  t.is(await pool.ask('a', { model: 'fr@stable' }), 'fr@1 a', 'an alias is the version it stands for');
  const outcomes = await pool.askMany(['b', 'c'], { model: (text) => (text === 'b' ? 'fr' : 'de') });
  t.deepEqual(outcomes, [
    { ok: true, value: 'fr@3 b', version: '3', model: 'fr' },
    { ok: true, value: 'de@2 c', version: '2', model: 'de' },
  ]);
  t.deepEqual(said.loads, ['fr@3', 'fr@1', 'de@2']);
  t.deepEqual(pool.modelNames(), ['de', 'fr']);
});

test('those who ask at once for a model that is not loaded wait for one load', async (t) => {
  const said = nothingSaid();
  await using system = quiet();
  const pool = await system.spawn('p', { actor: namer(said), models: { list: ['fr'], maxBytes: 100 } });
  const answers = await Promise.all(Array.from({ length: 20 }, (_, n) => pool.ask(String(n), { model: 'fr' })));
  t.is(answers[19], 'fr@- 19');
  t.deepEqual(said.loads, ['fr@-']);
  t.is(pool.stats().models?.known[0]?.loads, 1);
});

test('a name that is not there is refused at once, and the message says what there is', async (t) => {
  const root = makeTree(t, { 'fr/1/m': 'x', 'fr/2/m': 'x', 'de/1/m': 'x' });
  await using system = quiet();
  const pool = await system.spawn('p', { actor: namer(nothingSaid()), models: { root, maxBytes: 100 } });
  for (const [model, code, message] of [
    ['es', 'MODEL_NOT_FOUND', /Pool "p" has no model es; it has de, fr/],
    ['fr@7', 'VERSION_NOT_FOUND', /Model "fr" has no version 7; it offers 1, 2/],
    ['../de', 'NAME_INVALID', /The model must be 1 to 128 of/],
    ['fr@../1', 'NAME_INVALID', /The version of the model must be/],
    ['fr@1@2', 'NAME_INVALID', /./],
    ['%66r', 'NAME_INVALID', /./],
    ['', 'NAME_INVALID', /./],
  ] as const) {
    const error = await codeOf(t, pool.ask('x', { model }));
    t.is(error.code, code, model);
    t.regex(error.message, message);
  }
  const [outcome] = await pool.askMany(['x'], { model: 'es' });
  t.is(outcome?.ok === false ? outcome.error.code : 'ok', 'MODEL_NOT_FOUND');
  t.is(pool.stats().accepted, 0);
  t.deepEqual(pool.stats().models?.known, [], 'nonsense is not remembered');
});

test('only what the list names is served, though the directory holds more', async (t) => {
  const root = makeTree(t, { 'fr/1/m': 'x', 'fr/2/m': 'x', 'de/1/m': 'x' });
  await using system = quiet();
  const models = { root, maxBytes: 100, list: ['fr@1'] };
  const pool = await system.spawn('p', { actor: namer(nothingSaid()), models });
  t.is(await pool.ask('x', { model: 'fr@1' }), 'fr@1 x');
  for (const model of ['de', 'fr', 'fr@2']) t.is((await codeOf(t, pool.ask('x', { model }))).code, 'MODEL_NOT_FOUND');
});

test('a model that cannot be loaded fails its own records with the cause, and is not tried again at once', async (t) => {
  const said = nothingSaid();
  const logged: LogEntry[] = [];
  await using system = createSystem({ log: (entry) => logged.push(entry) });
  const pool = await system.spawn('p', { actor: namer(said), models: { list: ['fr', 'bad'], maxBytes: 100 } });
  const failed: PoolEvents['model-failed'][0][] = [];
  let asked: Promise<TroupeError> | undefined;
  pool.on('model-failed', (what) => {
    failed.push(what);
    // Here, for on a busy machine more than the second may pass until the outcomes are looked at.
    asked ??= codeOf(t, pool.ask('d', { model: 'bad' }));
  });
  const outcomes = await pool.askMany(['a', 'b', 'c'], { model: (text) => (text === 'b' ? 'fr' : 'bad') });
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? outcome.value : outcome.error.code)),
    ['MODEL_LOAD_FAILED', 'fr@- b', 'MODEL_LOAD_FAILED'],
  );
  const [first] = outcomes;
  const error = first?.ok === false ? first.error : undefined;
  t.regex(
    String(error?.message),
    /Model "bad" of pool "p" could not be loaded: load\(\) of actor "p" failed for model "bad"/,
  );
  t.true(isTroupeError(error?.cause) && error.cause.code === 'ACTOR_LOAD_FAILED');
  t.true(isTroupeError(error?.cause) && error.cause.cause instanceof Error, 'down to what load threw');
  t.true(error?.retryable);
  t.is(error?.ran, 'not-started');

  const again = await asked;
  t.is(again?.code, 'MODEL_LOAD_FAILED');
  t.true((again?.retryAfterMs ?? 0) > 0 && (again?.retryAfterMs ?? 0) <= 1000);
  t.deepEqual(
    said.loads.filter((load) => load.startsWith('bad')),
    ['bad@-'],
    'no storm of loads',
  );
  t.deepEqual(
    failed.map(({ model, retryAfterMs }) => [model, retryAfterMs]),
    [['bad', 1000]],
  );
  t.true(logged.some(({ message }) => /model "bad"/.test(message)));
  t.is(pool.stats().state, 'running');
});

test('what is pinned is loaded before the pool is given out, into every replica, and stays', async (t) => {
  const said = nothingSaid();
  await using system = quiet();
  const pool = await system.spawn('p', {
    actor: namer(said),
    replicas: 2,
    models: { list: ['fr', 'de', 'it', 'es'], maxBytes: 20, pin: ['fr'] },
  });
  t.deepEqual(said.loads, ['fr@-', 'fr@-']);
  for (const model of ['de', 'it', 'es', 'de', 'fr']) await pool.ask('x', { model });
  t.deepEqual(
    said.unloads.filter((model) => model === 'fr'),
    [],
  );
  t.true(said.unloads.length > 0);
});

test('a pool whose pinned models are not there, too large or broken does not start', async (t) => {
  const root = makeTree(t, { 'fr/1/m': 'x'.repeat(60), 'de/1/m': 'x'.repeat(60), 'bad/1/m': 'x' });
  await using system = quiet();
  const spawn = (pin: string[], maxBytes = 100): Promise<unknown> =>
    system.spawn('p', { actor: namer(nothingSaid()), models: { root, maxBytes, pin } });
  t.is((await codeOf(t, spawn(['es']))).code, 'MODEL_NOT_FOUND');
  const large = await codeOf(t, spawn(['fr', 'de']));
  t.is(large.code, 'MODEL_TOO_LARGE');
  t.regex(large.message, /hold 120 bytes together, more than models.maxBytes 100/);
  t.is((await codeOf(t, spawn(['fr'], 50))).code, 'MODEL_TOO_LARGE');
  t.is((await codeOf(t, spawn(['bad']))).code, 'ACTOR_LOAD_FAILED');
  t.deepEqual(system.names(), []);
});

test('a model counts with the bytes of its files where load says nothing, and one that is too large is never loaded', async (t) => {
  const root = makeTree(t, { 'small/1/m': 'x'.repeat(40), 'large/1/m': 'x'.repeat(101) });
  const loads: (string | undefined)[] = [];
  const actor = defineActor({
    load: ({ model }) => void loads.push(model),
    predict: (batch: string[]) => batch,
  });
  await using system = quiet();
  const pool = await system.spawn('p', { actor, models: { root, maxBytes: 100 } });
  t.is(await pool.ask('x', { model: 'small' }), 'x');
  t.is(pool.stats().models?.resident[0]?.bytes, 40);
  const error = await codeOf(t, pool.ask('x', { model: 'large' }));
  t.is(error.code, 'MODEL_TOO_LARGE');
  t.regex(error.message, /Model "large@1" of pool "p" holds 101 bytes, more than models.maxBytes 100 of a replica/);
  t.deepEqual(loads, ['small']);
});

test('one of the models is swapped by version while it is asked: every record is answered, and the old one is freed', async (t) => {
  const root = makeTree(t, { 'fr/1/m': 'x', 'de/1/m': 'x' });
  const said = nothingSaid();
  await using system = quiet();
  const pool = await system.spawn('p', { actor: namer(said), replicas: 2, models: { root, maxBytes: 100 } });
  t.is(await pool.ask('x', { model: 'fr' }), 'fr@1 x');
  await pool.ask('x', { model: 'de' });
  addTree(root, { 'fr/2/m': 'x' });
  t.is(await pool.ask('x', { model: 'fr' }), 'fr@1 x', 'what is new on disk waits for a swap');

  const evicted: PoolEvents['model-evicted'][0][] = [];
  const swapped: unknown[] = [];
  pool.on('model-evicted', (what) => evicted.push(what));
  pool.on('model-swapped', (what) => swapped.push(what));
  let isOver = false;
  const versions = new Set<string>();
  const asking = (async () => {
    while (!isOver) versions.add(await pool.ask('y', { model: 'fr' }));
  })();
  await pool.swap('latest', { model: 'fr' });
  t.is(await pool.ask('x', { model: 'fr' }), 'fr@2 x');
  isOver = true;
  await asking;
  t.deepEqual(
    [...versions].filter((one) => one !== 'fr@1 y' && one !== 'fr@2 y'),
    [],
  );
  t.deepEqual(swapped, [{ model: 'fr', from: '1', to: '2' }]);
  t.deepEqual(evicted.map(({ model, version, reason }) => [model, version, reason])[0], ['fr', '1', 'replaced']);
  t.is(await pool.ask('x', { model: 'fr@1' }), 'fr@1 x', 'by its number the old one is still to be had');
});

test('a swap to a version that does not load changes nothing and says why', async (t) => {
  const root = makeTree(t, { 'fr/1/m': 'x', 'fr/2/m': 'x' });
  const actor = namer(nothingSaid(), ({ version }) => {
    if (version === '2') throw new Error('no such layer');
  });
  await using system = quiet();
  const pool = await system.spawn('p', { actor, models: { root, maxBytes: 100, pin: ['fr@1'] } });
  const other = await codeOf(t, pool.swap(7, { model: 'fr@1' }));
  t.is(other.code, 'NAME_INVALID', 'a swap moves a name, not a version');
  await pool.ask('x', { model: 'fr@1' });
  const missing = await codeOf(t, pool.swap(7, { model: 'fr' }));
  t.is(missing.code, 'VERSION_NOT_FOUND');
  t.is((await codeOf(t, pool.ask('x', { model: 'fr' }))).code, 'MODEL_LOAD_FAILED', 'the newest is 2, which is broken');
  const failed = await t.throwsAsync(pool.swap(1, { model: 'de' }));
  t.true(isTroupeError(failed) && failed.code === 'MODEL_NOT_FOUND');
  await pool.swap(1, { model: 'fr' });
  t.is(await pool.ask('x', { model: 'fr' }), 'fr@1 x');
});

test('a broken version is rolled back: the records of the model go on with the old one', async (t) => {
  const root = makeTree(t, { 'fr/1/m': 'x' });
  const actor = namer(nothingSaid(), ({ version }) => {
    if (version === '2') throw new Error('no such layer');
  });
  await using system = quiet();
  const pool = await system.spawn('p', { actor, models: { root, maxBytes: 100 } });
  await pool.ask('x', { model: 'fr' });
  addTree(root, { 'fr/2/m': 'x' });
  const error = await codeOf(t, pool.swap(2, { model: 'fr' }));
  t.is(error.code, 'SWAP_ROLLED_BACK');
  t.is(error.reason, 'load-failed');
  t.regex(error.message, /Model "fr" of pool "p" stays at version 1: .*no such layer/);
  t.is(await pool.ask('x', { model: 'fr' }), 'fr@1 x');
});

test('a model can be loaded before the first record for it comes', async (t) => {
  const said = nothingSaid();
  await using system = quiet();
  const pool = await system.spawn('p', { actor: namer(said), models: { list: ['fr', 'bad'], maxBytes: 100 } });
  await Promise.all([pool.preload('fr'), pool.preload('fr')]);
  t.deepEqual(said.loads, ['fr@-']);
  await pool.ask('x', { model: 'fr' });
  t.deepEqual(said.loads, ['fr@-']);
  t.is((await codeOf(t, pool.preload('bad'))).code, 'ACTOR_LOAD_FAILED');
  t.is((await codeOf(t, pool.preload('es'))).code, 'MODEL_NOT_FOUND');
});

test('a model goes when somebody asks for it, once it has no work left, and comes back for the next record', async (t) => {
  const said = nothingSaid();
  await using system = quiet();
  const pool = await system.spawn('p', {
    actor: namer(said),
    models: { list: ['fr', 'de'], pin: ['de'], maxBytes: 100 },
  });
  const gone = new Promise<string>((resolve) =>
    pool.on('model-evicted', ({ model, reason }) => resolve(`${model} ${reason}`)),
  );
  const answered = pool.askMany(['x', 'y'], { model: 'fr' });
  t.true(pool.unload('fr'));
  t.true(
    (await answered).every(({ ok }) => ok),
    'what was asked before is answered',
  );
  pool.unload('fr');
  t.is(await gone, 'fr asked');
  t.deepEqual(said.unloads, ['fr']);
  pool.unload('fr');
  await pool.ask('x', { model: 'fr' });
  t.deepEqual(said.loads, ['de@-', 'fr@-', 'fr@-']);
  t.false(pool.unload('de'), 'it is pinned');
  t.throws(() => pool.unload('es'), { code: 'MODEL_NOT_FOUND' });
});

test('models with different tensors stand side by side in one pool', async (t) => {
  const widths: Readonly<Record<string, number>> = { two: 2, three: 3 };
  const actor = defineActor<TensorRecord, TensorRecord, number>({
    load: ({ model = '' }) => widths[model] as number,
    signature: (width) => ({
      inputs: [{ name: 'x', dtype: 'float32', shape: [width] }],
      outputs: [{ name: 'y', dtype: 'float32', shape: [1] }],
    }),
    predict(batch, { state: width }) {
      const { data } = batch.columns['x'] as { data: Float32Array };
      const y = Float32Array.from({ length: batch.count }, (_, n) =>
        data.subarray(n * width, (n + 1) * width).reduce((sum, value) => sum + value, 0),
      );
      return { count: batch.count, columns: { y: { dtype: 'float32', shape: [1], data: y } } };
    },
  });
  await using system = quiet();
  const pool = await system.spawn('p', { actor, models: { list: ['two', 'three'], maxBytes: 100 } });
  const records = [new Float32Array([1, 2]), new Float32Array([1, 2, 3]), new Float32Array([5, 5])];
  const outcomes = await pool.askMany(
    records.map((x) => ({ x })),
    { model: ({ x }) => ((x as Float32Array).length === 2 ? 'two' : 'three') },
  );
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? [...(outcome.value['y'] as Float32Array)] : outcome.error.message)),
    [[3], [6], [10]],
  );
  t.is(pool.signatureOf('three')?.inputs[0]?.shape[0], 3);
  const wrong = await codeOf(t, pool.ask({ x: new Float32Array([1, 2]) }, { model: 'three' }));
  t.is(wrong.code, 'INPUT_INVALID', 'judged by the tensors of its own model');
});

test('a step of a pipeline names the model of each record; a name that is not there fails that record alone', async (t) => {
  await using system = quiet();
  const pool = await system.spawn('p', { actor: namer(nothingSaid()), models: { list: ['fr', 'de'], maxBytes: 100 } });
  const records = [
    { lang: 'fr', text: 'a' },
    { lang: 'xx', text: 'b' },
    { lang: 'de', text: 'c' },
  ];
  const out: unknown[] = [];
  const sink = toArray(out);
  const report = await stream(fromIterable(records))
    .infer(pool, {
      model: ({ lang }) => lang,
      input: ({ text }) => text,
      failed: (_, error) => error.code,
    })
    .to(sink);
  t.deepEqual(out, ['fr@- a', 'MODEL_NOT_FOUND', 'de@- c']);
  t.is(report.failed, 1);

  t.throws(() => stream(fromIterable(records)).infer(pool, { input: ({ text }) => text }), {
    instanceOf: TypeError,
    message: /infer.model must say which model answers: pool "p" holds many/,
  });
  const plain = await system.spawn('q', { actor: defineActor({ predict: (batch: string[]) => batch }) });
  t.throws(() => stream(fromIterable(['x'])).infer(plain, { model: 'fr' }), {
    instanceOf: TypeError,
    message: /infer.model has no meaning here: pool "q" holds one model/,
  });
});

test('wrong use is told at once, with what was expected', async (t) => {
  await using system = quiet();
  const actor = namer(nothingSaid());
  const spawn = (options: object): Promise<unknown> => system.spawn('p', { actor, ...options } as never);
  for (const [options, message] of [
    [{ models: { list: ['fr'] } }, /models.maxBytes/],
    [{ models: { list: ['fr'], maxBytes: 0 } }, /models.maxBytes/],
    [{ models: { list: ['a/b'], maxBytes: 1 } }, /models.list.0: must be the name of a model/],
    [{ models: { list: ['fr'], maxBytes: 1, max: 3 } }, /models: Unrecognized key: "max"/],
    [{ models: { list: ['fr'], maxBytes: 1, ttlMs: 0 } }, /models.ttlMs/],
    [{ models: { maxBytes: 1 } }, /models needs a root, a list, or models.roots of the system/],
    [{ models: { list: ['fr'], maxBytes: 1 }, model: './m' }, /model: must not be given together with models/],
    [{ models: { list: ['fr'], maxBytes: 1 }, version: 2 }, /version: must not be given together with models/],
  ] as const) {
    await t.throwsAsync(spawn(options), { instanceOf: TypeError, message });
  }
  const pool = await system.spawn('p', { actor, models: { list: ['fr'], maxBytes: 100 } });
  t.throws(() => void pool.ask('x'), { instanceOf: TypeError, message: /say which, as in \{ model: 'name' \}/ });
  await t.throwsAsync(pool.askMany(['x']), { instanceOf: TypeError, message: /say which/ });
  t.throws(() => pool.tell('x'), { instanceOf: TypeError, message: /say which/ });
  t.throws(() => void pool.ask('x', { model: 7 as never }), {
    instanceOf: TypeError,
    message: /model must be a string/,
  });
  await t.throwsAsync(pool.swap(2), { instanceOf: TypeError, message: /say which, as in \{ model: 'name' \}/ });
  await t.throwsAsync(pool.swap(2, { model: 'fr', canary: 0.1 }), {
    instanceOf: TypeError,
    message: /canary is not for one of many models/,
  });
  await t.throwsAsync(pool.call('labels'), { instanceOf: TypeError, message: /holds many models/ });
  const one = await system.spawn('q', { actor: defineActor({ predict: (batch: string[]) => batch }) });
  t.throws(() => void one.ask('x', { model: 'fr' }), {
    instanceOf: TypeError,
    message: /pool "q" holds one model, so no model can be named; got "fr"/,
  });
  t.throws(() => one.modelNames(), { instanceOf: TypeError, message: /spawn it with models to hold many/ });
});

test('a model whose files vanish is refused with what is wrong, and the others go on', async (t) => {
  const root = makeTree(t, { 'fr/1/m': 'x', 'de/1/m': 'x' });
  await using system = quiet();
  const pool = await system.spawn('p', { actor: namer(nothingSaid()), models: { root, maxBytes: 100 } });
  await pool.ask('x', { model: 'de' });
  rmSync(path.join(root, 'fr'), { recursive: true });
  const error = await codeOf(t, pool.ask('x', { model: 'fr' }));
  t.is(error.code, 'MODEL_NOT_FOUND');
  t.is(await pool.ask('x', { model: 'de' }), 'de@1 x');
});

test('many names of models give no more than a hundred series and one for the rest', async (t) => {
  const list = Array.from({ length: 130 }, (_, n) => `m${n}`);
  await using system = quiet();
  const pool: Pool<string, string> = await system.spawn('p', {
    actor: namer(nothingSaid()),
    models: { list, maxBytes: 50 },
  });
  await pool.askMany(list, { model: (name) => name });
  for (let n = 0; n < 200; n++) await t.throwsAsync(pool.ask('x', { model: `nonsense-${n}` }));
  const lines = system
    .metrics()
    .split('\n')
    .filter((line) => line.startsWith('troupe_model_loads_total'));
  t.is(lines.length, 101);
  t.regex(lines.find((line) => line.includes('_other')) ?? '', /model="_other"\} 30$/);
  t.false(lines.some((line) => line.includes('nonsense')));
  const stats = pool.stats().models;
  t.true((stats?.resident.length ?? 99) <= 5);
  t.is(stats?.known.length, 130);
});

test('a pin that names a version keeps it when the model is swapped; one that names the model goes with it', async (t) => {
  const root = makeTree(t, { 'fr/1/m': 'x', 'de/1/m': 'x', 'it/1/m': 'x' });
  const said = nothingSaid();
  await using system = quiet({ models: { aliases: { de: { old: 1 } } } });
  const pool = await system.spawn('p', {
    actor: namer(said),
    models: { root, maxBytes: 40, pin: ['fr@1', 'de', 'de@old'] },
  });
  const pinned = (): string[] =>
    (pool.stats().models?.resident ?? [])
      .filter(({ isPinned }) => isPinned)
      .map(({ model, version }) => `${model}@${version}`)
      .sort();
  t.deepEqual(said.loads, ['fr@1', 'de@1'], 'two names of one version are one pin');
  t.deepEqual(pinned(), ['de@1', 'fr@1']);
  addTree(root, { 'fr/2/m': 'x', 'de/2/m': 'x' });

  await pool.swap(2, { model: 'de' });
  t.deepEqual(pinned(), ['de@1', 'de@2', 'fr@1'], 'an alias is the version that it stood for');
  await pool.swap(2, { model: 'fr' });
  t.is(await pool.ask('x', { model: 'fr' }), 'fr@2 x');
  t.deepEqual(pinned(), ['de@1', 'de@2', 'fr@1']);
  t.deepEqual(said.unloads, []);
  await pool.ask('x', { model: 'it' });
  t.deepEqual(said.unloads, ['fr'], 'fr@2, which nobody has pinned, had to go');
  t.deepEqual(pinned(), ['de@1', 'de@2', 'fr@1']);
  t.is(await pool.ask('x', { model: 'fr@1' }), 'fr@1 x');
  t.is(said.loads.filter((name) => name === 'fr@1').length, 1, 'it never went');
});

test('what a model takes is what its newest load said, for those too who came before it', async (t) => {
  const tensors = (shape: number[]): Signature => ({
    inputs: [{ name: 'x', dtype: 'float32', shape }],
    outputs: [{ name: 'x', dtype: 'float32', shape }],
  });
  const said = [tensors([2]), tensors([-1]), undefined, tensors([2])];
  const actor = defineActor<unknown, unknown, Signature | undefined>({
    load: () => said.shift(),
    signature: (signature) => signature,
    predict: (batch) => batch as never,
  });
  await using system = quiet();
  const pool = await system.spawn('p', { actor, models: { list: ['m'], maxBytes: 100 } });
  const ask = async (...lengths: number[]): Promise<unknown[]> => {
    const records = lengths.map((length) => ({ x: new Float32Array(length) }));
    const outcomes = await pool.askMany(records, { model: 'm' });
    return outcomes.map((outcome) =>
      outcome.ok ? (outcome.value as { x: Float32Array }).x.length : outcome.error.code,
    );
  };
  const unloaded = async (): Promise<void> => {
    const gone = new Promise<void>((resolve) => pool.once('model-evicted', () => resolve()));
    t.true(pool.unload('m'));
    await gone;
  };
  t.deepEqual(await ask(2, 3), [2, 'INPUT_INVALID']);
  await unloaded();
  t.deepEqual(await ask(2, 3), [2, 3], 'any length, and two lengths do not share a batch');
  t.deepEqual(pool.signatureOf('m'), tensors([-1]));
  await unloaded();
  t.deepEqual(await ask(2, 3), [2, 3], 'records of any kind');
  t.is(pool.signatureOf('m'), undefined);
  await unloaded();
  t.deepEqual(await ask(3, 2), ['INPUT_INVALID', 2]);
  t.deepEqual(pool.signatureOf('m'), tensors([2]));
});

test('the tensors of models are remembered for so many, and for all that are held', async (t) => {
  t.timeout(120_000);
  const count = 4100;
  const list = ['kept', ...Array.from({ length: count }, (_, n) => `m${n}`)];
  const actor = defineActor<TensorRecord, TensorRecord, undefined>({
    load: ({ usesBytes }) => {
      usesBytes(10);
      return undefined;
    },
    signature: (_state) => ({
      inputs: [{ name: 'x', dtype: 'float32', shape: [-1] }],
      outputs: [{ name: 'x', dtype: 'float32', shape: [-1] }],
    }),
    predict: ({ count, columns }) => ({ count, columns }),
  });
  await using system = quiet();
  const pool = await system.spawn('p', { actor, models: { list, pin: ['kept'], maxBytes: 200 } });
  for (let n = 0; n < count; n++) await pool.preload(`m${n}`);
  const known = list.filter((name) => pool.signatureOf(name) !== undefined);
  t.is(known.length, 4096);
  t.true(known.includes('kept'), 'though it was the first');
  t.true(known.includes(`m${count - 1}`));
  // Forgotten, it is told again by its next load.
  t.is(pool.signatureOf('m0'), undefined);
  const records = [{ x: new Float32Array(2) }, { x: new Float32Array(3) }];
  const outcomes = await pool.askMany(records, { model: 'm0' });
  t.true(
    outcomes.every(({ ok }) => ok),
    'two shapes do not share a batch',
  );
  t.truthy(pool.signatureOf('m0'));
});
