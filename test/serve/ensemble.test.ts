import test from 'ava';
import { chain, chainDir, ensembleDir, ensembleText } from '../actor/ensemble-graph.js';
import { floats, grpcStand } from './grpc-stand.js';

test('an ensemble is served like any pool, and told as Triton tells of one, over HTTP and gRPC', async (t) => {
  const { system, ask, get, post } = await grpcStand(t);
  await chain(system);
  await system.spawn('e', { actor: 'ensemble', model: chainDir(t) });
  const request = { inputs: [{ name: 'in', datatype: 'FP32', shape: [2, 2], data: [1, 2, 3, 4] }] };
  const answer = await post('/v2/models/e/infer', request);
  t.like(answer, { status: 200 });
  t.deepEqual(answer.json.outputs, [{ name: 'out', datatype: 'FP32', shape: [2, 2], data: [3, 5, 7, 9] }]);
  const { raw_output_contents: raw } = await ask('ModelInfer', {
    model_name: 'e',
    inputs: [{ name: 'in', datatype: 'FP32', shape: [1, 2] }],
    raw_input_contents: [floats(5, 6)],
  });
  t.deepEqual(raw, [floats(11, 13)]);
  t.like((await get('/v2/models/e')).json, { platform: 'ensemble', versions: ['1'] });
  const config = (await get('/v2/models/e/config')).json;
  t.like(config, { platform: 'ensemble', backend: '', max_batch_size: 32 });
  t.false('instance_group' in config || 'dynamic_batching' in config);
  const scheduling = {
    step: [
      { model_name: 'double', model_version: -1, input_map: { x: 'in' }, output_map: { y: 'doubled' } },
      { model_name: 'inc', model_version: -1, input_map: { x: 'doubled' }, output_map: { y: 'out' } },
    ],
    max_inflight_requests: 0,
  };
  t.deepEqual(config.ensemble_scheduling, scheduling);
  const told = (await ask('ModelConfig', { name: 'e' })).config;
  t.is(told.scheduling_choice, 'ensemble_scheduling');
  const step = scheduling.step.map((one) => ({ ...one, model_version: '-1' }));
  t.deepEqual(told.ensemble_scheduling, { ...scheduling, step });
  t.like((await get('/v2/models/double/config')).json, { platform: 'troupe_actor' });
});

test('a record that does not fit an ensemble is the fault of who sent it; a step that is gone is no fault of theirs', async (t) => {
  const { system, get, post } = await grpcStand(t);
  await chain(system);
  const text = ensembleText(['in'], ['out'], [{ model: 'e', takes: { in: 'in' }, gives: { out: 'out' } }]);
  await Promise.all([
    system.spawn('top', { actor: 'ensemble', model: ensembleDir(t, text) }),
    system.spawn('e', { actor: 'ensemble', model: chainDir(t) }),
  ]);
  const infer = (data: readonly number[]) =>
    post('/v2/models/top/infer', { inputs: [{ name: 'in', datatype: 'FP32', shape: [1, data.length], data }] });
  t.is((await infer([1, 2])).status, 200);
  t.is((await infer([1, 2, 3])).status, 400);
  t.like(await get('/v2/models/top/ready'), { status: 200, json: { ready: true } });
  await system.stopPool('inc');
  const answer = await infer([1, 2]);
  t.is(answer.status, 503);
  t.is(answer.json.error, 'step 1 (e): step 2 (inc): there is no pool "inc" any more');
  t.is((await get('/v2/models/top/ready')).status, 400);
  t.deepEqual(await system.get('top')?.health(), {
    ready: false,
    why: 'a pool that it asks is not ready: a pool that it asks is gone',
  });
});
