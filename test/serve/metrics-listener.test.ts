import { request } from 'node:http';
import test, { type ExecutionContext } from 'ava';
import { createSystem, defineActor, type MetricsListenOptions, serveMetrics, silentLog, type System } from 'troupe';
import { deferred } from '../../src/kernel/deferred.js';

const echo = defineActor<string, string, void>({ predict: (batch) => batch });

interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
}

/** With exactly these headers, Host included. */
function get(url: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    });
    sent.on('error', reject).end();
  });
}

async function serve(
  t: ExecutionContext,
  options: MetricsListenOptions = {},
): Promise<{ system: System; url: string; origin: string }> {
  const system = createSystem({ log: silentLog });
  t.teardown(() => system.stop());
  const { address } = await serveMetrics(system, { port: 0, ...options });
  return { system, url: address.url, origin: address.url.replace(/\/metrics$/, '') };
}

test('metrics are text of Prometheus, health is JSON, and nothing else is there', async (t) => {
  const { system, url, origin } = await serve(t);
  await system.spawn('echo', { actor: echo });
  const metrics = await get(url);
  t.is(metrics.status, 200);
  t.is(metrics.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  t.is(metrics.headers['cache-control'], 'no-store');
  t.true(metrics.text.includes('troupe_results_total{pool="echo"} 0'));
  t.like(await get(`${origin}/health/live`), { status: 200, text: '{"live":true}' });
  t.like(await get(`${origin}/health/ready`), {
    status: 200,
    text: '{"ready":true,"pools":{"echo":{"ready":true}}}',
  });
  t.is((await get(`${origin}/`)).status, 404);
  t.is((await get(`${origin}/metrics/..%2fsecret`)).status, 404);
  t.like(await get(url, {}, 'POST'), { status: 405, headers: { allow: 'GET' } });
  t.is((await get(url, {}, 'DELETE')).status, 405);
});

test('a wrong token, another host and a foreign origin are refused on every path, and counted', async (t) => {
  const token = 'CANARY-token-0123456789';
  const { system, origin } = await serve(t, { token });
  const right = { authorization: `Bearer ${token}` };
  for (const path of ['/metrics', '/health/live', '/health/ready']) {
    t.is((await get(`${origin}${path}`, right)).status, 200, path);
    t.is((await get(`${origin}${path}`)).status, 401, path);
    t.is((await get(`${origin}${path}`, { authorization: 'Bearer wrong' })).status, 401, path);
    t.is((await get(`${origin}${path}`, { ...right, host: 'evil.example' })).status, 403, path);
    t.is((await get(`${origin}${path}`, { ...right, origin: 'http://evil.example' })).status, 403, path);
  }
  const { text } = await get(`${origin}/metrics`, right);
  t.true(text.includes('troupe_refused_requests_total{listener="metrics",reason="token"} 6'));
  t.true(text.includes('troupe_refused_requests_total{listener="metrics",reason="host"} 3'));
  t.true(text.includes('troupe_refused_requests_total{listener="metrics",reason="origin"} 3'));
  t.false(text.includes(token));
  t.false(system.metrics().includes('evil'));
  t.deepEqual(system.registry.refusals(), { metrics: { token: 6, host: 3, origin: 3 } });
});

test('ready says 503 while a pool is not there, not ready or gone, and which', async (t) => {
  const { system, origin } = await serve(t, { pools: ['echo'] });
  t.like(await get(`${origin}/health/ready`), {
    status: 503,
    text: '{"ready":false,"pools":{"echo":{"ready":false,"why":"it is not there"}}}',
  });
  const gate = deferred<void>();
  const spawned = system.spawn('echo', {
    actor: defineActor<string, string, void>({
      load: () => gate.promise,
      predict: (batch) => batch,
    }),
  });
  t.like(await get(`${origin}/health/ready`), {
    status: 503,
    text: '{"ready":false,"pools":{"echo":{"ready":false,"why":"it is starting"}}}',
  });
  t.is((await get(`${origin}/health/live`)).status, 200);
  gate.resolve();
  const pool = await spawned;
  t.is((await get(`${origin}/health/ready`)).status, 200);
  await pool.drain();
  t.is((await get(`${origin}/health/ready`)).status, 503);
  await system.stopPool('echo');
  t.is((await get(`${origin}/health/ready`)).status, 503);
});

test('the listener ends with the system, or before it, and its port is free again', async (t) => {
  const system = createSystem({ log: silentLog });
  const first = await serveMetrics(system, { port: 0 });
  const { port } = first.address;
  await t.throwsAsync(serveMetrics(system, { port }), { code: 'LISTEN_FAILED', message: /port \d+: .*EADDRINUSE/ });
  await Promise.all([first.close(), first.close()]);
  const second = await serveMetrics(system, { port });
  t.is((await get(second.address.url)).status, 200);
  await system.stop();
  await t.throwsAsync(get(second.address.url), { code: 'ECONNREFUSED' });
});

test('beyond loopback there is no listener without a token, and what is no option is refused', async (t) => {
  await using system = createSystem({ log: silentLog });
  const refused = (options: object): Promise<unknown> =>
    t.throwsAsync(serveMetrics(system, options), { instanceOf: TypeError });
  await refused({ host: '0.0.0.0' });
  await refused({ host: '0.0.0.0', token: 'long-enough-0123456789' });
  await refused({ host: 'example.org' });
  await refused({ token: 'short' });
  await refused({ port: -1 });
  await refused({ origins: ['http://a.example'] });
});
