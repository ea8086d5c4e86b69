import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CONFIG_BYTES_MAX, type LoadedConfig, loadConfig, parseConfig } from '../../src/config/load.js';
import { isTroupeError, type TroupeError } from '../../src/kernel/errors.js';

const dir = mkdtempSync(path.join(tmpdir(), 'troupe-config-'));
const file = path.join(dir, 'troupe.yaml');
writeFileSync(path.join(dir, 'actor.js'), 'export default {};\n');
writeFileSync(path.join(dir, 'steps.js'), 'export const parse = (x) => x;\n');
test.after.always(() => rmSync(dir, { recursive: true }));

const parse = (text: string, env: Record<string, string> = {}): LoadedConfig => parseConfig(text, { file, env });

function refused(t: ExecutionContext, text: string, env: Record<string, string> = {}): string {
  const error = t.throws(() => parse(text, env)) as TroupeError;
  t.is(error.code, 'CONFIG_INVALID');
  return error.message.replaceAll(file, 'troupe.yaml');
}

const VALID = `
name: demo
pools:
  types:
    actor: ./actor.js
    model: ./models/types
    replicas: 2
    mailbox: { capacity: 64 }
pipelines:
  walk:
    source: { files: ./tree }
    steps:
      - map: ./steps.js#parse
      - infer: { pool: types, order: unordered, input: ./steps.js#parse }
    sink: { file: out.ndjson }
    deadLetters: { file: dead.ndjson }
`;

test('a valid config comes back with defaults filled in and every path absolute', (t) => {
  const { config } = parse(VALID);
  const pool = config.pools['types'];
  t.is(pool?.actor, `file://${dir}/actor.js`);
  t.is(pool?.model, path.join(dir, 'models/types'));
  t.is(pool?.mailbox.capacity, 64);
  t.is(pool?.batching.maxSize, 32);
  const walk = config.pipelines['walk'];
  t.is(walk?.source.files, path.join(dir, 'tree'));
  t.is(walk?.steps[0]?.map, `file://${dir}/steps.js#parse`);
  t.is(walk?.steps[1]?.infer?.capacity, 512);
  t.is(walk?.closeTimeoutMs, 60_000);
  t.is(walk?.sink.file, path.join(dir, 'out.ndjson'));
});

test('a mistyped key is refused with its place and the key that was meant', (t) => {
  const message = refused(t, 'pools:\n  a:\n    actor: onnx\n    replcas: 2\n');
  t.is(message, 'troupe.yaml:4:5 pools.a.replcas: unknown key; did you mean replicas?');
});

test('an unknown key far from every known one is answered with the list of keys', (t) => {
  const message = refused(t, 'elephants: 3\n');
  t.is(
    message,
    'troupe.yaml:1:1 elephants: unknown key; expected one of name, models, startsAtOnce, pools, pipelines, control, tracing, metrics, serve',
  );
});

test('of bounds for replicas each key is checked by itself', (t) => {
  const of = (replicas: string): string => refused(t, `pools:\n  a:\n    actor: onnx\n    replicas: ${replicas}\n`);
  t.is(of('{ min: 3, max: 2 }'), 'troupe.yaml:4:22 pools.a.replicas.min: min must be at most max');
  t.is(
    of('{ min: 0.5 }'),
    'troupe.yaml:4:22 pools.a.replicas.min: expected a whole number, at least 0, at most 1024; found 0.5 (a number)',
  );
  t.is(of('{ mn: 1 }'), 'troupe.yaml:4:17 pools.a.replicas.mn: unknown key; did you mean min?');
});

test('a wrong value is refused with what was expected and what stood there', (t) => {
  const message = refused(t, 'pools:\n  a:\n    actor: onnx\n    replicas: two\n');
  t.is(
    message,
    'troupe.yaml:4:15 pools.a.replicas: expected a whole number, at least 1, at most 1024, or a map with keys of min, max, targetWaitMs, targetUtilization, upAfterMs, downAfterMs, idleAfterMs; found "two" (a string)',
  );
});

test('a duration below its least is told once, negative or not', (t) => {
  const of = (ms: number): string => refused(t, `pools:\n  a:\n    actor: onnx\n    loadTimeoutMs: ${ms}\n`);
  const expected = 'troupe.yaml:4:20 pools.a.loadTimeoutMs: expected a number, at least 1, at most 1099511627776';
  t.is(of(-5), `${expected}; found -5 (a number)`);
  t.is(of(0), `${expected}; found 0 (a number)`);
});

test('a step that is no module reference is told how one looks', (t) => {
  const text =
    'pipelines:\n  p:\n    source: { file: a }\n    steps: [{ map: { module: ./a.js } }]\n    sink: { file: b }\n';
  t.regex(
    refused(t, text),
    /:4:20 pipelines\.p\.steps\[0\]\.map: expected a string \(.*\.\/steps\.js#exportName\); found a map/,
  );
});

test('a missing key is reported where its map begins', (t) => {
  const message = refused(t, 'pools:\n  a:\n    replicas: 2\n');
  t.regex(message, /^troupe\.yaml:2:3 pools\.a\.actor: missing; expected a string that is not empty \(File URL/);
});

test('all problems of a file are reported at once, in the order of the file', (t) => {
  const message = refused(
    t,
    'name: "a b"\npools:\n  a:\n    actor: onnx\n    device: tpu\n    mailbox: { capacty: 1 }\nserv: 1\n',
  );
  const places = [...message.matchAll(/troupe\.yaml:(\d+:\d+)/g)].map((match) => match[1]);
  t.deepEqual(places, ['1:7', '5:13', '6:16', '7:1']);
  t.true(message.startsWith('4 problems in the config:\n'));
});

test('a name that could reach a path is refused, whichever way it is written', (t) => {
  for (const name of [
    '../etc',
    '..',
    '%2e%2e',
    'a\\b',
    '/abs',
    '.hidden',
    'a b',
    'ä',
    'x'.repeat(129),
    'a;b',
    '"a\\0b"',
    '""',
  ]) {
    const quoted = name.startsWith('"') ? name : JSON.stringify(name);
    t.regex(refused(t, `pools:\n  ${quoted}: { actor: onnx }\n`), /^troupe\.yaml:2:3 .*must be 1 to 128 of/, name);
  }
});

test('a source, a sink and a step name exactly one kind', (t) => {
  const message = refused(t, 'pipelines:\n  p:\n    source: { file: a, files: b }\n    steps: [{}]\n    sink: {}\n');
  t.regex(
    message,
    /:3:13 pipelines\.p\.source: expected exactly one of file, files, stdin, http, sse, redis, postgres; found file and files/,
  );
  t.regex(message, /:4:13 pipelines\.p\.steps\[0\]: expected exactly one of map, .*; found none/);
  t.regex(
    message,
    /:5:11 pipelines\.p\.sink: expected exactly one of file, stdout, http, sse, redis, postgres; found none/,
  );
});

/** A pipeline with these ends, and more options of its step. */
const withEnds = (source: string, sink = 'stdout: auto', more = ''): string => `
pools: { types: { actor: ./actor.js } }
pipelines:
  p:
    source: { ${source} }
    steps: [{ infer: { pool: types${more} } }]
    sink: { ${sink} }
`;

test('what only the parts of a pipeline can check is refused with its place, before anything runs', (t) => {
  const redis = 'stream: s, group: g, consumer: c';
  const rounds: readonly [string, RegExp][] = [
    [withEnds('http: { port: 0, path: x }'), /:5:38 pipelines\.p\.source\.http\.path: path must be a path .* got "x"$/],
    [withEnds('http: { port: 0, host: 0.0.0.0 }'), /:5:21 pipelines\.p\.source\.http: .* token must be given/],
    [withEnds('http: { port: 0, waitMs: 0.5 }'), /source\.http\.waitMs: waitMs must be a whole number/],
    [withEnds(`redis: { url: 'redis://:hidden@h/x', ${redis} }`), /source\.redis\.url: url must be a redis:/],
    [
      withEnds(`redis: { url: 'redis://h', ${redis}, reconnect: { backoffMs: 20000 } }`),
      /source\.redis: reconnect\.maxBackoffMs must be a whole number of at least 20000/,
    ],
    [withEnds('file: in', "http: { url: 'ftp://me:hidden@h' }"), /sink\.http\.url: url must be an http or https URL/],
    [
      withEnds('file: in', "http: { url: 'http://h', headers: { host: hidden } }"),
      /sink\.http\.headers: headers: header "host" is set by the request itself/,
    ],
    [
      withEnds('file: in', "postgres: { connection: 'postgres://h/d', table: t, createTable: true, columns: [a] }"),
      /sink\.postgres\.columns: columns says where values go/,
    ],
    [
      withEnds('file: in', 'stdout: auto', ', priority: 1000'),
      /steps\[0\]\.infer\.priority: infer\.priority must be a whole number from -100 to 100/,
    ],
  ];
  for (const [text, expected] of rounds) {
    const message = refused(t, text);
    t.regex(message, expected);
    t.notRegex(message, /hidden/);
  }
  const message = refused(t, withEnds("http: { port: 0, path: '${WHERE}' }"), { WHERE: 'hidden' });
  t.regex(message, /source\.http\.path: path must be a path such as \/records$/);
});

test('what stands in the place of a secret is not shown, nor are passwords in URLs', (t) => {
  for (const [source, expected] of [
    [
      'http: { port: 0, token: hidden }',
      /token: expected a string of at least 16 characters; found "\*\*\*" \(a string\)/,
    ],
    ["sse: { url: 'http://h', headers: { x-key: 4711 } }", /headers\.x-key: .* found \*\*\* \(a number\)/],
    ["stdin: 'redis://me:hid/den@h'", /stdin: expected one of .* found "redis:\/\/\*\*\*@h" \(a string\)/],
  ] as const) {
    const message = refused(t, withEnds(source));
    t.regex(message, expected);
    t.notRegex(message, /hid|4711/);
  }
});

test('a step that names a pool which is not there is refused with the pool that was meant', (t) => {
  const message = refused(t, VALID.replace('pool: types', 'pool: tyeps'));
  t.regex(message, /:14:24 pipelines\.walk\.steps\[1\]\.infer\.pool: .*there is no pool "tyeps"; did you mean types\?/);
});

test('an actor or a step module that does not exist is refused with the address looked at', (t) => {
  const message = refused(t, VALID.replace('./actor.js', './acter.js').replace('map: ./steps.js', 'map: ./stops.js'));
  t.regex(message, /:5:12 pools\.types\.actor: expected a module that exists; there is none at file:.*acter\.js/);
  t.regex(message, /:13:14 pipelines\.walk\.steps\[0\]\.map: .*stops\.js/);
});

test('a ready-made actor that does not exist is refused with the one that was meant, or with those there are', (t) => {
  const message = refused(t, 'pools:\n  a: { actor: onx }\n  b: { actor: sentiment }\n');
  t.regex(message, /:2:15 pools\.a\.actor: expected .* ready-made actor; did you mean onnx\?/);
  t.regex(
    message,
    /:3:15 pools\.b\.actor: expected .* ready-made actor \(onnx, mock, triton, http, openai, ensemble\)/,
  );
});

test('bad YAML, duplicate keys and unknown tags are refused with their place', (t) => {
  t.regex(refused(t, 'pools:\n  a: [1\n'), /troupe\.yaml:\d+:\d+ not valid YAML/);
  t.regex(
    refused(t, 'name: a\nname: b\n'),
    /troupe\.yaml:2:1 name: expected every key once; this one stands at 1:1 already/,
  );
  t.regex(refused(t, 'name: !secret x\n'), /troupe\.yaml:1:7 not valid YAML: Unresolved tag/);
  t.regex(refused(t, 'name: a\n---\nname: b\n'), /troupe\.yaml:2:1 not valid YAML: a second document begins here/);
  t.regex(refused(t, '  \n# nothing\n'), /troupe\.yaml:1:1 the file holds nothing/);
});

test('an alias stands for what it names', (t) => {
  const { config } = parse(
    'pools:\n  a: { actor: onnx, mailbox: &box { capacity: 7 } }\n  b: { actor: mock, mailbox: *box }\n',
  );
  t.is(config.pools['b']?.mailbox.capacity, 7);
});

test('an alias bomb is refused before it costs memory', (t) => {
  const levels = Array.from({ length: 12 }, (_, i) => {
    const below =
      i === 0
        ? '[x,x,x,x,x,x,x,x,x]'
        : `[${Array(9)
            .fill(`*a${i - 1}`)
            .join(',')}]`;
    return `a${i}: &a${i} ${below}`;
  });
  t.regex(
    refused(t, `pools: {a: {actor: onnx, options: {${levels.join(', ')}}}}\n`),
    /troupe\.yaml:\d+:\d+ .*more than 50000 values/,
  );
});

test('an alias that holds itself and absurd nesting are refused', (t) => {
  t.regex(refused(t, 'pools: &a { b: *a, c: *a }\n'), /troupe\.yaml:1:\d+ /);
  t.regex(refused(t, `name: ${'['.repeat(200)}${']'.repeat(200)}\n`), /nested deeper than 100 levels/);
  t.regex(refused(t, `name: ${'['.repeat(20_000)}`), /troupe\.yaml:1:/);
  t.regex(refused(t, '{'.repeat(100_000)), /troupe\.yaml:1:/);
});

test('__proto__ is refused as a key wherever it stands, and no prototype changes', (t) => {
  const message = refused(
    t,
    'pools:\n  a: { actor: onnx, options: { __proto__: { polluted: 1 } } }\n  "__proto__": { actor: onnx }\n__proto__: { polluted: 1 }\n',
  );
  t.deepEqual(
    [...message.matchAll(/:(\d+:\d+) .*refused/g)].map((match) => match[1]),
    ['2:32', '3:3', '4:1'],
  );
  t.false('polluted' in {});
  const { config } = parse('pools:\n  constructor: { actor: onnx, options: { prototype: { polluted: 1 } } }\n');
  t.is(config.pools['constructor']?.actor, 'onnx');
  t.false('polluted' in {});
});

test('a variable fills a value; unquoted it may become a number, quoted it stays text', (t) => {
  const { config } = parse(
    'pools:\n  a:\n    actor: onnx\n    version: "${V}"\n    replicas: ${N:-3}\n    options:\n      key: ${K}\n      s: "${N:-3}"\n      b: ${B}\n      raw: $${N}\n',
    { V: '7', K: 'x: {y}', B: 'true' },
  );
  const pool = config.pools['a'];
  t.is(pool?.version, '7');
  t.is(pool?.replicas, 3);
  t.deepEqual(pool?.options, { key: 'x: {y}', s: '3', b: true, raw: '${N}' });
});

test('an unquoted variable inside a flow map is refused with the advice to quote it', (t) => {
  const message = refused(t, 'pools:\n  a: { actor: onnx, replicas: ${N} }\n', { N: '2' });
  t.regex(message, /^troupe\.yaml:2:32 not valid YAML: .*a variable needs quotes: "\$\{NAME\}"$/);
});

test('what a variable holds is never looked at for further variables', (t) => {
  const { config } = parse('pools:\n  a: { actor: onnx, options: { x: "${A}" } }\n', { A: '${B}', B: 'secret' });
  t.is(config.pools['a']?.options['x'], '${B}');
});

test('a missing variable, a lone ${ and a bloated value are refused with their place', (t) => {
  t.regex(refused(t, 'name: ${NOPE}\n'), /^troupe\.yaml:1:7 name: the environment variable NOPE is not set/);
  t.regex(refused(t, 'name: "${toString}"\n'), /environment variable toString is not set/);
  t.regex(refused(t, 'name: "${not-a-name}"\n'), /^troupe\.yaml:1:7 name: expected \$\{NAME\}/);
  t.regex(refused(t, `name: "${'${A}'.repeat(1000)}"\n`, { A: 'x'.repeat(1000) }), /longer than 65536 characters/);
});

test('a message never holds what a variable holds', (t) => {
  t.notRegex(
    refused(t, 'pools:\n  a: { actor: onnx, replicas: "${P}", device: "${P}" }\n', { P: 'hunter2' }),
    /hunter2/,
  );
});

test('a file that is missing, a folder, too large or not UTF-8 is refused by name', async (t) => {
  const missing = path.join(dir, 'nope.yaml');
  const binary = path.join(dir, 'binary.yaml');
  const large = path.join(dir, 'large.yaml');
  writeFileSync(binary, Buffer.from('name: x\nb: \xff\xfe', 'latin1'));
  writeFileSync(large, `# ${'x'.repeat(CONFIG_BYTES_MAX)}`);
  const cases = [
    [missing, /nope\.yaml:1:1 cannot be read: there is no such file/],
    [dir, /:1:1 expected a file/],
    [large, /large\.yaml:1:1 larger than 1048576 bytes/],
    [binary, /binary\.yaml:2:4 expected UTF-8/],
  ] as const;
  for (const [name, message] of cases) {
    const error = await t.throwsAsync(() => loadConfig(name));
    t.true(isTroupeError(error) && error.code === 'CONFIG_INVALID');
    t.regex(error?.message ?? '', message);
  }
});

test('two pipelines that write to one file, or share a directory of checkpoints, are refused by their names', (t) => {
  const pipelines = (first: string, second: string): string =>
    `pipelines:\n  one: { source: { file: a }, ${first} }\n  two: { source: { file: b }, ${second} }\n`;
  t.is(
    refused(t, pipelines('sink: { file: out.txt }', 'sink: { file: ./x/../out.txt }')),
    `troupe.yaml:3:45 pipelines.two.sink.file: expected a path of its own; it is already the sink file of ` +
      'pipeline "one", and pipeline "two" cannot have it as its sink file',
  );
  const checkpoints = (file: string): string => `sink: { file: ${file} }, checkpoint: { dir: saved }`;
  t.regex(
    refused(t, pipelines(checkpoints('c.txt'), checkpoints('d.txt'))),
    /two\.checkpoint\.dir: .*it is already the checkpoint directory of pipeline "one", and pipeline "two"/,
  );
  const dead = 'sink: { file: e.txt }, deadLetters: { file: f.txt }';
  t.regex(refused(t, pipelines('sink: { file: f.txt }', dead)), /the sink file of pipeline "one", .* dead-letter file/);
  const own = 'sink: { file: g.txt }, deadLetters: { file: g.txt }';
  t.regex(refused(t, pipelines('sink: { file: h.txt }', own)), /already the sink file of the same pipeline/);
  // One file by another name, there and not yet there.
  symlinkSync(dir, path.join(dir, 'elsewhere'));
  t.regex(refused(t, pipelines('sink: { file: i }', 'sink: { file: elsewhere/i }')), /already the sink file/);
  t.regex(refused(t, pipelines('sink: { file: steps.js }', 'sink: { file: elsewhere/steps.js }')), /already/);
  t.notThrows(() => parse(pipelines('sink: { file: /dev/null }', 'sink: { file: /dev/null }')));
  t.notThrows(() => parse(pipelines('sink: { file: k }', 'sink: { file: l }')));
});

test('a pipeline that writes into a file that is read is refused, its own source or that of another', (t) => {
  const pipelines = (source: string, sink: string): string =>
    `pipelines:\n  one: { source: { ${source} }, sink: { file: b } }\n  two: { source: { file: c }, ${sink} }\n`;
  t.is(
    refused(t, pipelines('file: a', 'sink: { file: c }')),
    `troupe.yaml:3:45 pipelines.two.sink.file: expected a path of its own; it is already the source file of the same ` +
      'pipeline, and pipeline "two" cannot have it as its sink file',
  );
  t.regex(refused(t, pipelines('file: a', 'sink: { file: x/../a }')), /already the source file of pipeline "one"/);
  t.regex(
    refused(t, pipelines('file: a', 'sink: { file: d }, deadLetters: { file: c }')),
    /two\.deadLetters\.file: .*already the source file of the same pipeline/,
  );
  t.notThrows(() => parse(pipelines('file: c', 'sink: { file: d }')));
});
