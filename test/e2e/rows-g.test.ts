import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { deflateSync, gzipSync } from 'node:zlib';
import test from 'ava';
import { pairs, send } from '../serve/oip-stand.js';
import { otherCallers } from './other-callers.js';
import { beginRow, inTenths } from './row-report.js';
import { servedChild } from './served-child.js';
import { sizes } from './sizes.js';

/**
 * Rows G5 and G6 of the reliability scorecard over HTTP: floods, bombs and slow peers, against a process of its own. G6 of
 * HTTP/2, and with tools of others, is in row-g6.test.ts.
 */

const MiB = 2 ** 20;
const INFER = '/v2/models/double/infer';
const POST = `POST ${INFER} HTTP/1.1\r\nHost: localhost\r\n`;

async function open(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Unlike `once`, whatever errors come before it. */
function event(socket: Socket, name: 'close' | 'drain' | 'data'): Promise<unknown> {
  return new Promise((resolve) => socket.once(name, resolve));
}

/** What comes back until the connection ends. */
async function sendRaw(port: number, parts: Iterable<string | Buffer>): Promise<string> {
  const socket = await open(port);
  let text = '';
  socket.on('data', (part: Buffer) => (text += part.toString()));
  const closed = event(socket, 'close');
  for (const part of parts) {
    if (socket.destroyed) break;
    if (!socket.write(part)) await Promise.race([event(socket, 'drain'), closed]);
  }
  socket.end();
  await closed;
  return text;
}

test.serial('G5 floods of chunks, bombs and bodies beyond the limits are refused, and memory stays', async (t) => {
  t.timeout(30 * 60_000);
  const row = beginRow(t, 'G5');
  const { port, residentBytes } = await servedChild(t, { maxBodyBytes: 8 * MiB, capacityBytes: 32 * MiB });
  const chunks = Buffer.from('1\r\n \r\n'.repeat(10_000));
  function* flood(): Generator<string | Buffer> {
    yield `${POST}Transfer-Encoding: chunked\r\n\r\n`;
    for (let sent = 0; sent < 1_000_000; sent += 10_000) yield chunks;
  }
  const floods: number[] = [];
  let refused = 0;
  for (let index = 0; index < sizes.g5Floods; index++) {
    const text = await sendRaw(port, flood());
    // An answer may be lost where the connection is cut under what is still being sent.
    if (/^HTTP\/1\.1 400[\s\S]*\{"error":"the body has more than 65536 chunks"\}/.test(text)) refused++;
    else t.is(text, '');
    floods.push(await residentBytes());
  }
  t.true(refused > 0, `${refused} of ${sizes.g5Floods} answers were read`);
  // The first ones fill the pages that a server has anyway.
  const growth = Math.max(...floods) - Math.max(...floods.slice(0, 2));
  const infer = { port, path: INFER, method: 'POST' };
  const zeros = Buffer.alloc(40_000_000);
  const bombs = [
    { name: 'gzip', body: gzipSync(zeros), statuses: [413, 503] },
    { name: 'deflate', body: deflateSync(zeros), statuses: [413, 503] },
    { name: 'gzip, gzip', body: gzipSync(gzipSync(zeros)), statuses: [415] },
    { name: 'gzip, gzip, gzip, gzip, gzip', body: Buffer.alloc(10), statuses: [415] },
    { name: 'br', body: Buffer.alloc(10), statuses: [415] },
  ];
  let most = 0;
  for (let round = 0; round < sizes.g5Floods; round++) {
    for (const { name, body, statuses } of bombs) {
      const sent = Array.from({ length: 8 }, () => send({ ...infer, headers: { 'content-encoding': name } }, body));
      for (const { status, json } of await Promise.all(sent)) {
        t.true(statuses.includes(status), `${name}: ${status}`);
        t.is(typeof json.error, 'string');
      }
    }
    most = Math.max(most, await residentBytes());
  }
  // More than may be held is not even read, and in chunks no further than that.
  t.regex(await sendRaw(port, [`${POST}Content-Length: ${9 * MiB}\r\n\r\n`]), /^HTTP\/1\.1 413/);
  const mebibyte = Buffer.concat([Buffer.from('100000\r\n'), Buffer.alloc(MiB, ' '), Buffer.from('\r\n')]);
  const tooMuch = await sendRaw(port, [
    `${POST}Transfer-Encoding: chunked\r\n\r\n`,
    ...Array.from({ length: 9 }, () => mebibyte),
  ]);
  t.regex(tooMuch, /^(HTTP\/1\.1 413|$)/);
  t.is((await send(infer, JSON.stringify(pairs([1, 2])))).status, 200);
  const bombGrowth = most - Math.max(...floods);
  t.true(growth < (sizes.isQuiet ? 8 : 64) * MiB, `${growth} bytes more after floods`);
  t.true(bombGrowth < 160 * MiB, `${bombGrowth} bytes more after bombs`);
  row({
    faults: sizes.g5Floods * (1 + 8 * bombs.length),
    runs: sizes.g5Floods * 1_000_000,
    lost: 0,
    dup: 0,
    reorder: 0,
    more: { floodGrowthBytes: growth, bombGrowthBytes: bombGrowth },
  });
});

test.serial('G6 slow peers, floods of headers and pinned connections keep nobody else from an answer', async (t) => {
  t.timeout(30 * 60_000);
  const row = beginRow(t, 'G6');
  const { port } = await servedChild(t);
  const infer = { port, path: INFER, method: 'POST' };
  const body = JSON.stringify(pairs([1, 2]));
  const others = otherCallers(t, port);
  const alone = await others.p99(sizes.g6Requests);

  // Some stop within the headers, some within the body, some never read their answers.
  const begun = [
    'POST /v2/mod',
    `${POST}Content-Length: 900\r\n\r\n{`,
    'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(20),
  ];
  const slow: Socket[] = [];
  for (let index = 0; index < sizes.g6Slow; index++) {
    const socket = await open(port);
    if (index % 3 === 2) socket.pause();
    socket.write(begun[index % 3] as string);
    slow.push(socket);
  }
  const beside = await others.p99(sizes.g6Requests);
  for (const socket of slow) socket.destroy();

  // Headers without end, too many, and of the wrong form.
  function* headers(): Generator<string> {
    yield POST;
    for (let sent = 0; sent < 1000; sent++) yield `x-${sent}: ${'y'.repeat(1000)}\r\n`;
  }
  for (let index = 0; index < 20; index++) {
    const text = await sendRaw(port, headers());
    t.regex(text, /^(HTTP\/1\.1 431[\s\S]*\{"error":"the headers are larger than 16384 bytes"\}|$)/);
  }
  t.regex(
    await sendRaw(port, ['\x16\x03\x01\x02\x00\r\n\r\n']),
    /^HTTP\/1\.1 400[\s\S]*\{"error":"this is no HTTP request"\}/,
  );
  t.regex(await sendRaw(port, [`${POST}Content-Length: 1\r\nContent-Length: 2\r\n\r\n`]), /^HTTP\/1\.1 400/);
  t.regex(await sendRaw(port, [`${POST}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`]), /^HTTP\/1\.1 400/);

  // As many as there may be, each with a request behind it and none on its way.
  const pinned: Socket[] = [];
  for (let index = 0; index < 1024; index++) {
    const socket = await open(port);
    socket.write('GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n');
    const first = await Promise.race([event(socket, 'data'), event(socket, 'close')]);
    if (String(first).startsWith('HTTP/1.1 200')) pinned.push(socket);
  }
  let tries = 1;
  const isAnswered = (): Promise<boolean> =>
    send({ ...infer, agent: false }, body).then(
      ({ status }) => status === 200,
      () => false,
    );
  while (!(await isAnswered())) t.true(++tries <= 100, 'pinned connections make room');
  for (const socket of pinned) socket.destroy();
  t.true(pinned.length > 900, `${pinned.length} were pinned`);

  if (sizes.isQuiet) t.true(beside <= 2 * alone, `p99 ${beside} ms beside slow peers, ${alone} ms without`);
  row({
    faults: slow.length + 23 + pinned.length,
    runs: 8 * sizes.g6Requests,
    lost: 0,
    dup: 0,
    reorder: 0,
    more: { aloneP99Ms: inTenths(alone), besideP99Ms: inTenths(beside), triesUntilRoom: tries },
  });
});
