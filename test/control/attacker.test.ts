import { spawn } from 'node:child_process';
import { chmodSync, unlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname } from 'node:path';
import test from 'ava';
import { connectControl, TroupeError } from 'troupe';
import { LIMITS } from '../../src/control/grammar.js';
import { readToken } from '../../src/control/private-path.js';
import { admitted, RawPeer, stand } from './stand.js';

/** Whoever may open the socket, and whoever may not: nobody changes anything, stops anything or costs much without the token. */

const asRoot = process.getuid?.() === 0 ? test.serial : test.serial.skip;

/** What a process of another user meets that goes for the socket and its token. */
const INTRUDER = `
const { connect } = require('node:net');
const { readFileSync, readdirSync } = require('node:fs');
process.setgroups([]);
process.setgid(65534);
process.setuid(65534);
const [socket, folder] = process.argv.slice(1);
const met = {};
const attempt = (what, run) => { try { run(); met[what] = 'done'; } catch (error) { met[what] = error.code; } };
attempt('token', () => readFileSync(socket + '.token'));
attempt('list', () => readdirSync(folder));
const peer = connect(socket);
peer.on('connect', () => { met.connect = 'done'; peer.destroy(); console.log(JSON.stringify(met)); });
peer.on('error', (error) => { met.connect = error.code; console.log(JSON.stringify(met)); });
`;

function intrude(socket: string): Promise<Record<string, string>> {
  const child = spawn(process.execPath, ['-e', INTRUDER, socket, dirname(socket)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let shown = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (shown += text));
  return new Promise((resolve) => child.on('close', () => resolve(JSON.parse(shown) as Record<string, string>)));
}

asRoot('another user reaches neither socket nor token (root alone can become one)', async (t) => {
  const { socket } = await stand(t);
  t.deepEqual(await intrude(socket), { token: 'EACCES', list: 'EACCES', connect: 'EACCES' });
  // Even in a directory that was opened to all afterwards the files are closed.
  chmodSync(dirname(socket), 0o755);
  t.like(await intrude(socket), { token: 'EACCES', connect: 'EACCES' });
});

test.serial('a wrong, empty, old or missing token lets nobody in, and is counted', async (t) => {
  const { system, socket, log } = await stand(t);
  const right = readToken(socket);
  const wrong = ['', '0'.repeat(64), right.slice(0, -1), `${right}0`, right.toUpperCase().replace(/^./, 'g'), 'ключ'];
  for (const token of wrong) {
    const peer = new RawPeer(socket);
    peer.send({ hello: { protocol: 1, token } });
    peer.send({ id: 1, verb: 'ps', params: {} });
    const [refused, ...more] = await peer.until(5);
    t.is(refused?.['refused'].code, 'CONTROL_REFUSED');
    t.deepEqual(more, [], 'nothing but the refusal');
  }
  const mute = new RawPeer(socket);
  mute.send({ hello: { protocol: 1 } });
  t.regex((await mute.until(2))[0]?.['refused'].message, /first frame must be a hello/);
  const eager = new RawPeer(socket);
  eager.send({ id: 1, verb: 'ps', params: {} });
  t.regex((await eager.until(2))[0]?.['refused'].message, /first frame must be a hello/);
  t.true(log.some(({ level, message }) => level === 'warn' && /its token is wrong/.test(message)));
  const counted = (reason: string): string => `troupe_refused_requests_total{listener="control",reason="${reason}"}`;
  t.true(system.metrics().includes(`${counted('token')} ${wrong.length}\n`));
  t.true(system.metrics().includes(`${counted('frame')} 2\n`));
  await using inside = await connectControl(socket);
  t.deepEqual((await inside.ps()).refused, { control: { token: wrong.length, frame: 2 } });
  t.false(JSON.stringify(log).includes(right), 'the token is in no log');
});

test.serial('another version of the protocol is refused with the one that is spoken', async (t) => {
  const { socket } = await stand(t);
  const peer = new RawPeer(socket);
  peer.hello(socket, { protocol: 2 });
  t.regex((await peer.until(2))[0]?.['refused'].message, /speaks version 1 of the protocol, not 2/);
});

test.serial('garbage, huge, deep and polluted frames end their own connection and nothing else', async (t) => {
  const { system, socket } = await stand(t);
  await using bystander = await connectControl(socket);
  const polluted = '{"id":1,"verb":"ps","params":{"__proto__":{"polluted":true}}}\n';
  const after: readonly (readonly [string | Buffer, RegExp])[] = [
    ['hello?\n', /not JSON/],
    [Buffer.from([0xff, 0xfe, 0x0a]), /not UTF-8/],
    ['null\n', /no request/],
    ['[]\n', /no request/],
    ['{"id":1}\n', /no request/],
    ['{"id":-1,"verb":"ps"}\n', /no request/],
    ['{"id":1e400,"verb":"ps"}\n', /no request/],
    ['{"id":1,"verb":"ps","access":"write"}\n', /no request/],
    ['{"hello":{"protocol":1,"token":"x"}}\n', /no request/],
    [`${'['.repeat(50_000)}\n`, /deeper than 100/],
    [polluted, /__proto__/],
    [`{"id":1,"verb":"${'x'.repeat(LIMITS.frameBytes)}"}\n`, /more than 1048576 bytes/],
    [Buffer.alloc(LIMITS.frameBytes + 1, 0x20), /more than 1048576 bytes/],
  ];
  for (const [bytes, message] of after) {
    const peer = await admitted(socket);
    peer.socket.write(bytes);
    const frames = await peer.until(100);
    t.regex(frames.at(-1)?.['refused']?.message, message, String(bytes).slice(0, 60));
    t.true(peer.isClosed);
  }
  // Before the token was right, much less is taken in.
  const stranger = new RawPeer(socket);
  stranger.socket.write(`{"hello":"${'x'.repeat(LIMITS.helloBytes)}"}\n`);
  t.regex((await stranger.until(2))[0]?.['refused'].message, /more than 4096 bytes/);
  t.is((Object.prototype as Record<string, unknown>)['polluted'], undefined);
  t.is((await bystander.ps()).pools.length, 1);
  t.is(await system.get('echo')?.ask(7), 7);
});

test.serial('words that every object knows are no verbs, and no parameters', async (t) => {
  const { socket } = await stand(t);
  const peer = await admitted(socket);
  const verbs = ['constructor', 'toString', 'hasOwnProperty', '__proto__', 'valueOf', '', 'PS', 'ps '];
  for (const [index, verb] of verbs.entries()) peer.send({ id: index + 1, verb, params: {} });
  peer.send({ id: 50, verb: 'ps', params: { constructor: 1 } });
  peer.send({ id: 51, verb: 'stats', params: { pool: 'constructor' } });
  const frames = (await peer.until(verbs.length + 3)).slice(1);
  for (const { id, error } of frames) t.is(error.name, id === 51 ? 'TroupeError' : 'TypeError', JSON.stringify(error));
  t.false(peer.isClosed);
  peer.socket.destroy();
});

test.serial('a truncated frame is not carried out', async (t) => {
  const { system, socket } = await stand(t);
  const frame = '{"id":1,"verb":"scale","params":{"pool":"echo","replicas":4}}';
  for (let length = 1; length <= frame.length; length += 1) {
    const peer = await admitted(socket);
    peer.socket.end(frame.slice(0, length));
    await peer.until(2);
  }
  t.is(system.get('echo')?.stats().replicas.length, 1);
});

test.serial('more connections than there is room for are turned away, and those inside go on', async (t) => {
  const { socket } = await stand(t);
  await using inside = await connectControl(socket);
  const peers = [];
  for (let index = 1; index < LIMITS.connections; index += 1) peers.push(await admitted(socket));
  for (let index = 0; index < 50; index += 1) {
    const error = await t.throwsAsync(connectControl(socket), {
      instanceOf: TroupeError,
      message: /more than 16 connections/,
    });
    t.is(error.code, 'CONTROL_REFUSED');
  }
  t.is((await inside.ps()).system, 'stand');
  const [first] = peers;
  first?.socket.destroy();
  await first?.until(100);
  for (;;) {
    try {
      await (await connectControl(socket)).close();
      break;
    } catch (error) {
      t.is((error as TroupeError).code, 'CONTROL_REFUSED', 'its place is free as soon as the system has heard of it');
    }
  }
  for (const peer of peers) peer.socket.destroy();
});

test.serial('a flood of calls gets answers or refusals, and others are served meanwhile', async (t) => {
  const { socket, system } = await stand(t);
  await using bystander = await connectControl(socket);
  const peer = await admitted(socket);
  const count = 5000;
  for (let id = 1; id <= count; id += 1) peer.send({ id, verb: 'ask', params: { pool: 'echo', record: id } });
  for (let ping = 1; ping <= count; ping += 1) peer.send({ ping });
  t.is((await bystander.ps()).system, 'stand');
  const frames = await peer.until(1 + 2 * count);
  const answers = frames.filter((frame) => 'id' in frame);
  t.is(answers.length, count);
  t.is(new Set(answers.map(({ id }) => id as number)).size, count);
  const refused = answers.filter(({ error }) => error !== undefined);
  for (const { error } of refused) t.regex(error.message, /more than 32 calls at once/);
  t.is(system.get('echo')?.stats().results, count - refused.length);
  t.is(frames.filter((frame) => 'pong' in frame).length, count);
  peer.socket.destroy();
});

test.serial('a peer that does not read what it asked for is ended, and its memory goes with it', async (t) => {
  const { socket, system } = await stand(t);
  const peer = new RawPeer(socket, { reads: false });
  peer.hello(socket);
  const record = 'x'.repeat(900_000);
  for (let id = 1; id <= 32; id += 1) peer.send({ id, verb: 'ask', params: { pool: 'echo', record } });
  await peer.until(1);
  t.true(peer.isClosed);
  t.is(await system.get('echo')?.ask(1), 1);
});

test.serial('an answer beyond its limit becomes an error, and the connection stays', async (t) => {
  const { system, socket } = await stand(t);
  await system.spawn('loud', {
    actor: { predict: (batch: readonly unknown[]) => batch.map(() => 'x'.repeat(5_000_000)) },
  });
  await using control = await connectControl(socket, { access: 'write' });
  await t.throwsAsync(control.ask('loud', 1), { message: /the answer has more than 4194304 bytes/ });
  await t.throwsAsync(control.ask('echo', 'x'.repeat(LIMITS.frameBytes)), { message: /the call has more than/ });
  t.is((await control.ps()).pools.length, 2);
});

test.serial('somebody else at the place of the socket gets no token from a client that looks first', async (t) => {
  const { socket } = await stand(t);
  unlinkSync(socket);
  const heard: Buffer[] = [];
  const impostor = createServer((peer) => peer.on('data', (chunk: Buffer) => heard.push(chunk))).listen(socket);
  t.teardown(() => impostor.close());
  await new Promise((resolve) => impostor.once('listening', resolve));
  chmodSync(dirname(socket), 0o777);
  const error = await t.throwsAsync(connectControl(socket), { instanceOf: TroupeError });
  t.is(error.code, 'CONTROL_PATH_REFUSED');
  t.deepEqual(heard, []);
});

test.serial('a server that says nothing, garbage or nothing more is unreachable, in bounded time', async (t) => {
  const { socket } = await stand(t);
  unlinkSync(socket);
  let answer: string | undefined;
  const impostor = createServer((peer) => {
    peer.on('error', () => undefined);
    if (answer !== undefined) peer.write(answer);
  }).listen(socket);
  t.teardown(() => impostor.close());
  await new Promise((resolve) => impostor.once('listening', resolve));
  const unreachable = async (message: RegExp): Promise<void> => {
    const error = await t.throwsAsync(connectControl(socket, { timeoutMs: 3000 }), {
      instanceOf: TroupeError,
      message,
    });
    t.is(error.code, 'CONTROL_UNREACHABLE');
  };
  await unreachable(/no answer within 3000 ms/);
  answer = 'SSH-2.0-OpenSSH\n';
  await unreachable(/does not speak the protocol: a frame is not JSON/);
  answer = '{"welcome":{"protocol":1}}\n';
  await unreachable(/it does not greet/);
  answer = '{"welcome":{"protocol":1,"system":"x","pid":1,"access":"read"}}\n';
  const control = await connectControl(socket, { timeoutMs: 1000, heartbeatMs: 50 });
  const error = await t.throwsAsync(control.ps(), { instanceOf: TroupeError, message: /no answer for 50 ms/ });
  t.is(error.code, 'CONTROL_UNREACHABLE');
});
