import { gunzipSync, gzipSync, deflateSync, inflateSync } from 'node:zlib';
import { connect } from 'node:net';
import test from 'ava';
import { deferred } from '../../src/kernel/deferred.js';
import { doubler, doublerAfter, heldDoubler, pairs, stand } from './oip-stand.js';

const INFER = '/v2/models/double/infer';

test('the server, its models and their health are told as clients of the protocol read them', async (t) => {
  const { system, get } = await stand(t);
  await system.spawn('double', { actor: doubler, batching: { maxSize: 16 } });
  const server = await get('/v2');
  t.like(server.json, { name: 'troupe' });
  t.true(server.json.extensions.includes('binary_tensor_data'));
  t.like(await get('/v2/health/live'), { status: 200, json: { live: true } });
  t.like(await get('/v2/health/ready'), { status: 200, json: { live: true, ready: true } });
  const metadata = {
    name: 'double',
    versions: ['1'],
    platform: 'troupe_actor',
    inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }],
    outputs: [
      { name: 'y', datatype: 'FP32', shape: [-1, 2] },
      { name: 'batch', datatype: 'INT64', shape: [-1] },
    ],
  };
  for (const at of ['', '/versions/1', '/versions/latest', '/versions/LATEST'])
    t.deepEqual((await get(`/v2/models/double${at}`)).json, metadata, at);
  t.like(await get('/v2/models/double/ready'), { status: 200, json: { name: 'double', ready: true } });
  const config = (await get('/v2/models/double/config')).json;
  t.like(config, { name: 'double', max_batch_size: 16, model_transaction_policy: { decoupled: false } });
  t.deepEqual(config.input, [{ name: 'x', data_type: 'TYPE_FP32', dims: [2], optional: false }]);
});

test('a request of n rows is n records, answered in order, as JSON or as bytes', async (t) => {
  const { system, get, post } = await stand(t);
  await system.spawn('double', { actor: doubler });
  const plain = await post(INFER, { id: '42', ...pairs([1, 2], [3, 4], [5, 6]), outputs: [{ name: 'y' }] });
  t.is(plain.status, 200);
  t.deepEqual(plain.json, {
    model_name: 'double',
    model_version: '1',
    id: '42',
    outputs: [{ name: 'y', datatype: 'FP32', shape: [3, 2], data: [2, 4, 6, 8, 10, 12] }],
  });
  t.is(plain.headers['inference-header-content-length'], undefined);
  const head = JSON.stringify({
    parameters: { binary_data_output: true },
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 2], parameters: { binary_data_size: 8 } }],
  });
  const body = Buffer.concat([Buffer.from(head), Buffer.from(Float32Array.of(0.5, -1).buffer)]);
  const binary = await post(INFER, body, { 'Inference-Header-Content-Length': String(head.length) });
  t.like(binary, { status: 200, headers: { 'content-type': 'application/octet-stream' } });
  const length = Number(binary.headers['inference-header-content-length']);
  const said = JSON.parse(binary.bytes.subarray(0, length).toString());
  t.deepEqual(said.outputs, [
    { name: 'y', datatype: 'FP32', shape: [1, 2], parameters: { binary_data_size: 8 } },
    { name: 'batch', datatype: 'INT64', shape: [1], parameters: { binary_data_size: 8 } },
  ]);
  t.is(binary.bytes.readFloatLE(length), 1);
  t.is(binary.bytes.readFloatLE(length + 4), -2);
  t.is(binary.bytes.readBigInt64LE(length + 8), 1n);
  const raw = await post(INFER, Buffer.from(Float32Array.of(7, 8).buffer), { 'Inference-Header-Content-Length': '0' });
  t.is(raw.bytes.readFloatLE(Number(raw.headers['inference-header-content-length'])), 14);
  const stats = (await get('/v2/models/double/stats')).json.model_stats[0];
  t.like(stats, { name: 'double', version: '1', inference_count: 5, execution_count: 3 });
  t.is(stats.inference_stats.success.count, 3);
  t.is(Object.keys(stats.inference_stats).length, 8);
  for (const compute of ['compute_input', 'compute_infer', 'compute_output'])
    t.is(stats.inference_stats[compute].count, 5, compute);
});

test('large and small answers have every byte, whatever came over the connection before, names of any script included', async (t) => {
  const { system, post } = await stand(t);
  await system.spawn('double', { actor: doubler, mailbox: { capacity: 100_000 } });
  const ask = async (rows: number, seed: number): Promise<void> => {
    const id = `Zahl ü € 数 ${seed}`;
    const head = Buffer.from(
      JSON.stringify({
        id,
        inputs: [{ name: 'x', datatype: 'FP32', shape: [rows, 2], parameters: { binary_data_size: rows * 8 } }],
        outputs: [{ name: 'y', parameters: { binary_data: true } }],
      }),
    );
    const xs = Float32Array.from({ length: 2 * rows }, (_, index) => index + seed);
    const body = Buffer.concat([head, Buffer.from(xs.buffer)]);
    const answer = await post(INFER, body, { 'Inference-Header-Content-Length': String(head.length) });
    t.is(answer.status, 200);
    const length = Number(answer.headers['inference-header-content-length']);
    t.is(JSON.parse(answer.bytes.subarray(0, length).toString()).id, id);
    const ys = new Float32Array(
      answer.bytes.buffer.slice(answer.bytes.byteOffset + length, answer.bytes.byteOffset + answer.bytes.length),
    );
    t.is(ys.length, xs.length);
    t.true(
      ys.every((y, index) => y === 2 * (index + seed)),
      `${rows} rows`,
    );
  };
  for (const rows of [1, 900, 1100, 17_000, 17_000]) await ask(rows, rows);
  await Promise.all([0, 1, 2].map((seed) => ask(17_000 + seed, seed)));
});

test('names in capitals and a row without its first dimension are taken, as a widespread client sends them', async (t) => {
  const { system, post } = await stand(t);
  await system.spawn('double', { actor: doubler });
  const answer = await post('/v2/models/double/versions/latest/infer', {
    inputs: [{ name: 'X', datatype: 'FP32', shape: [2], data: [1, 2] }],
    outputs: [{ name: 'Y' }],
  });
  t.deepEqual(answer.json.outputs, [{ name: 'Y', datatype: 'FP32', shape: [1, 2], data: [2, 4] }]);
});

test('requests of two connections share a batch', async (t) => {
  const { system, post } = await stand(t);
  const held = heldDoubler();
  const pool = await system.spawn('double', { actor: held.actor, batching: { maxSize: 8 } });
  const first = post(INFER, pairs([0, 0]));
  await held.entered; // The replica is busy: what comes now waits in the mailbox, and leaves it together.
  const others = [post(INFER, pairs([1, 1], [2, 2])), post(INFER, pairs([3, 3]))];
  while (pool.stats().accepted < 4) await new Promise((resolve) => setImmediate(resolve));
  held.letGo();
  t.is((await first).status, 200);
  const [two, one] = await Promise.all(others);
  t.deepEqual(two?.json.outputs[0].data, [2, 2, 4, 4]);
  t.deepEqual(two?.json.outputs[1].data, [3, 3], 'a batch of three records');
  t.deepEqual(one?.json.outputs[1].data, [3], 'the same batch');
});

test('errors are the protocol’s own, with the status that clients go by', async (t) => {
  const { system, get, post } = await stand(t);
  await system.spawn('double', { actor: doubler });
  await system.spawn('rows', { actor: 'mock', isolation: 'inline' });
  await system.spawn('broken', {
    actor: doublerAfter(() => {
      throw new Error('out of luck');
    }),
  });
  const said = async (answer: ReturnType<typeof get>, status: number, words: RegExp): Promise<void> => {
    const { json, ...got } = await answer;
    t.is(got.status, status);
    t.deepEqual(Object.keys(json), ['error']);
    t.regex(json.error, words);
  };
  await said(get('/v2/models/none'), 404, /no model "none"/);
  await said(post('/v2/models/none/infer', pairs([1, 2])), 404, /no model "none"/);
  await said(get('/v2/models/double/versions/7'), 404, /serves version 1, not 7/);
  await said(get('/v2/models/a%2Fb'), 404, /no such path/);
  await said(get('/v2/models/%2e%2e/config'), 404, /no such path/);
  await said(get('/v2/nothing'), 404, /no such path/);
  await said(get(INFER), 405, /only POST/);
  await said(post(INFER, '{'), 400, /not JSON/);
  await said(post(INFER, {}), 400, /inputs are missing/);
  await said(post(INFER, { inputs: [] }), 400, /input "x" is missing/);
  const input = { name: 'x', datatype: 'FP32', shape: [1, 2], data: [1, 2] };
  const bent = (more: object) => post(INFER, { inputs: [{ ...input, ...more }] });
  await said(bent({ name: 'z' }), 400, /no input "z"; the model has "x"/);
  await said(bent({ datatype: 'FP64' }), 400, /the model takes FP32, got FP64/);
  await said(bent({ shape: [2, 1] }), 400, /shape must be \[-1, 2\], got \[2, 1\]/);
  await said(bent({ shape: [0, 2], data: [] }), 400, /one record at least/);
  await said(bent({ shape: [1_000_000, 2] }), 400, /takes 2000000 values, data has 2/);
  await said(bent({ shape: [9_007_199_254_740_991, 0], data: [] }), 400, /spans more values/);
  await said(post(INFER, { ...pairs([1, 2]), outputs: [{ name: 'q' }] }), 400, /no output "q"/);
  await said(post(INFER, { ...pairs([1, 2]), parameters: { timeout: -1 } }), 400, /timeout must be/);
  await said(post('/v2/models/rows/infer', pairs([1, 2])), 400, /takes records and no tensors/);
  await said(post('/v2/models/broken/infer', pairs([1, 2])), 500, /out of luck/);
  await said(post('/v2/repository/models/double/load'), 403, /may not do that/);
  await said(post('/v2/repository/models/double/unload'), 403, /may not do that/);
  await said(post('/v2/systemsharedmemory/region/r/register', '{}'), 501, /shared memory/);
  t.deepEqual((await get('/v2/systemsharedmemory/status')).json, []);
  t.is((await post('/v2/cudasharedmemory/unregister')).status, 200);
});

test('a full mailbox is 503 with Retry-After, and what waits is not harmed', async (t) => {
  const { system, post } = await stand(t);
  const held = heldDoubler();
  const pool = await system.spawn('double', {
    actor: held.actor,
    mailbox: { capacity: 2 },
    batching: { maxSize: 1 },
  });
  const waiting = [post(INFER, pairs([1, 1]))];
  await held.entered;
  waiting.push(post(INFER, pairs([2, 2])), post(INFER, pairs([3, 3])));
  while (pool.stats().mailbox.held < 2) await new Promise((resolve) => setImmediate(resolve));
  const refused = await post(INFER, pairs([4, 4]));
  t.like(refused, { status: 503, json: { error: 'The mailbox of "double" is full' } });
  t.is(refused.headers['retry-after'], '1');
  held.letGo();
  t.deepEqual(
    (await Promise.all(waiting)).map(({ status }) => status),
    [200, 200, 200],
  );
});

test('a request larger than the mailbox feeds itself as there is room', async (t) => {
  const { system, post } = await stand(t);
  await system.spawn('double', { actor: doubler, mailbox: { capacity: 4 }, batching: { maxSize: 2 } });
  const rows = Array.from({ length: 50 }, (_, index) => [index, index] as const);
  const answer = await post(INFER, pairs(...rows));
  t.deepEqual(
    answer.json.outputs[0].data,
    rows.flatMap(([index]) => [2 * index, 2 * index]),
  );
});

test('a client that leaves takes its queued records with it', async (t) => {
  const { system, post, serving } = await stand(t);
  const gate = deferred<void>();
  const entered = deferred<void>();
  const seen: number[] = [];
  const pool = await system.spawn('double', {
    actor: doublerAfter(async (xs) => {
      seen.push(...xs);
      entered.resolve();
      await gate.promise;
    }),
    batching: { maxSize: 1 },
  });
  const first = post(INFER, pairs([1, 1]));
  await entered.promise;
  const body = JSON.stringify(pairs([7, 7], [8, 8]));
  const socket = connect(serving.addresses[0]?.port ?? 0, '127.0.0.1');
  socket.write(`POST ${INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  while (pool.stats().mailbox.held < 2) await new Promise((resolve) => setImmediate(resolve));
  socket.destroy();
  while (pool.stats().mailbox.held > 0) await new Promise((resolve) => setImmediate(resolve));
  t.is(pool.stats().errors.CANCELLED, 2);
  gate.resolve();
  t.is((await first).status, 200);
  t.deepEqual(seen, [1, 1]);
  t.regex(system.metrics(), /troupe_served_requests_total\{pool="double",outcome="gone"\} 1/);
});

test('a deadline passed in the queue is 503, in the model 504', async (t) => {
  const { system, post } = await stand(t);
  const held = heldDoubler();
  t.teardown(() => held.letGo());
  await system.spawn('double', {
    actor: held.actor,
    batching: { maxSize: 1 },
  });
  const running = post(INFER, { ...pairs([1, 1]), parameters: { timeout: 3_000_000 } });
  await held.entered;
  const queued = await post(INFER, { ...pairs([1, 1]), parameters: { timeout: 20_000 } });
  t.is(queued.status, 503);
  t.is(queued.headers['retry-after'], '1');
  t.is((await running).status, 504);
});

test('bodies may be packed both ways, and are measured unpacked', async (t) => {
  const { system, post } = await stand(t, { maxBodyBytes: 100_000 });
  await system.spawn('double', { actor: doubler });
  const rows = Array.from({ length: 500 }, (_, index) => [index, 1] as const);
  const body = JSON.stringify(pairs(...rows));
  for (const [name, pack, unpack] of [
    ['gzip', gzipSync, gunzipSync],
    ['deflate', deflateSync, inflateSync],
  ] as const) {
    const answer = await post(INFER, pack(body), { 'content-encoding': name, 'accept-encoding': name });
    t.like(answer, { status: 200, headers: { 'content-encoding': name } });
    t.is(JSON.parse(unpack(answer.bytes).toString()).outputs[0].data[998], 998);
  }
  t.is((await post(INFER, body, { 'accept-encoding': 'br, gzip;q=0' })).headers['content-encoding'], undefined);
  const bomb = gzipSync(Buffer.alloc(200_000_000));
  const answer = await post(INFER, bomb, { 'content-encoding': 'gzip' });
  t.is(answer.status, 413);
  t.deepEqual(Object.keys(answer.json), ['error']);
  t.is((await post(INFER, body, { 'content-encoding': 'gzip' })).status, 400);
  t.is((await post(INFER, body, { 'content-encoding': 'gzip, gzip' })).status, 415);
  t.is((await post(INFER, 'x'.repeat(100_001))).status, 413);
});

test('a browser of another site is refused on every route, and another host name too', async (t) => {
  const { system, get, post } = await stand(t);
  await system.spawn('double', { actor: doubler });
  for (const path of ['/v2', '/v2/health/live', '/v2/models/double', '/metrics'])
    for (const headers of [{ origin: 'http://evil.example' }, { host: 'evil.example' }])
      t.is((await get(path, headers)).status, 403, path);
  for (const path of [INFER, '/v2/repository/index', '/v2/repository/models/double/load'])
    for (const headers of [{ origin: 'http://evil.example' }, { origin: 'null' }, { host: 'evil.example' }])
      t.is((await post(path, '{}', headers)).status, 403, path);
  t.regex(system.metrics(), /troupe_refused_requests_total\{listener="serve",reason="origin"\} 10/);
  t.is(system.registry.refusals()['serve']?.['origin'], 10);
});

test('tokens have scopes: infer may not load, and health needs none', async (t) => {
  const tokens = { infer: ['infer-0123456789abcdef'], admin: ['admin-0123456789abcdef'] };
  const { system, get, post } = await stand(t, { tokens });
  await system.spawn('double', { actor: doubler });
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const load = '/v2/repository/models/double/load';
  t.is((await get('/v2/health/ready')).status, 200);
  for (const headers of [{}, bearer('wrong-0123456789abcdef'), { authorization: 'Basic x' }]) {
    t.is((await post(INFER, pairs([1, 2]), headers)).status, 401);
    t.is((await post(load, '', headers)).status, 401);
    t.is((await get('/v2', headers)).status, 401);
  }
  t.is((await post(INFER, pairs([1, 2]), bearer(tokens.infer[0] ?? ''))).status, 200);
  t.is((await post(INFER, pairs([1, 2]), bearer(`Bearer ${tokens.infer[0]}`))).status, 200);
  t.is((await post(`${INFER}?token=${tokens.infer[0]}`, pairs([1, 2]))).status, 401, 'an address is no place for it');
  t.is((await post(load, '', bearer(tokens.infer[0] ?? ''))).status, 403);
  t.is((await post(load, '', bearer(tokens.admin[0] ?? ''))).status, 200);
  t.is((await post(INFER, pairs([1, 2]), bearer(tokens.admin[0] ?? ''))).status, 200);
});

test('beyond loopback nothing is served without TLS and a token', async (t) => {
  const { system } = await stand(t);
  const tokens = { infer: ['infer-0123456789abcdef'] };
  await t.throwsAsync(system.serve({ port: 0, host: '0.0.0.0' }), { message: /token must be given/ });
  await t.throwsAsync(system.serve({ port: 0, host: '0.0.0.0', tokens, hosts: ['a'] }), {
    message: /tls must be given/,
  });
  await t.throwsAsync(system.serve({ port: 0, tokens: { infer: ['short'] } }), { message: /got 5 characters/ });
  await t.throwsAsync(system.serve({ prot: 0 } as object), { message: /unknown option "prot"/ });
  const tls = { cert: '/nowhere/cert.pem', key: '/nowhere/key.pem' };
  await t.throwsAsync(system.serve({ port: 0, tls }), { code: 'LISTEN_FAILED', message: /cert\.pem/ });
});

test('a pool of many models serves each by its name, and the index says what is loaded', async (t) => {
  const { system, get, post } = await stand(t);
  await system.spawn('many', { actor: doubler, models: { list: ['fr', 'de'], maxBytes: 1e6 } });
  t.deepEqual((await post('/v2/models/fr/infer', pairs([1, 2]))).json.outputs[0].data, [2, 4]);
  const index = (await post('/v2/repository/index')).json;
  t.deepEqual(index, [
    { name: 'de', state: 'UNAVAILABLE', reason: 'not loaded; the first request loads it' },
    { name: 'fr', version: '1', state: 'READY' },
  ]);
  t.deepEqual((await post('/v2/repository/index', { ready: true })).json, [
    { name: 'fr', version: '1', state: 'READY' },
  ]);
  t.is((await get('/v2/models/de')).json.inputs[0].name, 'x');
  t.is((await get('/v2/models/es')).status, 404);
});

test('one of many models goes when an admin says so; the one of a pool and what is pinned stay', async (t) => {
  const tokens = { admin: ['admin-0123456789abcdef'] };
  const { system, post } = await stand(t, { tokens });
  const headers = { authorization: `Bearer ${tokens.admin[0]}` };
  const pool = await system.spawn('many', {
    actor: doubler,
    models: { list: ['fr', 'de'], pin: ['de'], maxBytes: 1e6 },
  });
  await system.spawn('double', { actor: doubler });
  const gone = new Promise<string>((resolve) => pool.on('model-evicted', ({ model }) => resolve(model)));
  const unload = (name: string) => post(`/v2/repository/models/${name}/unload`, '', headers);
  t.is((await post('/v2/models/fr/infer', pairs([1, 2]), headers)).status, 200);
  t.is((await unload('fr')).status, 200);
  t.is(await gone, 'fr');
  t.like((await post('/v2/repository/index', { ready: true }, headers)).json, [{ name: 'double' }, { name: 'de' }]);
  t.like(await unload('de'), { status: 400, json: { error: 'model "de" is pinned, and stays' } });
  t.like(await unload('double'), { status: 501 });
  t.is((await unload('es')).status, 404);
});

test('a stop answers what is under way, and takes nothing new', async (t) => {
  const { system, post, get } = await stand(t);
  const held = heldDoubler();
  await system.spawn('double', {
    actor: held.actor,
  });
  const under = post(INFER, pairs([1, 1]));
  await held.entered;
  const stopped = system.stop();
  await t.throwsAsync(get('/v2/health/ready'));
  held.letGo();
  t.is((await under).status, 200);
  await stopped;
});
