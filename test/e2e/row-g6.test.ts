import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { seededRandom } from '../../src/kernel/random.js';
import { codecOf, rows } from '../serve/grpc-stand.js';
import { pairs, send } from '../serve/oip-stand.js';
import { otherCallers } from './other-callers.js';
import { beginRow, inTenths, quantile } from './row-report.js';
import { servedChild } from './served-child.js';
import { findServer, notRun, serverEnvironment } from './servers.js';
import { seed, sizes } from './sizes.js';

/**
 * Row G6 of the reliability scorecard: frames of HTTP/2 that no client would send, and the tools that others test servers
 * with. Slow peers of our own over HTTP/1.1 are in rows-g.test.ts.
 */

const MiB = 2 ** 20;
const INFER = '/inference.GRPCInferenceService/ModelInfer';
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
const [DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION] = [0, 1, 2, 3, 4, 6, 8, 9];
const END_STREAM = 1;
const END_HEADERS = 4;

function frame(type: number, flags: number, stream: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** POST of gRPC to the method, as HPACK without its table. */
const BLOCK = Buffer.concat([
  Buffer.from([0x83, 0x86, 0x04, INFER.length]),
  Buffer.from(INFER),
  Buffer.from([0x01, 9]),
  Buffer.from('localhost'),
  Buffer.from([0x0f, 0x10, 16]),
  Buffer.from('application/grpc'),
]);

type Flood = (index: number, random: () => number) => Buffer;

/** By what they do; `index` counts the frames, and streams of a client are odd. */
const FLOODS: Readonly<Record<string, Flood>> = {
  'calls that are reset at once': (index) =>
    Buffer.concat([frame(HEADERS, END_HEADERS, 2 * index + 1, BLOCK), frame(RST_STREAM, 0, 2 * index + 1, u32(8))]),
  pings: (index) => frame(PING, 0, 0, Buffer.concat([u32(0), u32(index)])),
  settings: () => frame(SETTINGS, 0, 0, Buffer.concat([Buffer.from([0, 4]), u32(65_535)])),
  'headers that never end': (index) =>
    index === 0
      ? frame(HEADERS, 0, 1, BLOCK)
      : frame(CONTINUATION, 0, 1, Buffer.from(`\x00\x04x-${String(index % 100).padStart(2, '0')}\x01y`)),
  'data without a byte in it': (index) => (index === 0 ? frame(HEADERS, END_HEADERS, 1, BLOCK) : frame(DATA, 0, 1)),
  'calls without end': (index) => frame(HEADERS, END_HEADERS, 2 * index + 1, BLOCK),
  'headers that are none': (index, random) =>
    frame(
      HEADERS,
      END_HEADERS | END_STREAM,
      2 * index + 1,
      Uint8Array.from({ length: 40 }, () => Math.floor(256 * random())),
    ),
  'windows that overflow': (index) =>
    index === 0 ? frame(HEADERS, END_HEADERS, 1, BLOCK) : frame(WINDOW_UPDATE, 0, index % 2, u32(0x7fffffff)),
  'priorities of streams that are not': (index) =>
    frame(PRIORITY, 0, 2 * index + 1, Buffer.concat([u32(2 * index + 3), Buffer.from([16])])),
  'frames of any kind': (_, random) => {
    const any = (most: number): number => Math.floor(most * random());
    return frame(
      any(12),
      any(256),
      any(5),
      Uint8Array.from({ length: any(30) }, () => any(256)),
    );
  },
};

/** Sends so many, as fast as they are taken, and reads nothing of what is said to it. How many went before the server took no more. */
async function flood(
  port: number,
  make: Flood,
  frames: number,
): Promise<{ readonly sent: number; readonly isStopped: boolean }> {
  const random = seededRandom(seed);
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  socket.pause();
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.write(Buffer.concat([Buffer.from(PREFACE), frame(SETTINGS, 0, 0)]));
  let sent = 0;
  while (sent < frames && !socket.destroyed) {
    const some = Array.from({ length: Math.min(500, frames - sent) }, (_, n) => make(sent + n, random));
    sent += some.length;
    if (socket.write(Buffer.concat(some))) await new Promise((resolve) => setImmediate(resolve));
    else {
      // A server that has enough takes no more, or hangs up; one that takes no more is left to its own limits.
      let timer: NodeJS.Timeout | undefined;
      const stalls = new Promise<'stalls'>((resolve) => (timer = setTimeout(() => resolve('stalls'), 2000)));
      const drained = new Promise<void>((resolve) => socket.once('drain', () => resolve()));
      const how = await Promise.race([drained, closed, stalls]);
      clearTimeout(timer);
      if (how === 'stalls') break;
    }
  }
  socket.destroy();
  await closed;
  return { sent, isStopped: sent < frames };
}

/** Whether a call of gRPC of somebody else is answered. */
async function isServing(port: number): Promise<boolean> {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  const bytes = codecOf('ModelInfer').write(rows([1, 2]));
  const call = session.request({
    ':path': INFER,
    ':method': 'POST',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  let code = -1;
  call.on('trailers', (trailers) => (code = Number(trailers['grpc-status'])));
  call.on('error', () => undefined);
  call.resume();
  call.end(Buffer.concat([Buffer.from([0]), u32(bytes.length), bytes]));
  await new Promise((resolve) => call.on('close', resolve));
  session.destroy();
  return code === 0;
}

test.serial('G6 floods of frames of HTTP/2 end their own connection, and cost others nothing', async (t) => {
  t.timeout(30 * 60_000);
  const row = beginRow(t, 'G6');
  const { port, grpcPort, residentBytes } = await servedChild(t, { grpc: { port: 0 } });
  const others = otherCallers(t, port);
  t.true(await isServing(grpcPort));
  await others.round(sizes.g6Requests);
  const before = await residentBytes();
  let all = 0;
  let stopped = 0;
  let most = 0;
  for (const [what, make] of Object.entries(FLOODS)) {
    const [{ sent, isStopped }, took] = await Promise.all([
      flood(grpcPort, make, sizes.g6Frames),
      others.round(sizes.g6Requests),
    ]);
    all += sent;
    if (isStopped) stopped++;
    t.true(await isServing(grpcPort), `served after ${what}`);
    const grown = (await residentBytes()) - before;
    most = Math.max(most, grown);
    t.log(
      `${what}: ${sent} sent, ${isStopped ? 'then no more was taken' : 'all taken'}; others' p99 ${inTenths(quantile(took, 0.99))} ms`,
    );
  }
  t.true(most < 160 * MiB, `${most} bytes more`);
  row({
    faults: all,
    runs: all,
    lost: 0,
    dup: 0,
    reorder: 0,
    more: { kinds: Object.keys(FLOODS).length, stopped, grownBytes: most },
  });
});

interface Ran {
  readonly code: number | null;
  readonly text: string;
}

function run(
  t: ExecutionContext,
  file: string,
  args: readonly string[],
): { readonly ended: Promise<Ran>; isOver: boolean } {
  const child = spawn(file, args, { env: { ...serverEnvironment(), TERM: 'dumb' }, stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => (text += part.toString()));
  const tool = {
    isOver: false,
    ended: once(child, 'close').then(([code]) => {
      tool.isOver = true;
      return { code: code as number | null, text };
    }),
  };
  return tool;
}

test.serial(
  'G6 slowhttptest with a thousand slow headers, bodies and readers finds the server serving others',
  async (t) => {
    t.timeout(30 * 60_000);
    const file = findServer('slowhttptest');
    if (file === undefined) return notRun(t, 'slowhttptest');
    const dir = mkdtempSync(path.join(tmpdir(), 'troupe-slow-'));
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const { port } = await servedChild(t);
    const others = otherCallers(t, port);
    const url = `http://127.0.0.1:${port}`;
    const common = ['-c', String(sizes.g6Slow), '-r', String(sizes.g6Slow), '-l', String(sizes.g6Seconds), '-i', '1'];
    const ways = {
      headers: ['-H', '-u', `${url}/v2/models/double/infer`],
      body: ['-B', '-s', '8192', '-u', `${url}/v2/models/double/infer`],
      read: ['-X', '-w', '1', '-y', '8', '-n', '1', '-z', '4', '-u', `${url}/v2/models/double/config`],
    };
    for (const [way, args] of Object.entries(ways)) {
      const row = beginRow(t, 'G6');
      const alone = await others.p99(sizes.g6Requests);
      const told = path.join(dir, way);
      const tool = run(t, file, [...args, ...common, '-p', '5', '-g', '-o', told]);
      const rounds: number[] = [];
      let asked = 0;
      while (!tool.isOver) {
        const took = await others.round(sizes.g6Requests);
        asked += took.length;
        if (!tool.isOver) rounds.push(quantile(took, 0.99));
      }
      const { text } = await tool.ended;
      // Seconds, closed, pending, connected, and whether a request of its own is answered; the first is before any of it.
      const lines = readFileSync(`${told}.csv`, 'utf8').trimEnd().split('\n').slice(2);
      const seconds = lines.map((line) => line.split(',').map(Number));
      const connected = Math.max(...seconds.map(([, closed = 0, , open = 0]) => closed + open));
      t.true(connected >= sizes.g6Slow / 2, `${way}: ${connected} connected, ${text}`);
      t.true(
        seconds.every(([, , , , available = 0]) => available > 0),
        `${way}: available each second: ${lines.join(' ')}`,
      );
      const beside = Math.min(...rounds);
      if (sizes.isQuiet) t.true(beside <= 2 * alone, `${way}: p99 ${beside} ms beside slow peers, ${alone} ms without`);
      t.log(`slowhttptest, slow ${way}`);
      row({
        faults: connected,
        runs: asked,
        lost: 0,
        dup: 0,
        reorder: 0,
        more: { aloneP99Ms: inTenths(alone), besideP99Ms: inTenths(beside) },
      });
    }
  },
);

test.serial('G6 h2load gets every answer over HTTP/2 and HTTP/1.1, and others theirs beside it', async (t) => {
  t.timeout(30 * 60_000);
  const file = findServer('h2load');
  if (file === undefined) return notRun(t, 'h2load');
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-h2load-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const { port, grpcPort } = await servedChild(t, { grpc: { port: 0 } });
  const message = codecOf('ModelInfer').write(rows([1, 2]));
  writeFileSync(path.join(dir, 'grpc'), Buffer.concat([Buffer.from([0]), u32(message.length), message]));
  writeFileSync(path.join(dir, 'json'), JSON.stringify(pairs([1, 2])));
  const others = otherCallers(t, port);
  const served = async (): Promise<number> => {
    const { text } = await send({ port, path: '/metrics' });
    return Number(/^troupe_served_requests_total\{pool="double",outcome="ok"\} (\d+)$/m.exec(text)?.[1]);
  };
  const many = ['-n', String(sizes.g6Flood), '-c', String(Math.min(100, sizes.g6Flood / 100))];
  const ways = {
    'HTTP/2': ['-m', '100', '-d', path.join(dir, 'grpc'), '-H', 'content-type: application/grpc', '-H', 'te: trailers'],
    'HTTP/1.1': ['--h1', '-d', path.join(dir, 'json')],
  };
  for (const [way, args] of Object.entries(ways)) {
    const row = beginRow(t, 'G6');
    const alone = await others.p99(sizes.g6Requests);
    const before = await served();
    const url =
      way === 'HTTP/2' ? `http://127.0.0.1:${grpcPort}${INFER}` : `http://127.0.0.1:${port}/v2/models/double/infer`;
    const tool = run(t, file, [...many, ...args, url]);
    const took: number[] = [];
    while (!tool.isOver) took.push(...(await others.round(sizes.g6Requests)));
    const { code, text } = await tool.ended;
    t.is(code, 0, text);
    t.regex(text, new RegExp(`${sizes.g6Flood} done, ${sizes.g6Flood} succeeded, 0 failed, 0 errored, 0 timeout`), way);
    t.is((await served()) - before - took.length, sizes.g6Flood, `${way}: as many were answered without an error`);
    const perSecond = Number(/([\d.]+) req\/s/.exec(text)?.[1]);
    t.log(`h2load, ${way}`);
    row({
      faults: 0,
      runs: sizes.g6Flood + took.length,
      lost: 0,
      dup: 0,
      reorder: 0,
      more: {
        aloneP99Ms: inTenths(alone),
        besideP99Ms: inTenths(quantile(took, 0.99)),
        perSecond: Math.round(perSecond),
      },
    });
  }
});
