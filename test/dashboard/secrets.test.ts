import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { connectControl, createSystem, isTroupeError, jsonLog, type System } from 'troupe';
import { freePort } from '../e2e/servers.js';
import { shownAnswer, shownEvent } from '../../src/control/shown.js';

/** Row I5 of the scorecard: a secret that somebody put where secrets stand is in nothing that anybody can look at. */

const SECRET = 'CANARY-7be1';
/** Wherever a config may hold one. The values differ, so that what leaks says from where. */
const places = ['OPTION', 'METRICS', 'LISTEN', 'HEADER', 'URLPASS', 'DBPASS', 'ENVIRONMENT', 'RECORD', 'KEY'] as const;
const secretOf = (place: (typeof places)[number]): string => `${SECRET}-${place}-0123456789`;

const configAt = (port: number): string => `
name: secrets
control: { socket: ./run/c.sock }
metrics: { port: ${port}, page: true, token: "\${METRICS}" }
pools:
  guarded:
    actor: ./actor.mjs
    isolation: process
    options: { apiKey: "\${OPTION}", nested: { password: "\${OPTION}" } }
pipelines:
  in:
    source: { http: { port: 0, token: "\${LISTEN}" } }
    sink: { http: { url: "http://127.0.0.1:1/", headers: { authorization: "Bearer \${HEADER}" } } }
  out:
    source: { redis: { url: "redis://user:\${URLPASS}@127.0.0.1:1", stream: s, group: g, consumer: c } }
    sink: { postgres: { connection: "postgres://user:\${DBPASS}@127.0.0.1:1/x", table: t } }
`;

/** It has the secrets at hand and keeps them to itself; what it throws says nothing of them. */
const ACTOR = `
export default {
  load: ({ options, version }) => {
    if (version === '3') throw new Error('no such model');
    return options.apiKey + process.env.ENVIRONMENT;
  },
  predict: (batch) => batch.map((record) => {
    if (record.crash) process.exit(3);
    return record.bad ? new Error('a bad record') : 'ok';
  }),
};
`;

test('I5: no log, metric, page, event, answer, explanation or error holds a secret of config, environment or records', async (t) => {
  t.timeout(120_000);
  const dir = mkdtempSync(path.join(tmpdir(), 'ti-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = path.join(dir, 'troupe.yaml');
  const port = await freePort();
  writeFileSync(file, configAt(port));
  writeFileSync(path.join(dir, 'actor.mjs'), ACTOR);
  for (const place of places) process.env[place] = secretOf(place);
  const log: string[] = [];
  let system: System | undefined;
  t.teardown(() => system?.stop({ timeoutMs: 0 }));
  system = await createSystem({ config: file, log: jsonLog((line) => log.push(line)) });
  const seen: Record<string, string> = {};
  const note = (what: string, value: unknown): void => {
    seen[what] = `${seen[what] ?? ''}${typeof value === 'string' ? value : (JSON.stringify(value) ?? '')}\n`;
  };
  /** An error as its receiver may print it, causes included. */
  const failure = async (what: string, work: Promise<unknown>): Promise<void> => {
    const error: unknown = await work.then(
      () => undefined,
      (reason: unknown) => reason,
    );
    t.true(error instanceof Error, `${what} was to fail`);
    for (let at = error; at instanceof Error; at = at.cause) {
      note(what, `${at.name} ${at.message} ${at.stack} ${isTroupeError(at) ? JSON.stringify(at) : ''}`);
    }
  };

  const pool = system.get('guarded');
  const record = (more: object): object => ({ secret: secretOf('RECORD'), ...more });
  await pool?.ask(record({}), { key: secretOf('KEY') });
  await failure('ask', pool?.ask(record({ bad: true })) ?? Promise.resolve());
  await failure('swap', pool?.swap(3) ?? Promise.resolve());
  await failure('crash', pool?.ask(record({ crash: true })) ?? Promise.resolve());
  await failure('overdue', pool?.ask(record({}), { timeoutMs: 0 }) ?? Promise.resolve());

  const { socket = '' } = system.control ?? {};
  await using control = await connectControl(socket, { access: 'write' });
  const verbs = ['ps', 'stats', 'explain', 'deadLetters', 'plan'] as const;
  for (const verb of verbs) {
    const answer = await control.call(verb, {}).catch((error: unknown) => String(error));
    note(`control ${verb}`, answer);
    if (typeof answer !== 'string') note(`shown ${verb}`, shownAnswer(verb, answer));
  }
  note('control versions', await control.versions('guarded'));
  await failure('control ask', control.ask('guarded', record({ bad: true })));
  const events = control.tail(undefined, { last: 1000 });
  for (let count = 0; count < 8; count++) {
    const { value } = await events.next();
    note('tail', value);
    note('tail shown', shownEvent(value));
  }
  note('metrics', system.metrics());
  const token = readFileSync(`${socket}.token`, 'utf8').trim();
  note('page', await feedOf(port, secretOf('METRICS')));
  note('log', log.join(''));

  t.true(Object.keys(seen).length > 12);
  t.regex(seen['page'] ?? '', /a bad record|no such model/, 'the page tells what happened');
  for (const [what, text] of Object.entries(seen)) {
    t.true(text.length > 2, `${what} says something`);
    for (const place of places) t.false(text.includes(secretOf(place)), `${place} is in ${what}: ${text}`);
    t.false(text.includes(SECRET), `${what}: ${text}`);
    t.false(text.includes(token), `the token of the control is in ${what}`);
  }
});

/** The first two messages: the state, and the events so far. */
async function feedOf(port: number, token: string): Promise<string> {
  const headers = { 'x-troupe-page': '1', authorization: `Bearer ${token}` };
  const response = await fetch(`http://127.0.0.1:${port}/page/feed`, { headers });
  let text = '';
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += new TextDecoder().decode(chunk);
    if (text.split('\n\n').length > 2) break;
  }
  return text;
}
