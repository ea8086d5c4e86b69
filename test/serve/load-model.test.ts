import test, { type ExecutionContext } from 'ava';
import { defineActor, isTroupeError } from 'troupe';
import { versionToLoad } from '../../src/serve/load-parameters.js';
import { Refusal } from '../../src/stream/http-body.js';
import { makeTree } from '../models/model-tree.js';
import { grpcStand, status } from './grpc-stand.js';

/** What a load may say, and what it does. */

const NOW = {
  name: 'net',
  platform: 'troupe_actor',
  max_batch_size: 8,
  input: [{ name: 'x', data_type: 'TYPE_FP32', dims: [2], optional: false }],
  dynamic_batching: { preferred_batch_size: [8], max_queue_delay_microseconds: 0 },
};

function asked(config: unknown, name = 'config'): Promise<string | undefined> {
  return versionToLoad(new Map([[name, config]]), async () => NOW);
}

const json = (config: object): Promise<string | undefined> => asked(JSON.stringify(config));

async function refusal(run: Promise<unknown>): Promise<readonly [number, string]> {
  try {
    await run;
  } catch (error) {
    if (error instanceof Refusal) return [error.status, error.message];
    if (isTroupeError(error) && error.code === 'INPUT_INVALID') return [400, error.message];
    throw error;
  }
  throw new Error('it was not refused');
}

test('a load takes the version that version_policy names, and the newest without one', async (t) => {
  t.is(await versionToLoad(new Map(), () => Promise.reject(new Error('nobody asked for it'))), undefined);
  t.is(await json({}), undefined);
  t.is(await json({ version_policy: {} }), undefined);
  t.is(await json({ version_policy: { latest: {} } }), undefined);
  t.is(await json({ versionPolicy: { latest: { numVersions: 1 } } }), undefined);
  t.is(await json({ version_policy: { specific: { versions: [2] } } }), '2');
  t.is(await json({ versionPolicy: { specific: { versions: ['9007199254740991'] } } }), '9007199254740991');
});

test('of the rest of a configuration a load takes what is so already, as clients write what they were told', async (t) => {
  t.is(await json({ ...NOW, version_policy: { specific: { versions: [3] } } }), '3');
  // As protobuf writes JSON: numbers of 64 bits as texts, defaults left out, names in camel case.
  const input = [{ name: 'x', dataType: 'TYPE_FP32', dims: ['2'] }];
  t.is(await json({ name: 'net', maxBatchSize: 8, input, dynamicBatching: { preferredBatchSize: [8] } }), undefined);
  t.is(await json({ ensemble_scheduling: {}, metric_tags: {}, runtime: '', input: NOW.input }), undefined);
  for (const config of [
    { name: 'other' },
    { max_batch_size: 16 },
    { max_batch_size: 0 },
    { input: [] },
    { input: [{ ...NOW.input[0], dims: [3] }] },
    { dynamic_batching: { max_queue_delay_microseconds: 100 } },
    { dynamic_batching: null },
    { dynamic_batching: [8] },
    { instance_group: [{ count: 2 }] },
    { parameters: { a: { string_value: 'b' } } },
  ]) {
    const [status, message] = await refusal(json(config));
    t.is(status, 501, message);
    t.regex(message, /is not as it is now; a load takes version_policy and changes nothing else/);
  }
});

test('a load with several versions, with files, or with what is no configuration is refused', async (t) => {
  const versions = (list: unknown): Promise<unknown> => json({ version_policy: { specific: { versions: list } } });
  for (const run of [
    versions([1, 2]),
    json({ version_policy: { all: {} } }),
    json({ version_policy: { latest: { num_versions: 2 } } }),
    asked('aGVsbG8=', 'file:1/model.onnx'),
  ])
    t.is((await refusal(run))[0], 501);
  for (const [run, words] of [
    [versions([]), /an array of one version/],
    [versions('2'), /an array of one version/],
    [versions([0]), /a whole number from 1, got 0/],
    [versions([1.5]), /a whole number from 1/],
    [versions(['../2']), /a whole number from 1/],
    [versions([2 ** 53]), /a whole number from 1/],
    [asked('{"version_policy":{"specific":{"versions":[18446744073709551616]}}}'), /a whole number from 1/],
    [json({ version_policy: { latest: {}, all: {} } }), /"latest" and "all" exclude each other/],
    [json({ version_policy: { newest: {} } }), /latest, specific or all/],
    [json({ version_policy: 'latest' }), /must be an object/],
    [json({ version_policy: { specific: [2] } }), /must be an object/],
    [json({ max_batch: 8 }), /there is no field "max_batch" in a model configuration/],
    [json({ maxBatchSize: 8, max_batch_size: 8 }), /max_batch_size is given twice/],
    [asked('{"__proto__": 1}'), /there is no field "__proto__"/],
    [asked('{"constructor": 1}'), /there is no field "constructor"/],
    [asked('{'), /config is not JSON/],
    [asked('[]'), /config must be an object/],
    [asked({}), /config must be JSON in a string/],
    [asked(undefined), /config must be JSON in a string/],
    [asked('{}', 'conf'), /there is no parameter "conf" of a load/],
    [asked('{}', 'toString'), /there is no parameter "toString" of a load/],
  ] as const)
    t.regex((await refusal(run)).join(' '), words);
});

const TOKENS = { infer: ['infer-0123456789abcdef'], admin: ['admin-0123456789abcdef'] };
const ADMIN = { authorization: `Bearer ${TOKENS.admin[0]}` };
const LOAD = '/v2/repository/models/net/load';

const tensor = (name: string) => ({ name, dtype: 'float32', shape: [2] }) as const;
const echo = defineActor({
  signature: { inputs: [tensor('x')], outputs: [tensor('y')] },
  predict: ({ count, columns }) => ({ count, columns: { y: { ...tensor('y'), data: columns['x']?.data ?? [] } } }),
});

async function loading(t: ExecutionContext) {
  const dir = makeTree(t, { 'net/1/m': '', 'net/2/m': '', 'net/3/m': '' });
  return { dir, ...(await grpcStand(t, { tokens: TOKENS })) };
}

const specific = (version: number): string => JSON.stringify({ version_policy: { specific: { versions: [version] } } });

test('over HTTP and gRPC a load swaps a pool to the version of its config, and without one to the newest', async (t) => {
  const { dir, system, post, ask, refusal: refused, get } = await loading(t);
  const pool = await system.spawn('net', { actor: echo, isolation: 'inline', model: `${dir}/net`, version: '2' });
  const load = (parameters: object) => post(LOAD, { parameters }, ADMIN);
  t.like(await load({ config: specific(1) }), { status: 200, text: '{}' });
  t.is(pool.version, '1');
  const told = (await get('/v2/models/net/config', ADMIN)).json;
  t.is((await load({ config: JSON.stringify(told) })).status, 200, 'what was told is taken');
  t.is(pool.version, '3');
  const over = (config: string) => ({ model_name: 'net', parameters: { config: { string_param: config } } });
  t.deepEqual(await ask('RepositoryModelLoad', over(specific(2)), { headers: ADMIN }), {});
  t.is(pool.version, '2');
  t.like(await load({ config: specific(9) }), { status: 404 });
  t.like(await load({ config: '{"max_batch_size": 1}' }), { status: 501 });
  t.like(await load({ config: 1 }), { status: 400 });
  t.like(await load({ config: '{}', 'file:1/model.onnx': 'aGVsbG8=' }), { status: 501 });
  t.like(await post(LOAD, { parameters: [] }, ADMIN), { status: 200 }, 'a list holds none');
  t.is(pool.version, '3');
  const batch = await refused('RepositoryModelLoad', over('{"max_batch_size": 1}'), { headers: ADMIN });
  t.is(batch.code, status.UNIMPLEMENTED);
  const number = { model_name: 'net', parameters: { config: { int64_param: 1 } } };
  t.is((await refused('RepositoryModelLoad', number, { headers: ADMIN })).code, status.INVALID_ARGUMENT);
  const others = { authorization: `Bearer ${TOKENS.infer[0]}` };
  t.is((await post(LOAD, { parameters: { config: specific(1) } }, others)).status, 403);
  t.is(pool.version, '3');
});

test('a load with a version takes one of many models over to it, and one without files has no version but 1', async (t) => {
  const { dir, system, post } = await loading(t);
  const pool = await system.spawn('many', { actor: echo, isolation: 'inline', models: { root: dir, maxBytes: 1e6 } });
  const load = (name: string, version: number) =>
    post(`/v2/repository/models/${name}/load`, { parameters: { config: specific(version) } }, ADMIN);
  const loaded = () => pool.stats().models?.resident.map(({ model, version }) => `${model}@${version}`);
  t.is((await load('net', 1)).status, 200);
  t.deepEqual(loaded(), ['net@1']);
  const data = { inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 2], data: [1, 2] }] };
  t.is((await post('/v2/models/net/infer', data, ADMIN)).json.model_version, '1');
  t.is((await load('net', 2)).status, 200);
  t.is((await post('/v2/models/net/infer', data, ADMIN)).json.model_version, '2');
  t.is((await load('net', 9)).status, 404);
  await system.spawn('plain', { actor: echo });
  t.is((await load('plain', 1)).status, 200);
  t.is((await load('plain', 2)).status, 404);
});
