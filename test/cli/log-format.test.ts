import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { parseInvocation } from '../../src/cli/arguments.js';
import { runCommand } from '../../src/cli/command.js';

const dir = mkdtempSync(path.join(tmpdir(), 'troupe-log-'));
test.after.always(() => rmSync(dir, { recursive: true }));

const CONFIG = `
pools:
  echo:
    actor: mock
    isolation: thread
    version: 3
    options: { faults: [{ do: error-in-place, record: bad, message: "no \\u0007bad" }] }
  broken: { actor: mock, isolation: thread, options: { load: throw } }
pipelines:
  loud:
    source: { file: in.txt }
    steps: [{ infer: { pool: echo } }]
    sink: { file: out.txt }
  silent:
    source: { file: in.txt }
    steps: [{ infer: { pool: broken } }]
    sink: { file: none.txt }
`;

test('with --log-format json stderr has lines of JSON and nothing else, each with its time and place', async (t) => {
  writeFileSync(path.join(dir, 'in.txt'), 'good\nbad\n');
  writeFileSync(path.join(dir, 'troupe.yaml'), CONFIG);
  let out = '';
  let err = '';
  const { signal } = new AbortController();
  const code = await runCommand(['run', path.join(dir, 'troupe.yaml'), '--log-format', 'json'], {
    stdin: process.stdin,
    stdout: { write: (text) => void (out += text) },
    stderr: { write: (text) => void (err += text) },
    env: {},
    stop: signal,
    kill: signal,
  });
  t.is(code, 1);
  t.is(out, '');
  const entries = err
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  for (const { time, level, message } of entries) {
    t.regex(String(time), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
    t.regex(String(level), /^(info|warn|error|audit)$/);
    t.is(typeof message, 'string');
  }
  const failed = entries.find((entry) => entry['code'] === 'PREDICT_FAILED');
  t.like(failed, { level: 'warn', pool: 'echo', replica: 0, version: '3' });
  t.true(entries.some((entry) => entry['pool'] === 'broken' && entry['code'] === 'ACTOR_LOAD_FAILED'));
  t.like(entries.at(-1), {
    level: 'info',
    message: 'the run has ended: 2 records, 1 results, 1 failed, 0 dead letters',
  });
});

test('--log-format takes text or json, and belongs to run', (t) => {
  t.like(parseInvocation(['run', '--log-format', 'json']), { kind: 'run', logFormat: 'json' });
  t.like(parseInvocation(['run', '--log-format', 'xml']), {
    kind: 'wrong',
    message: '--log-format takes text or json, got xml',
  });
  t.like(parseInvocation(['check', '--log-format', 'json']), {
    kind: 'wrong',
    message: 'check has no option --log-format',
  });
});
