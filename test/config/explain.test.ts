import test from 'ava';
import { explainConfig, originText } from '../../src/config/explain.js';
import { parseConfig } from '../../src/config/load.js';

const loaded = parseConfig(
  'name: demo\npools:\n  a:\n    actor: onnx\n    replicas: ${N:-2}\n    version: ${V}\n    options:\n      apiKey: ${API_KEY}\n',
  { file: 'troupe.yaml', env: { V: '3', API_KEY: 'hunter2' } },
);
const values = explainConfig(loaded);
const lineOf = (path: string): string => {
  const value = values.find((candidate) => candidate.path === path);
  return value === undefined ? 'absent' : `${String(value.value)} <- ${originText('troupe.yaml', value)}`;
};

test('each value says where it came from: the file, a variable, the default of a variable, or the default', (t) => {
  t.is(lineOf('name'), 'demo <- troupe.yaml:1:7');
  t.is(lineOf('pools.a.actor'), 'onnx <- troupe.yaml:4:12');
  t.is(lineOf('pools.a.version'), '3 <- V at troupe.yaml:6:14');
  t.is(lineOf('pools.a.replicas'), '2 <- N (default) at troupe.yaml:5:15');
  t.is(lineOf('pools.a.mailbox.capacity'), '1024 <- default');
  t.is(lineOf('pipelines'), '[object Object] <- default');
});

test('the value of a variable whose name sounds secret is not shown', (t) => {
  t.is(lineOf('pools.a.options.apiKey'), '*** <- API_KEY at troupe.yaml:8:15');
  t.notRegex(JSON.stringify(values), /hunter2/);
});

test('a token, a header and the password in a URL are not shown, though they stand in the file', (t) => {
  const text = `pipelines:
  p:
    source: { http: { port: 0, token: hunter2-hunter2-hunter2 } }
    sink: { http: { url: 'http://h/x', headers: { x-a: hunter2 } } }
  q:
    source: { redis: { url: 'redis://me:hunter2@h/1', stream: s, group: g, consumer: c } }
    sink: { postgres: { connection: '\${DATABASE}', table: t, keyColumn: id } }
`;
  const env = { DATABASE: 'postgres://me:hunter2/@h/d' };
  const explained = explainConfig(parseConfig(text, { file: 'troupe.yaml', env }));
  t.notRegex(JSON.stringify(explained), /hunter2/);
  const shown = new Map(explained.map(({ path, value }) => [path, value]));
  t.is(shown.get('pipelines.p.source.http.token'), '***');
  t.is(shown.get('pipelines.p.sink.http.url'), 'http://h/x');
  t.is(shown.get('pipelines.q.source.redis.url'), 'redis://***@h/1');
  t.is(shown.get('pipelines.q.sink.postgres.connection'), 'postgres://***@h/d');
  t.is(shown.get('pipelines.q.sink.postgres.keyColumn'), 'id');
});
