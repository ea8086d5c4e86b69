// OpenAI's own client for Python against our routes, in two ways that its authors wrote: the part of its test-suite that asks a
// server, which its sources hold, and its examples, as they are. Resolves to { versions, lines } of what was called, each line
// told as it comes, or to { why } not; rejects where something differs.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { createSystem, defineActor, silentLog } from 'troupe';
import { pythonOf, VENVS } from '../python.mjs';

const run = promisify(execFile);
const VERSION = '3.54.0';
const REQUIREMENT = `openai[aiohttp]==${VERSION} pytest pytest-asyncio rich`;
const LIMIT_MS = 300_000;
/** Names of models in the tests and in the examples. */
const CHATS = ['gpt-6-astra', 'gpt-3.5-turbo-instruct', 'gpt-5.5', 'gpt-4o-2024-08-06'];
const SUITES = ['test_models', 'test_embeddings', 'test_completions', 'chat/test_completions'];

/** Why a test may fail: what the client gets, in which tests, and the words for it. Every other failure is one of ours. */
const NOT_OURS = [
  [
    /^openai\.APIStatusError: Error code: 405 /,
    /_(delete|list|list_with_all_params)\[/,
    'what would be stored or deleted',
  ],
  [
    /^openai\.NotFoundError: Error code: 404 - there is no such path/,
    /_(retrieve|update|delete)\[/,
    'what would be stored',
  ],
  [/ best_of must be 1: /, /_create_with_all_params_/, 'a best_of of 0'],
  [
    / max_completion_tokens must be a whole number from 1, got 0$/,
    /_create_with_all_params_/,
    'a max_completion_tokens of 0',
  ],
  // It asks for base64 by itself, and its strict client takes only the list that it makes of it.
  [
    /Data returned by API invalid for expected schema/,
    /^Test.*Embeddings\.(?!.*with_all).*\[(strict|aiohttp)/,
    'base64 before it is decoded, which this form of the client takes from nobody',
  ],
];

/** Example -> what it prints of the answers below. */
const EXAMPLES = {
  demo: /^----- standard request -----\nSay this is a test\n----- streaming request -----\nHow do I .*\n----- custom[^]*Say this is a test$/,
  async_demo: /^Say this is a test$/,
  streaming: /"content":\s*" 5\."/,
  parsing: /answer: {2}x = -29\/8$/,
  parsing_stream: /answer: x = -29\/8/,
  parsing_tools: /orders$/,
  parsing_tools_stream: /GetWeather\(\s*city='Paris',\s*country='France'/,
};

const FLOAT = 0.5;
const embedder = defineActor({
  kinds: ['embeddings'],
  predict: (batch) =>
    batch.map(({ dimensions }) => ({ embedding: new Float32Array(dimensions ?? 8).fill(FLOAT), tokens: 2 })),
});

const USAGE = { promptTokens: 1, completionTokens: 3 };
const TOOLS = {
  Query: { table_name: 'orders', columns: ['id'], conditions: [], order_by: 'asc' },
  get_weather: { city: 'Paris', country: 'France' },
};
const SOLVED = { steps: [{ explanation: 'take 31 away', output: '8x = -29' }], final_answer: 'x = -29/8' };

/** Says again what it is told; calls the tool it is given, and answers in JSON where it is told to. */
const echo = defineActor({
  kinds: ['chat', 'completions'],
  predict: (batch) =>
    batch.map(({ stream, prompt, messages, more }) => {
      const answers = TOOLS[more?.tools?.[0].function.name];
      if (answers !== undefined) {
        const toolCalls = [
          {
            id: 'call_1',
            type: 'function',
            function: { name: more.tools[0].function.name, arguments: JSON.stringify(answers) },
          },
        ];
        return { text: '', toolCalls, finishReason: 'tool_calls', usage: USAGE };
      }
      const isJson = more?.response_format?.type === 'json_schema';
      const text = isJson ? JSON.stringify(SOLVED) : (prompt ?? messages.at(-1).content);
      return stream === true ? wordsOf(text) : { text, usage: USAGE };
    }),
});

async function* wordsOf(text) {
  yield* text.split(/(?= )/);
  yield { finishReason: 'stop', usage: USAGE };
}

export async function openaiPython(told = () => undefined) {
  const { why, bin, versions } = await pythonOf('openai', REQUIREMENT, 'openai');
  if (why !== undefined) return { why };
  const sources = await sourcesOf(bin);
  if (sources.why !== undefined) return sources;
  const system = createSystem({ log: silentLog });
  try {
    await system.spawn('text-embedding-3-small', { actor: embedder });
    for (const name of CHATS) await system.spawn(name, { actor: echo });
    const { addresses } = await system.serve({ port: 0 });
    const url = `${addresses[0].url}v1`;
    const env = { ...process.env, TEST_API_BASE_URL: url, OPENAI_BASE_URL: url, OPENAI_API_KEY: 'any' };
    const lines = [];
    const called = (what, fact) => {
      lines.push({ what, fact });
      told({ what, fact });
    };
    for (const suite of SUITES) called(`tests/api_resources/${suite}.py`, await suiteOf(bin, sources.dir, suite, env));
    for (const [name, printed] of Object.entries(EXAMPLES)) {
      const options = { cwd: sources.dir, env, timeout: LIMIT_MS };
      const { stdout } = await run(bin, [`examples/${name}.py`], options);
      assert.match(stdout.trim(), printed);
      called(`examples/${name}.py`, 'prints what the model said');
    }
    return { versions, lines };
  } finally {
    await system.stop();
  }
}

/** The folder of the sources as they are released, as { dir }; or { why } there is none. */
async function sourcesOf(bin) {
  const dir = path.join(VENVS, `openai-${VERSION}`);
  if (existsSync(path.join(dir, 'tests'))) return { dir };
  mkdirSync(VENVS, { recursive: true });
  const archive = path.join(VENVS, `openai-${VERSION}.tar.gz`);
  try {
    const args = [
      '-m',
      'pip',
      'download',
      '-q',
      '--no-deps',
      '--no-binary',
      'openai',
      '-d',
      VENVS,
      `openai==${VERSION}`,
    ];
    await run(bin, args, { timeout: LIMIT_MS });
    await run('tar', ['-xzf', archive, '-C', VENVS]);
    return { dir };
  } catch (error) {
    return {
      why: `no sources of openai ${VERSION}: ${String(error.stderr || error.message)
        .trim()
        .split('\n')
        .at(-1)}`,
    };
  } finally {
    rmSync(archive, { force: true });
  }
}

/** How many of its tests pass, and what the others want. */
async function suiteOf(bin, dir, suite, env) {
  const folder = mkdtempSync(path.join(tmpdir(), 'troupe-suite-'));
  try {
    const report = path.join(folder, 'report.xml');
    const args = [
      '-m',
      'pytest',
      '-o',
      'addopts=',
      '-p',
      'no:cacheprovider',
      '-q',
      '--tb=line',
      `--junitxml=${report}`,
    ];
    await run(bin, [...args, `tests/api_resources/${suite}.py`], { cwd: dir, env, timeout: LIMIT_MS }).catch(
      (error) => {
        if (error.code !== 1) throw error; // 1: some have failed.
      },
    );
    return judge(readFileSync(report, 'utf8'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function judge(report) {
  const counts = new Map();
  const cases = [...report.matchAll(/<testcase classname="([^"]*)" name="([^"]*)"[^>]*?(?:\/>|>(.*?)<\/testcase>)/gs)];
  let passed = 0;
  for (const [, group, name, inside = ''] of cases) {
    const failure = /<(?:failure|error) message="([^"]*)"/.exec(inside)?.[1];
    if (failure === undefined) {
      passed++;
      continue;
    }
    const title = `${group.split('.').at(-1)}.${name}`;
    const reason = NOT_OURS.find(([message, tests]) => message.test(failure) && tests.test(title))?.[2];
    assert.ok(reason !== undefined, `${title}: ${failure}`);
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  assert.ok(passed > 0 && cases.length === Number(/ tests="(\d+)"/.exec(report)[1]), report.slice(0, 500));
  const others = [...counts].map(([reason, count]) => `${count} want ${reason}`);
  return [`${passed} pass`, ...others].join('; ');
}
