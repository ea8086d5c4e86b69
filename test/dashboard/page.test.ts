import { connect } from 'node:net';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  createSystem,
  defineActor,
  type LogEntry,
  type MetricsListenOptions,
  serveMetrics,
  type ShadowReport,
  silentLog,
  type System,
} from 'troupe';
import { CALL_LIMITS } from '../../src/dashboard/calls.js';
import { FEED_LIMITS } from '../../src/dashboard/feed.js';
import type { PageEvent, PageState } from '../../src/dashboard/state.js';

const answers = defineActor<string, string, string | undefined>({
  load: ({ version }) => {
    if (version === '3') throw new Error('broken');
    return version;
  },
  predict: (batch) => batch,
});

const MARK = { 'x-troupe-page': '1' };
const FILES = ['/', '/page/page.css', '/page/icon.svg', '/page/state.js', '/page/browser/main.js'];
const DATA = ['/page/feed', '/page/versions?pool=answers'];
const CHANGES = ['/page/unlock', '/page/call'];
const REST = [
  '/metrics',
  '/health/live',
  '/health/ready',
  '/nowhere',
  '/page/',
  '/page/../metrics',
  '//evil.example/metrics',
];
const ROUTES = [...FILES, ...DATA, ...CHANGES, ...REST];

interface Answer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly text: string;
}

interface Sent {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
}

interface Stand {
  readonly system: System;
  readonly origin: string;
  readonly token: string;
  readonly log: LogEntry[];
  /** With exactly these headers, Host included. A stream without an end is left after its first part. */
  send(path: string, sent?: Sent): Promise<Answer>;
  call(verb: string, params: object, headers?: Record<string, string>): Promise<Answer>;
  refused(reason: string): number;
}

async function stand(t: ExecutionContext, options: MetricsListenOptions = {}, hasControl = true): Promise<Stand> {
  const folder = mkdtempSync(path.join(tmpdir(), 'tp-'));
  const log: LogEntry[] = [];
  const system = createSystem({ name: 'stand', log: (entry) => void log.push(entry) });
  t.teardown(async () => {
    await system.stop({ timeoutMs: 0 });
    rmSync(folder, { recursive: true, force: true });
  });
  let token = '';
  if (hasControl) {
    const { tokenFile } = await system.openControl({ socket: path.join(folder, 'c.sock') });
    token = readFileSync(tokenFile, 'utf8').trim();
  }
  const { address } = await serveMetrics(system, { port: 0, page: true, ...options });
  await system.spawn('answers', { actor: answers, version: 1 });
  const { origin } = new URL(address.url);
  const send = (to: string, { method = 'GET', headers = {}, body }: Sent = {}): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const { hostname, port } = new URL(origin);
      const sent = request({ hostname, port, path: to, method, headers }, (response) => {
        let text = '';
        const answer = (): void => resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part;
          if (response.headers['content-type'] === 'text/event-stream') {
            answer();
            sent.destroy();
          }
        });
        response.on('end', answer);
        response.on('error', () => undefined);
      });
      sent.on('error', reject).end(body);
    });
  const right = { ...MARK, authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  return {
    system,
    origin,
    token,
    log,
    send,
    call: (verb, params, headers = right) =>
      send('/page/call', { method: 'POST', headers, body: JSON.stringify({ verb, params }) }),
    refused: (reason) =>
      Number(new RegExp(`{listener="metrics",reason="${reason}"} (\\d+)`).exec(system.metrics())?.[1]),
  };
}

test('the page is served with its scripts under a policy that admits nothing inline and nothing from elsewhere', async (t) => {
  const { send } = await stand(t);
  const { text } = await send('/');
  t.regex(text, /^<!doctype html>/);
  t.false(/<script(?![^>]* src=)|<style|\son\w+=|style=/i.test(text), 'nothing inline');
  for (const file of FILES) {
    const { status, headers } = await send(file);
    t.is(status, 200, file);
    const policy = String(headers['content-security-policy']);
    for (const rule of [
      "default-src 'none'",
      "script-src 'self'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'",
    ])
      t.true(policy.includes(rule), `${file}: ${rule}`);
    t.notRegex(policy, /unsafe|\*|https?:|data:/, file);
    t.is(headers['x-content-type-options'], 'nosniff');
    t.is(headers['x-frame-options'], 'DENY');
    t.is(headers['cache-control'], 'no-store');
  }
  // Every script that a script imports is there.
  const main = await send('/page/browser/main.js');
  const imports = [...main.text.matchAll(/from '(\.\/[\w-]+\.js)'/g)].map(([, name = '']) => name);
  t.true(imports.length > 5);
  for (const name of imports) t.is((await send(`/page/browser/${name.slice(2)}`)).status, 200, name);
});

test('without page there is none, and beyond loopback there is none either', async (t) => {
  const { send } = await stand(t, { page: false });
  for (const route of [...FILES, ...DATA, ...CHANGES]) {
    t.is((await send(route, { headers: MARK })).status, 404, route);
    t.is((await send(route, { method: 'POST', headers: MARK })).status, 404, route);
  }
  await using system = createSystem({ log: silentLog });
  for (const host of ['0.0.0.0', '::', '192.0.2.1', 'example.org', '127.0.0.1.example.org']) {
    const options = { port: 0, page: true, host, hosts: ['a'], token: 'long-enough-0123456789' };
    await t.throwsAsync(serveMetrics(system, options), { instanceOf: TypeError, message: /loopback host only/ }, host);
  }
  await t.throwsAsync(serveMetrics(system, { page: 'yes' as never }), { instanceOf: TypeError, message: /^page/ });
});

test('I2: a foreign origin and a foreign host are 403 for every method on every route, and nothing changes', async (t) => {
  const { system, send, token, refused } = await stand(t);
  const methods = [
    'GET',
    'HEAD',
    'POST',
    'PUT',
    'PATCH',
    'DELETE',
    'OPTIONS',
    'TRACE',
    'PROPFIND',
    'QUERY',
    'M-SEARCH',
  ];
  const right = { ...MARK, authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const attacks: readonly (readonly [string, Record<string, string>])[] = [
    ['origin', { ...right, origin: 'http://evil.example' }],
    ['origin', { ...right, origin: 'null' }],
    ['origin', { ...right, origin: 'http://127.0.0.1' }],
    ['origin', { ...right, origin: 'http://localhost:1' }],
    ['host', { ...right, host: 'evil.example' }],
    ['host', { ...right, host: 'evil.example:9464', origin: 'http://evil.example:9464' }],
    ['host', { ...right, host: '127.0.0.1.nip.io' }],
    ['origin', { ...right, origin: 'http://evil.example', upgrade: 'websocket', connection: 'upgrade' }],
  ];
  const body = JSON.stringify({ verb: 'swap', params: { pool: 'answers', version: 2 } });
  const expected: Record<string, number> = { origin: 0, host: 0 };
  for (const route of ROUTES) {
    const attempts = methods.flatMap((method) =>
      attacks.map(async ([reason, headers]) => {
        const sent = { method, headers, ...(method === 'POST' ? { body } : {}) };
        const { status, headers: given } = await send(route, sent);
        t.is(status, 403, `${method} ${route} ${JSON.stringify(headers)}`);
        t.is(given['access-control-allow-origin'], undefined);
        expected[reason] = (expected[reason] ?? 0) + 1;
      }),
    );
    await Promise.all(attempts);
  }
  t.is(refused('origin'), expected['origin'] as number);
  t.is(refused('host'), expected['host'] as number);
  t.is(system.get('answers')?.version, '1');
});

test('behind a proxy that ends TLS the page of a listed name works, and other names and schemes do not', async (t) => {
  const { system, send, token } = await stand(t, { hosts: ['board.example'] });
  const right = { ...MARK, authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const body = JSON.stringify({ verb: 'swap', params: { pool: 'answers', version: 2 } });
  const from = async (host: string, origin: string): Promise<number> =>
    (await send('/page/call', { method: 'POST', headers: { ...right, host, origin }, body })).status;
  t.is(await from('board.example', 'https://board.example.evil'), 403);
  t.is(await from('board.example', 'https://evil.example'), 403);
  t.is(await from('board.example', 'https://board.example:8443'), 403);
  t.is(await from('board.example', 'ftp://board.example'), 403);
  t.is(await from('evil.example', 'https://evil.example'), 403);
  t.is((await send('/metrics', { headers: { host: 'board.example', origin: 'https://board.example' } })).status, 403);
  t.is(system.get('answers')?.version, '1');
  t.is(await from('board.example', 'https://board.example'), 200);
  t.is(system.get('answers')?.version, '2');
});

test('I2: what a browser sends without asking first, a form or an image, changes nothing and reads nothing', async (t) => {
  const { system, origin, send, token, refused } = await stand(t);
  const authorization = `Bearer ${token}`;
  const body = JSON.stringify({ verb: 'swap', params: { pool: 'answers', version: 2 } });
  // An image, a script or a link of another site comes without an origin and cannot carry the mark.
  for (const route of DATA) t.is((await send(route)).status, 403, route);
  // Such as a form would, were it on a page of ours.
  for (const type of ['application/x-www-form-urlencoded', 'multipart/form-data; boundary=x', 'text/plain']) {
    const headers = { 'content-type': type, authorization };
    t.is((await send('/page/call', { method: 'POST', headers, body })).status, 403, type);
    t.is((await send('/page/call', { method: 'POST', headers: { ...headers, ...MARK }, body })).status, 415, type);
  }
  t.is(refused('mark'), DATA.length + 3);
  t.is(refused('body'), 3);
  // No question changes anything, not even with all it takes.
  const right = { ...MARK, authorization, origin };
  for (const route of CHANGES) {
    t.like(await send(`${route}?verb=swap&pool=answers&version=2`, { headers: right }), { status: 405 });
    t.like(await send(route, { method: 'DELETE', headers: right }), { status: 405, headers: { allow: 'POST' } });
  }
  for (const route of [...FILES, '/metrics'])
    t.is(
      (await send(route, { method: 'POST', headers: right, body })).status,
      405 - (route === '/metrics' ? 2 : 0),
      route,
    );
  t.is(system.get('answers')?.version, '1');
  // The page's own origin may.
  t.is(
    (await send('/page/call', { method: 'POST', headers: { ...right, 'content-type': 'application/json' }, body }))
      .status,
    200,
  );
  t.is(system.get('answers')?.version, '2');
});

test('I3: no token, a wrong one, or that of another system changes nothing, is counted and told, and stands nowhere', async (t) => {
  const { system, send, call, token, log, refused } = await stand(t);
  const json = { ...MARK, 'content-type': 'application/json' };
  const wrong = [
    '',
    'Bearer',
    'Bearer ',
    `Bearer ${'0'.repeat(64)}`,
    `Bearer ${token.slice(0, -1)}`,
    `Bearer ${token}0`,
  ];
  const { token: foreign } = await stand(t);
  const others = [
    `Bearer ${foreign}`,
    `Basic ${token}`,
    token,
    `Bearer ${token} ${token}`,
    `Bearer ${token.toUpperCase()}x`,
  ];
  const attempts: Record<string, string>[] = [
    json,
    ...[...wrong, ...others].map((authorization) => ({ ...json, authorization })),
  ];
  for (const headers of attempts) {
    const answer = await call('swap', { pool: 'answers', version: 2 }, headers);
    t.like(answer, { status: 401, headers: { 'www-authenticate': 'Bearer' } }, JSON.stringify(headers));
    t.is((await send('/page/unlock', { method: 'POST', headers })).status, 401);
    t.false(answer.text.includes(token));
  }
  t.is(
    (await send(`/page/call?token=${token}`, { method: 'POST', headers: json, body: '{}' })).status,
    401,
    'not in a URL',
  );
  t.is(refused('token'), 2 * attempts.length + 1);
  t.is(system.get('answers')?.version, '1');
  t.true(log.some(({ level, message }) => level === 'warn' && /its token is wrong/.test(message)));
  const right = { ...MARK, authorization: `Bearer ${token}` };
  t.is((await send('/page/unlock', { method: 'POST', headers: right })).status, 200);
  t.is((await call('swap', { pool: 'answers', version: 2 })).status, 200);
  const { text } = await send('/page/feed', { headers: MARK });
  for (const shown of [JSON.stringify(log), text, system.metrics()]) t.false(shown.includes(token));
  await system.stop();
});

test('without an open control nothing can be changed, whatever the token', async (t) => {
  const { send, call } = await stand(t, {}, false);
  for (const authorization of ['Bearer undefined', 'Bearer ', `Bearer ${'0'.repeat(64)}`]) {
    const headers = { ...MARK, authorization, 'content-type': 'application/json' };
    t.is((await call('swap', { pool: 'answers', version: 2 }, headers)).status, 401);
    t.is((await send('/page/unlock', { method: 'POST', headers })).status, 401);
  }
  const { state } = await firstOf(await send('/page/feed', { headers: MARK }));
  t.is(state.control, null);
});

test('where the metrics have a token the page tells nothing without it, or that of the control', async (t) => {
  const readers = 'a-token-for-readers-0123';
  const { send, call, token } = await stand(t, { token: readers });
  for (const file of FILES) t.is((await send(file)).status, 200, `${file} holds nothing of the system`);
  for (const route of DATA) {
    t.is((await send(route, { headers: MARK })).status, 401, route);
    t.is((await send(route, { headers: { ...MARK, authorization: 'Bearer wrong' } })).status, 401, route);
    for (const right of [readers, token])
      t.is((await send(route, { headers: { ...MARK, authorization: `Bearer ${right}` } })).status, 200, route);
  }
  const reading = { ...MARK, authorization: `Bearer ${readers}`, 'content-type': 'application/json' };
  t.is((await call('swap', { pool: 'answers', version: 2 }, reading)).status, 401, 'readers change nothing');
  t.is((await send('/metrics', { headers: { authorization: `Bearer ${token}` } })).status, 401);
});

test('calls are verbs of the control plane with its checks, its errors and its audit', async (t) => {
  const { system, call, send, log } = await stand(t);
  t.like(JSON.parse((await call('canary', { pool: 'answers', version: 2, share: 0.25 })).text), {
    value: { current: '1', next: '2', share: 0.25 },
  });
  t.like(JSON.parse((await call('promote', { pool: 'answers' })).text), { value: { version: '2' } });
  t.like(JSON.parse((await call('swap', { pool: 'answers', version: 3 })).text), {
    error: { code: 'SWAP_ROLLED_BACK' },
  });
  t.is((await call('rollback', { pool: 'answers' })).status, 200);
  t.is(system.get('answers')?.version, '1');
  t.like(JSON.parse((await call('promote', { pool: 'answers' })).text), { error: { code: 'NO_ROLLOUT' } });
  t.like(await call('swap', { pool: 'ansers', version: 1 }), { status: 409 });
  t.regex((await call('swap', { pool: 'ansers', version: 1 })).text, /did you mean answers\?/);
  for (const name of ['../x', '', 'a b', 'a\u0000', '%2e%2e', 'а', 'a'.repeat(129)])
    t.is((await call('swap', { pool: name, version: 1 })).status, 400, name);
  t.true(
    log.some(
      ({ level, message }) =>
        level === 'audit' && /^begun: canary pool=answers .* by request 1 of the page$/.test(message),
    ),
  );
  t.true(log.some(({ level, message }) => level === 'audit' && /^failed: swap .*SWAP_ROLLED_BACK/.test(message)));
  const versions = await send('/page/versions?pool=nobody', { headers: MARK });
  t.is(versions.status, 409);
  t.is((await send('/page/versions', { headers: MARK })).status, 400);
});

test('I8: only four verbs can be said, and no body reaches a prototype', async (t) => {
  const { system, call, send, token } = await stand(t);
  for (const verb of ['scale', 'drain', 'ask', 'restart', 'ps', 'constructor', '__proto__', 'toString', '', 'SWAP'])
    t.is((await call(verb, { pool: 'answers', replicas: 3 })).status, 400, verb);
  const headers = { ...MARK, authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const bodies: readonly (readonly [string | Buffer, number])[] = [
    ['', 400],
    ['null', 400],
    ['[]', 400],
    ['{"verb":"swap"}', 400],
    ['{"verb":"swap","params":{"pool":"answers","version":2},"more":1}', 400],
    ['{"verb":"swap","params":{"pool":"answers","version":2,"__proto__":{"polluted":true}}}', 400],
    ['{"__proto__":{"verb":"swap"},"params":{"pool":"answers"}}', 400],
    ['{"verb":"swap","params":{"pool":"answers","version":2,"constructor":{"prototype":{"polluted":true}}}}', 400],
    [`{"verb":"swap","params":${'{"a":'.repeat(500)}1${'}'.repeat(500)}}`, 400],
    [Buffer.from([0xff, 0xfe]), 400],
    [`{"verb":"swap","params":{"pool":"${'x'.repeat(CALL_LIMITS.bodyBytes)}"}}`, 413],
  ];
  for (const [body, status] of bodies)
    t.is((await send('/page/call', { method: 'POST', headers, body })).status, status, String(body).slice(0, 80));
  t.is((Object.prototype as Record<string, unknown>)['polluted'], undefined);
  t.is(system.get('answers')?.stats().replicas.length, 1);
  t.is(system.get('answers')?.version, '1');
});

test('I7: whatever paths, hosts, origins and tokens come, they make no series', async (t) => {
  const { system, send } = await stand(t);
  const before = system.metrics().split('\n').length;
  for (let n = 0; n < 100; n++) {
    await Promise.all([
      send(`/path${n}`),
      send('/metrics', { headers: { host: `host${n}.example` } }),
      send('/page/feed', { headers: { ...MARK, origin: `http://origin${n}.example` } }),
      send('/page/call', { method: 'POST', headers: { ...MARK, authorization: `Bearer token${n}` } }),
    ]);
  }
  const text = system.metrics();
  t.is(text.split('\n').length, before);
  t.regex(text, /listener="metrics",reason="path"} 100\n/);
  t.regex(text, /listener="metrics",reason="token"} 100\n/);
  t.notRegex(text, /path1|host1|origin1|token1/);
});

test('more pages than there is room for are turned away, and one that goes makes room', async (t) => {
  const { origin, send, refused } = await stand(t);
  const { hostname, port } = new URL(origin);
  const pages = await Promise.all(
    Array.from({ length: FEED_LIMITS.clients }, async () => {
      const socket = connect(Number(port), hostname);
      socket.write(`GET /page/feed HTTP/1.1\r\nhost: ${hostname}\r\nx-troupe-page: 1\r\n\r\n`);
      await new Promise((resolve) => socket.once('data', resolve));
      return socket;
    }),
  );
  t.teardown(() => pages.forEach((socket) => socket.destroy()));
  t.like(await send('/page/feed', { headers: MARK }), { status: 503 });
  t.is(refused('busy'), 1);
  pages[0]?.destroy();
  let status = 503;
  while (status === 503) ({ status } = await send('/page/feed', { headers: MARK }));
  t.is(status, 200);
});

test('the feed begins with the state and the past, goes on, and ends with the system', async (t) => {
  const { system, origin } = await stand(t);
  const response = await fetch(`${origin}/page/feed`, { headers: MARK });
  t.is(response.headers.get('content-type'), 'text/event-stream');
  const seen: string[] = [];
  let stopped: Promise<unknown> | undefined;
  let text = '';
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += new TextDecoder().decode(chunk);
    const parts = text.split('\n\n');
    text = parts.pop() ?? '';
    seen.push(...parts.map((part) => part.split('\n')[0] ?? ''));
    if (seen.length === 2) void system.get('answers')?.swap(2);
    if (parts.some((part) => part.includes('1 -> 2 promoted'))) stopped ??= system.stop();
  }
  t.deepEqual(seen.slice(0, 2), ['event: state', 'event: events']);
  await stopped;
});

test('the page is told how a shadow does, and of a pool that scales its bounds', async (t) => {
  const { system, send } = await stand(t);
  const pool = system.get('answers');
  await system.spawn('elastic', { actor: answers, version: 1, replicas: { min: 1, max: 3 } });
  const swap = pool?.swap(2, { shadow: { share: 1 }, bakeMs: 600_000 });
  while (pool?.versions().step !== 'baking') await pool?.ask('x');
  for (let turn = 0; turn < 20; turn++) await pool.ask('x');
  const { state } = await firstOf(await send('/page/feed', { headers: MARK }));
  const [first, second] = state.pools;
  const { compared, agreed, shown, oldMs, newMs } = pool.versions().shadow as ShadowReport;
  t.true(compared >= 19);
  t.deepEqual(first?.rollout?.shadow, {
    share: 1,
    shown,
    compared,
    agreed,
    failed: 0,
    dropped: 0,
    oldMs: oldMs.p50,
    newMs: newMs.p50,
  });
  t.deepEqual([first?.scaling, first?.models], [null, null]);
  t.like(second?.scaling, { min: 1, max: 3, wanted: 1, asleep: false });
  await pool.rollback();
  await t.throwsAsync(swap as Promise<void>, { code: 'SWAP_ROLLED_BACK' });
  const { state: later } = await firstOf(await send('/page/feed', { headers: MARK }));
  t.is(later.pools[0]?.rollout, null);
});

test('the page is told what replicas of many models hold, the one used last first, and that list ends', async (t) => {
  const { system, send, call } = await stand(t);
  const names = Array.from({ length: 40 }, (_, index) => `m${index}`);
  const many = defineActor<string, string, string | undefined>({
    load: ({ version, usesBytes }) => {
      usesBytes(10);
      return version;
    },
    predict: (batch) => batch,
  });
  const pool = await system.spawn<string, string>('many', {
    actor: many,
    models: { list: names, maxBytes: 300, pin: ['m0'] },
  });
  for (const model of names) await pool.ask('x', { model });
  const { state } = await firstOf(await send('/page/feed', { headers: MARK }));
  const { models, version } = state.pools[1] ?? {};
  t.is(version, null);
  t.like(models, { maxBytes: 300, loads: 40, loadFailures: 0, evictions: 10 });
  const [shelf, ...others] = models?.replicas ?? [];
  t.deepEqual(others, []);
  t.like(shelf, { replica: 0, bytes: 300, heldCount: 30 });
  t.is(shelf?.held.length, 24);
  t.deepEqual(shelf?.held[0], { name: 'm39', bytes: 10, state: 'ready', isPinned: false });
  t.regex((await call('swap', { pool: 'many', version: 2 })).text, /holds many models; say which/);
});

async function firstOf({ text }: Answer): Promise<{ state: PageState; events: readonly PageEvent[] }> {
  const of = (type: string): any => JSON.parse(new RegExp(`event: ${type}\\ndata: (.*)\\n`).exec(text)?.[1] ?? 'null');
  return { state: of('state') as PageState, events: of('events') as PageEvent[] };
}
