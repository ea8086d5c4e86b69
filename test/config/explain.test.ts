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
