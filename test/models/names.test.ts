import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import {
  connectControl,
  type ControlClient,
  createSystem,
  defineActor,
  isTroupeError,
  type Pool,
  silentLog,
  type System,
} from 'troupe';
import { parseConfig } from '../../src/config/load.js';
import { isName, isVersion } from '../../src/models/names.js';
import { ModelRepository } from '../../src/models/repository.js';
import { privateFolder } from '../control/stand.js';
import { makeTree } from './model-tree.js';

/** What is no name, whoever is asked. */
const BAD: Readonly<Record<string, string>> = {
  empty: '',
  'a space': ' ',
  'a line break at the end': 'net\n',
  'white space around': ' net ',
  'the parent': '..',
  'the directory itself': '.',
  'a way out': '../../etc/passwd',
  'a way out and back in': 'net/../net',
  'a step down': 'net/1',
  backslashes: '..\\..\\etc',
  'a hidden name': '.git',
  'an absolute path': '/etc/passwd',
  'a drive': 'C:',
  'an encoded way out': '%2e%2e%2fetc',
  'a double-encoded way out': '%252e%252e%252f',
  'overlong UTF-8 of a slash, decoded': 'a\ufffdb',
  'a NUL': 'net\0.onnx',
  'a command': 'net;rm',
  'a substitution': '$(id)',
  'an escape sequence': '\u001b[31mnet',
  'a homoglyph': 'nеt', // the second letter is Cyrillic
  'a full-width dot': '．．',
  'a zero-width space': 'net\u200b',
  'a right-to-left mark': 'net\u202e',
  'a lone surrogate': '\ud800',
  '129 characters': 'a'.repeat(129),
  'a hundred thousand characters': 'a'.repeat(100_000),
  'a URL': 'https://example.com/net',
  'a label of metrics': 'net{pool="x"}',
};

/** Names that are names, and must not be found by way of what every object has. */
const ODD = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'CON', 'NUL', 'a..b', '-rf', 'a'.repeat(128)];

/** NAME_INVALID, a TypeError that tells the rule, or CONFIG_INVALID: whatever this API answers wrong names with. */
async function isRefused(t: ExecutionContext, what: string, run: () => unknown): Promise<void> {
  try {
    await run();
  } catch (error) {
    const text = error instanceof Error ? `${error.message} ${(error.cause as Error | undefined)?.message ?? ''}` : '';
    t.true(text.length < 3000, `${what}: a short message, not ${text.length} characters`);
    t.false(/[\p{Cc}]/u.test(text.replaceAll('\n', '')), `${what}: control characters in the message`);
    if (isTroupeError(error)) {
      const cause = isTroupeError(error.cause) ? error.cause.code : error.code;
      t.true(['NAME_INVALID', 'CONFIG_INVALID'].includes(cause), `${what}: ${cause}: ${text}`);
    } else
      t.true(
        error instanceof TypeError && /must be (1 to 128|the name of a model)/.test(text),
        `${what}: ${String(error)}`,
      );
    return;
  }
  t.fail(`${what}: not refused`);
}

interface Place {
  readonly models: ModelRepository;
  readonly system: System;
  readonly pool: Pool<string, string>;
  /** Holds many models. */
  readonly many: Pool<string, string>;
  readonly control: ControlClient;
}

async function makePlace(t: ExecutionContext): Promise<Place> {
  const dir = makeTree(t, { 'root/net/1/m': '', secret: '' });
  const options = { roots: [path.join(dir, 'root')] };
  const system = createSystem({ log: silentLog, models: options });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  const pool = await system.spawn('p', { actor: echo, model: 'net', version: 1 });
  const many = await system.spawn('many', { actor: echo, models: { maxBytes: 10 } });
  const { socket } = await system.openControl({ socket: path.join(privateFolder(t), 'c.sock') });
  const control = await connectControl(socket, { access: 'write' });
  t.teardown(() => control.close());
  return { models: new ModelRepository(options), system, pool, many, control };
}

const echo = defineActor<string, string, void>({ predict: (batch: string[]) => batch });
const quoted = (name: string): string => JSON.stringify(name);

const APIS: Readonly<Record<string, (name: string, place: Place) => unknown>> = {
  'createSystem({ name })': (name) => createSystem({ name }),
  'createSystem({ models.aliases: model })': (name) => createSystem({ models: { aliases: { [name]: { a: 1 } } } }),
  'createSystem({ models.aliases: alias })': (name) => createSystem({ models: { aliases: { net: { [name]: 1 } } } }),
  'system.spawn(name)': (name, { system }) => system.spawn(name, { actor: echo }),
  'system.spawn({ version })': (version, { system }) => system.spawn('q', { actor: echo, model: 'net', version }),
  'system.spawn({ models.list })': (name, { system }) =>
    system.spawn('q', { actor: echo, models: { list: [name], maxBytes: 1 } }),
  'system.spawn({ models.pin })': (name, { system }) =>
    system.spawn('q', { actor: echo, models: { pin: [name], maxBytes: 1 } }),
  'pool.swap(version)': (name, { pool }) => pool.swap(name),
  'pool.planSwap(version)': (name, { pool }) => pool.planSwap(name),
  'pool.swap(1, { model })': (model, { many }) => many.swap(1, { model }),
  'pool.swap(version, { model })': (version, { many }) => many.swap(version, { model: 'net' }),
  'pool.ask({ model })': (model, { many }) => many.ask('x', { model }),
  'pool.ask({ model: name@version })': (version, { many }) => many.ask('x', { model: `net@${version}` }),
  'pool.preload(model)': (model, { many }) => many.preload(model),
  'pool.unload(model)': (model, { many }) => many.unload(model),
  'control.swap(pool)': (name, { control }) => control.swap(name, 1),
  'control.swap(version)': (version, { control }) => control.swap('p', version),
  'control.canary(version)': (version, { control }) => control.call('canary', { pool: 'p', version }),
  'control.shadow(version)': (version, { control }) => control.call('shadow', { pool: 'p', version }),
  'control.preload(model)': (model, { control }) => control.preload('many', model),
  'control.unload(model)': (model, { control }) => control.unload('many', model),
  'control.swap({ model })': (model, { control }) => control.call('swap', { pool: 'many', version: 1, model }),
  'control.ask({ model })': (model, { control }) => control.call('ask', { pool: 'many', record: 'x', model }),
  'control.stats(pool)': (name, { control }) => control.stats(name),
  'control.deadLetters(pipeline)': (pipeline, { control }) => control.call('deadLetters', { pipeline }),
  'models.locate(model, 1)': (name, { models }) => models.locate(name, '1'),
  'models.locate(net, version)': (name, { models }) => models.locate('net', name),
  'models.model(model)': (name, { models }) => models.model(name),
  'models.config(model)': (name, { models }) => models.config(name),
  'models.hash(model, 1)': (name, { models }) => models.hash(name, '1'),
  'models.hash(net, version)': (name, { models }) => models.hash('net', name),
  'config: name': (name) => parseConfig(`name: ${quoted(name)}`, { file: 'f.yaml', env: {} }),
  'config: pools': (name) => parseConfig(`pools: { ${quoted(name)}: { actor: mock } }`, { file: 'f.yaml', env: {} }),
  'config: pipelines': (name) =>
    parseConfig(`pipelines: { ${quoted(name)}: { source: { file: a }, sink: { file: b } } }`, {
      file: 'f.yaml',
      env: {},
    }),
  'config: version': (name) =>
    parseConfig(`pools: { p: { actor: mock, version: ${quoted(name)} } }`, { file: 'f.yaml', env: {} }),
  'config: infer.pool': (name) =>
    parseConfig(
      `pipelines: { a: { source: { file: a }, steps: [{ infer: { pool: ${quoted(name)} } }], sink: { file: b } } }`,
      { file: 'f.yaml', env: {} },
    ),
  'config: models.aliases': (name) =>
    parseConfig(`models: { aliases: { net: { ${quoted(name)}: 1 } } }`, { file: 'f.yaml', env: {} }),
};

/** With a separator in it, these take what is given for the path of a model: the user's own word, not a name. */
const TAKES_PATHS = new Set([
  'models.locate(model, 1)',
  'models.model(model)',
  'models.config(model)',
  'models.hash(model, 1)',
]);

for (const [api, call] of Object.entries(APIS)) {
  test(`${api} refuses whatever is no name before it is looked for`, async (t) => {
    const place = await makePlace(t);
    let count = 0;
    for (const [what, name] of Object.entries(BAD)) {
      if (TAKES_PATHS.has(api) && /[/\\]/.test(name)) continue;
      count++;
      await isRefused(t, `${api} with ${what}`, () => call(name, place));
    }
    t.true(count >= 19);
  });
}

test('a name that every object has as a property is a name like others, and nothing is found by it', async (t) => {
  const { models, system, pool } = await makePlace(t);
  for (const name of ODD) {
    t.throws(() => models.model(name), { message: /There is no model/ }, name);
    await t.throwsAsync(models.locate('net', name), { message: /no version or alias/ }, name);
    t.is(system.get(name), undefined);
    t.is(await system.stopPool(name), undefined);
    const missing = await t.throwsAsync(pool.call(name));
    t.true(isTroupeError(missing) && missing.code === 'METHOD_NOT_FOUND', `${name}: ${String(missing)}`);
  }
  const odd = await system.spawn('__proto__', { actor: echo });
  t.is(await odd.ask('x'), 'x');
  t.deepEqual(Object.keys(system.stats()).sort(), ['__proto__', 'many', 'p']);
  const named = createSystem({ models: { aliases: { net: { ['__proto__']: 1 } } }, log: silentLog });
  t.truthy(named);
});

test('any text is a name exactly if it is made of the letters of names', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string({ unit: 'binary', maxLength: 140 }), fc.stringMatching(/^[\w.-]{0,140}$/)),
      (text) => {
        const letters = text
          .split('')
          .every((letter) => 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-'.includes(letter));
        t.is(isName(text), letters && text.length >= 1 && text.length <= 128 && !text.startsWith('.'));
      },
    ),
    { numRuns: 1000 },
  );
});

test('a version is a positive whole number that is exact, written in one way', (t) => {
  for (const good of ['1', '9', '10', '9007199254740991']) t.true(isVersion(good), good);
  for (const bad of ['', '0', '01', '-1', '+1', '1.0', '1e3', '9007199254740992', '٣', '1 ', 'latest', 1, null])
    t.false(isVersion(bad), String(bad));
});

test('an alias must not be called latest or like a number, and stands for a number', (t) => {
  for (const aliases of [{ latest: 1 }, { '3': 1 }, { a: 0 }, { a: 'latest' }, { a: '01' }, { a: 1.5 }])
    t.throws(() => createSystem({ models: { aliases: { net: aliases as Record<string, number> } } }), {
      instanceOf: TypeError,
    });
});
