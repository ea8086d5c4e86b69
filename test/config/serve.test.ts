import test from 'ava';
import { explainConfig } from '../../src/config/explain.js';
import { load, problemsOf } from './problems.js';

test('pools are served where the file says so, and its paths start at its folder', (t) => {
  t.is(load('pools: {}').config.serve, undefined);
  t.deepEqual(load('serve: {}').config.serve, {});
  const { serve } = load('serve: { socket: run/t.sock, lane: run/l.sock, tls: { cert: c.pem, key: k.pem } }').config;
  t.like(serve, { socket: '/x/run/t.sock', lane: '/x/run/l.sock', tls: { cert: '/x/c.pem', key: '/x/k.pem' } });
  t.deepEqual(load('serve: { grpc: {} }').config.serve, { grpc: {} });
  t.deepEqual(load('serve: { grpc: { socket: g.sock } }').config.serve, { grpc: { socket: '/x/g.sock' } });
});

test('what is served beyond loopback needs TLS, a token and the names clients use, said with their place', (t) => {
  const tokens = 'tokens: { infer: [0123456789abcdef] }';
  t.regex(problemsOf('serve:\n  host: 0.0.0.0'), /troupe\.yaml:2:9.*token must be given/s);
  t.regex(problemsOf(`serve:\n  host: 0.0.0.0\n  hosts: [a]\n  ${tokens}`), /troupe\.yaml:2:9.*tls must be given/s);
  t.regex(problemsOf(`serve:\n  host: 0.0.0.0\n  ${tokens}`), /hosts must list/);
  const tls = 'tls: { cert: c.pem, key: k.pem }';
  t.is(problemsOf(`serve:\n  host: 0.0.0.0\n  hosts: [a]\n  ${tokens}\n  ${tls}`), '');
  t.regex(problemsOf('serve: { tokens: { infer: [short] } }'), /serve\.tokens\.infer/);
  t.regex(problemsOf('serve: { maxBodyBytes: 0 }'), /serve\.maxBodyBytes/);
  t.regex(problemsOf('serve: { prot: 1 }'), /prot/);
  t.regex(problemsOf('serve: { grpc: { port: 70000 } }'), /serve\.grpc\.port/);
  t.regex(problemsOf('serve: { socket: s, host: 0.0.0.0, grpc: {} }'), /token must be given/);
});

test('the tokens of the server are in no message and no explanation', (t) => {
  const token = 'CANARY-0123456789';
  const text = `serve:\n  host: 0.0.0.0\n  tokens: { infer: [${token}], admin: ['\${A}'] }`;
  t.notRegex(problemsOf(text, { A: 'CANARY 0123456789 with spaces' }), /CANARY/);
  t.notRegex(problemsOf(`serve: { tokens: { infer: ${token} } }`), /CANARY/);
  const values = explainConfig(load(`serve: { tokens: { infer: [${token}], admin: ['\${A}'] } }`, { A: token }));
  t.notRegex(JSON.stringify(values), /CANARY/);
  t.true(values.some(({ path }) => path.startsWith('serve.tokens')));
});
