import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request, type RequestOptions } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect as connectTls } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { createSystem, silentLog, type TensorRecord } from 'troupe';
import { doubler } from '../serve/oip-stand.js';

/** Row I3 of the reliability scorecard, its TLS: who shows a certificate that is not good is refused, by both ends. */

const TOKEN = '0123456789abcdef';

interface Pair {
  readonly cert: string;
  readonly key: string;
}

interface Certificates {
  /** By the authority, for localhost. */
  readonly good: Pair;
  readonly expired: Pair;
  readonly authority: Pair;
  /** Another authority, and what it has signed for localhost. */
  readonly stranger: Pair;
  readonly strange: Pair;
}

/** Undefined where there is no openssl: the test then ends as not run. */
function certificates(t: ExecutionContext): Certificates | undefined {
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-tls-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const at = (name: string): string => path.join(dir, name);
  const openssl = (words: string): Buffer => execFileSync('openssl', words.split(' '), { cwd: dir, stdio: 'pipe' });
  const authority = (name: string): Pair => {
    const key = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes';
    openssl(`req -x509 ${key} -days 2 -subj /CN=${name} -keyout ${name}.key -out ${name}.pem`);
    return { cert: at(`${name}.pem`), key: at(`${name}.key`) };
  };
  const signed = (name: string, by: string, days: number): Pair => {
    openssl(
      `req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout ${name}.key -out ${name}.csr`,
    );
    openssl(
      `x509 -req -in ${name}.csr -CA ${by}.pem -CAkey ${by}.key -CAcreateserial -days ${days} -extfile names -out ${name}.pem`,
    );
    return { cert: at(`${name}.pem`), key: at(`${name}.key`) };
  };
  try {
    openssl('version');
  } catch {
    t.log('not run: there is no openssl to make certificates with');
    t.pass();
    return undefined;
  }
  writeFileSync(at('names'), 'subjectAltName=DNS:localhost\n');
  return {
    authority: authority('authority'),
    stranger: authority('stranger'),
    good: signed('good', 'authority', 2),
    expired: signed('expired', 'authority', -1),
    strange: signed('strange', 'stranger', 2),
  };
}

/** The status of an answer, or why there was none. */
function asked(options: RequestOptions): Promise<number | string> {
  return new Promise((resolve) => {
    const headers = { authorization: `Bearer ${TOKEN}` };
    const sent = request({ host: 'localhost', path: '/v2', agent: false, headers, ...options }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on('error', (error) => resolve(error.message)).end();
  });
}

/** What the server says to a handshake over HTTP/2; with TLS 1.3 it judges a client after the client has begun. */
function greeted(options: { port: number; ca: Buffer; cert?: Buffer; key?: Buffer }): Promise<string> {
  return new Promise((resolve) => {
    const socket = connectTls({ host: 'localhost', servername: 'localhost', ALPNProtocols: ['h2'], ...options }, () =>
      socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'),
    );
    socket.once('data', () => {
      resolve('settings');
      socket.destroy();
    });
    socket.on('error', (error) => resolve(error.message));
    socket.on('close', () => resolve('closed'));
  });
}

test('I3 a server asks its clients for a certificate of its authority, and for no less than TLS 1.2', async (t) => {
  t.timeout(240_000);
  const made = certificates(t);
  if (made === undefined) return;
  const { authority, good, expired, strange } = made;
  await using system = createSystem({ log: silentLog });
  await system.spawn('double', { actor: doubler });
  const tls = { ...good, ca: authority.cert };
  const { addresses } = await system.serve({ port: 0, grpc: { port: 0 }, tls, tokens: { infer: [TOKEN] } });
  const { port = 0 } = addresses[0] ?? {};
  const { port: grpcPort = 0 } = addresses[1] ?? {};
  const ca = readFileSync(authority.cert);
  const shown = ({ cert, key }: Pair): { cert: Buffer; key: Buffer } => ({
    cert: readFileSync(cert),
    key: readFileSync(key),
  });
  t.is(await asked({ port, ca, ...shown(good) }), 200);
  t.is(await greeted({ port: grpcPort, ca, ...shown(good) }), 'settings');
  for (const [what, pair] of Object.entries({ none: undefined, 'of another authority': strange, expired })) {
    const certificate = pair === undefined ? {} : shown(pair);
    t.is(typeof (await asked({ port, ca, ...certificate })), 'string', `HTTP, a certificate ${what}`);
    t.not(await greeted({ port: grpcPort, ca, ...certificate }), 'settings', `gRPC, a certificate ${what}`);
  }
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
  for (const at of [port, grpcPort])
    t.regex(
      String(await asked({ port: at, ca, ...shown(good), ...old })),
      /alert protocol version/,
      'the server says so',
    );
  // And after all of them it serves as before.
  t.is(await asked({ port, ca, ...shown(good) }), 200);
});

test('I3 a client takes no server whose certificate is of another authority, expired, or of another name', async (t) => {
  t.timeout(240_000);
  const made = certificates(t);
  if (made === undefined) return;
  const { authority, stranger, good, expired } = made;
  await using clients = createSystem({ log: silentLog });
  for (const [what, certificate] of Object.entries({ good, expired })) {
    await using system = createSystem({ log: silentLog });
    await system.spawn('double', { actor: doubler });
    const { addresses } = await system.serve({
      port: 0,
      grpc: { port: 0 },
      tls: certificate,
      tokens: { infer: [TOKEN] },
    });
    for (const [index, scheme] of ['https', 'grpcs'].entries()) {
      const port = addresses[index]?.port;
      const name = `${scheme}-${what}`;
      const reach = (host: string, ca: string) =>
        clients.spawn<TensorRecord, TensorRecord>(`${name}-${host}-${path.basename(ca)}`, {
          actor: 'triton',
          options: { endpoint: `${scheme}://${host}:${port}`, model: 'double', token: TOKEN, ca },
        });
      const refused = async (host: string, ca: string, words: RegExp): Promise<void> => {
        const error = await t.throwsAsync(reach(host, ca), { code: 'REMOTE_UNAVAILABLE' }, name);
        t.regex(error?.message ?? '', words, name);
      };
      if (what === 'expired') await refused('localhost', authority.cert, /certificate has expired/);
      else {
        const pool = await reach('localhost', authority.cert);
        t.deepEqual((await pool.ask({ x: Float32Array.of(1, 2) }))['y'], Float32Array.of(2, 4));
        await refused('localhost', stranger.cert, /unable to (verify|get)/);
        await refused('127.0.0.1', authority.cert, /does not match certificate/);
      }
    }
  }
});
