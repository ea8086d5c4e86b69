import test, { type ExecutionContext } from 'ava';
import { createSystem, type Pool, silentLog, type SpawnOptions } from 'troupe';
import { rawServer, type RawServer, reply } from '../serve/raw-server.js';

/** The actor `http` before endpoints as they are found: lists of predictions, one answer per request, errors in place. */

type Given = Omit<SpawnOptions, 'actor'> & { readonly options?: Record<string, unknown> };

async function httpPool(t: ExecutionContext, url: string, { options, ...given }: Given = {}): Promise<Pool<any, any>> {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  return system.spawn('model', { actor: 'http', ...given, options: { url, ...options } });
}

/** A server that answers JSON with what `answer` gives for the parsed body. */
function jsonServer(t: ExecutionContext, answer: (body: any, number: number) => unknown): Promise<RawServer> {
  return rawServer(t, ({ body, number }) => {
    const said = answer(JSON.parse(body.toString()), number);
    return Buffer.isBuffer(said) ? said : reply(200, JSON.stringify(said));
  });
}

const outcomesOf = async (pool: Pool<any, any>, records: readonly unknown[]): Promise<unknown[]> =>
  (await pool.askMany(records)).map((outcome) => (outcome.ok ? outcome.value : outcome.error.code));

test('without a mapping the body is the list of records and the answer the list of results', async (t) => {
  const server = await jsonServer(t, (body: number[]) => body.map((value) => 2 * value));
  const pool = await httpPool(t, server.url);
  t.deepEqual(await outcomesOf(pool, [1, 2, 3]), [2, 4, 6]);
  t.is(await pool.ask(21), 42);
});

test('a batch is put into a template, and results are found by pointers', async (t) => {
  const bodies: unknown[] = [];
  const server = await jsonServer(t, (body) => {
    bodies.push(body);
    return { result: { predictions: body.instances.map(({ text }: { text: string }) => ({ scores: [text.length] })) } };
  });
  const pool = await httpPool(t, `${server.url}/v1/predict?version=2`, {
    options: {
      request: { instances: '$batch', note: '$$5', top: 3 },
      each: { text: '$record/body/0', id: '$record/id' },
      response: { at: '/result/predictions', each: '/scores/0' },
    },
  });
  t.deepEqual(await outcomesOf(pool, [{ id: 1, body: ['four'] }]), [4]);
  t.deepEqual(bodies, [{ instances: [{ text: 'four', id: 1 }], note: '$5', top: 3 }]);
  t.regex(server.requests[0]?.head ?? '', /^POST \/v1\/predict\?version=2 HTTP/);
  t.regex(server.requests[0]?.head ?? '', /content-type: application\/json/i);
});

test('a template without a batch is one request for each record, several at once', async (t) => {
  const server = await jsonServer(t, (body: { prompt: string }) => {
    return body.prompt === 'bad' ? reply(422, '{"error":"bad"}') : { choices: [{ text: body.prompt.toUpperCase() }] };
  });
  const pool = await httpPool(t, server.url, {
    options: { request: { prompt: '$record' }, response: { at: '/choices/0/text' }, concurrency: 3 },
  });
  t.deepEqual(await outcomesOf(pool, ['a', 'b', 'bad', 'c', 'd']), ['A', 'B', 'PREDICT_FAILED', 'C', 'D']);
  t.is(server.requests.length, 5);
  t.true(server.connections() <= 3);
});

test('an error in the place of an output fails that record alone, and so does a result that is not there', async (t) => {
  const server = await jsonServer(t, (body: number[]) =>
    body.map((value) =>
      value === 2 ? { error: { why: 'two' } } : value === 3 ? { error: null } : { value, error: null },
    ),
  );
  const pool = await httpPool(t, server.url, { options: { response: { each: '/value', error: '/error' } } });
  const outcomes = await pool.askMany([1, 2, 3, 4]);
  t.deepEqual(
    outcomes.map((outcome) => (outcome.ok ? outcome.value : outcome.error.code)),
    [1, 'PREDICT_FAILED', 'PROTOCOL_VIOLATION', 4],
  );
  t.regex(outcomes[1]?.ok === false ? outcomes[1].error.message : '', /\{"why":"two"\}/);
});

test('an answer with another number of outputs is halved until it is known whose it was', async (t) => {
  const server = await jsonServer(t, (body: number[]) => body.filter((value) => value !== 5));
  const pool = await httpPool(t, server.url, { batching: { maxSize: 8, adaptive: false } });
  t.deepEqual(await outcomesOf(pool, [1, 2, 3, 4, 5, 6, 7, 8]), [1, 2, 3, 4, 'PROTOCOL_VIOLATION', 6, 7, 8]);
});

test('a record that is no JSON fails alone', async (t) => {
  const server = await jsonServer(t, (body: unknown[]) => body);
  const pool = await httpPool(t, server.url);
  t.deepEqual(await outcomesOf(pool, [1, 2n ** 60n, { x: Float32Array.of(0.5) }, 'z']), [
    1,
    'INPUT_INVALID',
    { x: [0.5] },
    'z',
  ]);
});

test('a server that is away for a moment costs no record, one by one too', async (t) => {
  for (const request of ['$batch', '$record']) {
    const server = await jsonServer(t, (body, number) => (number <= 3 ? reply(503) : body));
    const pool = await httpPool(t, server.url, { options: { request, retryForMs: 60_000 }, batchTimeoutMs: 120_000 });
    t.deepEqual(await outcomesOf(pool, [1, 2, 3]), [1, 2, 3], request);
    t.true(((await pool.call('counts')) as { retries: number }).retries >= 1);
  }
});

test('a server that stays away is asked once for the records in hand, and not for those behind them', async (t) => {
  const server = await jsonServer(t, () => reply(503, '', ['retry-after: 9']));
  const pool = await httpPool(t, server.url, {
    batching: { maxSize: 8, adaptive: false },
    options: { request: '$record', concurrency: 2, retryForMs: 0 },
  });
  const outcomes = await pool.askMany([1, 2, 3, 4, 5, 6, 7, 8]);
  for (const outcome of outcomes)
    t.like(outcome, { ok: false, error: { code: 'REMOTE_UNAVAILABLE', ran: 'not-started', retryAfterMs: 9000 } });
  t.true(server.requests.length < 8, `${server.requests.length} requests`);
});

test('health is asked when a replica loads, at the same server', async (t) => {
  const server = await rawServer(t, ({ head }) => reply(head.startsWith('GET /healthz ') ? 500 : 200, 'null'));
  const options = { health: '/healthz', token: 'abc' };
  const error = await t.throwsAsync(httpPool(t, `${server.url}/predict?key=1`, { options }), { code: 'REMOTE_FAILED' });
  t.regex(
    error?.message ?? '',
    /^Pool "model": .*\/healthz answered with status 500.*correct options\.url or options\.health/,
  );
  t.regex(server.requests[0]?.head ?? '', /authorization: Bearer abc/i);
});

const WRONG: readonly (readonly [Record<string, unknown>, RegExp])[] = [
  [{ url: undefined }, /url must be an http or https URL/],
  [{ url: 'http://169.254.169.254/latest', health: '/' }, /link-local address/],
  [{ method: 'GET' }, /method must be one of POST, PUT, PATCH, got "GET"/],
  [{ request: { x: '$records' } }, /"\$records" means nothing; there is \$record, and \$\$ for a dollar sign/],
  [{ request: ['$batch', '$record'] }, /"\$record" means nothing; there is \$batch/],
  [{ request: '$record', each: '$record' }, /each has a meaning only with \$batch/],
  [{ each: '$record/a~2' }, /must be a JSON pointer/],
  [{ response: { at: 'predictions' } }, /response\.at must be a JSON pointer/],
  [{ response: { of: '/a' } }, /response has no option "of"/],
  [{ response: 7 }, /response must be an object/],
  [{ concurrency: 0 }, /concurrency must be a whole number from 1/],
  [{ health: 'http://other/' }, /health must be a path/],
  [{ timeout: 5 }, /has no option "timeout"; it has url, method/],
];

for (const [options, message] of WRONG)
  test(`a pool with options ${JSON.stringify(options)} does not start, and is told why`, async (t) => {
    const error = await t.throwsAsync(httpPool(t, 'http://127.0.0.1:1', { options }));
    t.regex(`${error?.message}`, message);
  });
