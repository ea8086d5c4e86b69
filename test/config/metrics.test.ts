import test from 'ava';
import { explainConfig } from '../../src/config/explain.js';
import { load, problemsOf } from './problems.js';

test('metrics are off without the key, and at loopback and port 9464 with it', (t) => {
  t.is(load('pools: {}').config.metrics, undefined);
  t.deepEqual(load('metrics: {}').config.metrics, { port: 9464, page: false });
});

test('metrics beyond loopback need a token and the names clients use, said with their place', (t) => {
  t.regex(problemsOf('metrics:\n  host: 0.0.0.0'), /troupe\.yaml:2:9.*token must be given/s);
  t.regex(problemsOf('metrics:\n  host: 0.0.0.0\n  token: 0123456789abcdef'), /hosts must list/);
  t.is(problemsOf('metrics:\n  host: 0.0.0.0\n  token: 0123456789abcdef\n  hosts: [node1]'), '');
  t.regex(problemsOf('metrics:\n  port: 70000'), /metrics\.port/);
  t.regex(problemsOf('metrics:\n  origins: [x]'), /origins/);
});

test('the page is for loopback only, said with its place', (t) => {
  t.is(load('metrics: { page: true }').config.metrics?.page, true);
  t.is(problemsOf('metrics: { page: true, host: "::1", token: 0123456789abcdef }'), '');
  const beyond = 'metrics:\n  host: 192.0.2.1\n  token: 0123456789abcdef\n  page: true';
  t.regex(problemsOf(beyond), /troupe\.yaml:4:9 metrics\.page.*loopback address only/);
  t.regex(problemsOf('metrics: { page: yes please }'), /metrics\.page/);
});

test('the token of the metrics is in no message and no explanation', (t) => {
  const token = 'CANARY 0123456789';
  const text = problemsOf('metrics:\n  token: ${T}', { T: token });
  t.regex(text, /token must be at least 16 printable characters/);
  t.false(text.includes('CANARY'));
  const shown = JSON.stringify(explainConfig(load('metrics:\n  token: CANARY-0123456789')));
  t.true(shown.includes('***'));
  t.false(shown.includes('CANARY'));
});
