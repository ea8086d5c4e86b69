import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { createSystem, fromIterable, silentLog, stream, toArray } from 'troupe';
import { Exposition } from '../../src/telemetry/exposition.js';
import { FAMILY_TABLE, type FamilyName, isAlias } from '../../src/telemetry/families.js';
import { lint } from './prometheus.js';
import { notRun } from './servers.js';

test('promtool has nothing against our families, and against the names of others only that they are theirs', async (t) => {
  if (lint('') === undefined) return notRun(t, 'prometheus');
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<string, string>('echo', {
    actor: 'mock',
    isolation: 'process',
    breaker: {},
    options: { faults: [{ do: 'error-in-place', record: 'bad' }] },
  });
  const dir = mkdtempSync(path.join(tmpdir(), 'troupe-metrics-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  let text = '';
  await stream(fromIterable(['bad', 'good', 'good']), { chunkSize: 1 })
    .infer(pool, { breaker: {} })
    .map((value) => {
      text = system.metrics();
      return value;
    })
    .to(toArray(), { checkpoint: { dir } });
  const told = new Set([...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name as string));
  t.deepEqual(
    Object.keys(FAMILY_TABLE).filter((name) => !told.has(name)),
    process.platform === 'linux' ? [] : ['troupe_replica_resident_bytes'],
    'every family is in the scrape',
  );
  const ours = familiesOf(text, (name) => !isAlias(name));
  t.deepEqual(lint(ours), { status: 0, complaints: [] });
  const all = lint(text);
  t.true(all !== undefined && all.complaints.length > 0);
  t.deepEqual(
    all?.complaints.filter((line) => !isAlias(line)),
    [],
  );
});

test('promtool reads a scrape of hostile names, and sees when a scrape is wrong', (t) => {
  if (lint('') === undefined) return notRun(t, 'prometheus');
  const scrape = new Exposition();
  for (const pipeline of ['a"b\\c\nd', '\u0000\u001b[31m', '🎭'.repeat(100), '{}=,', '\ud800', 'é'])
    scrape.add('troupe_pipelines_running', { pipeline }, 1);
  t.deepEqual(lint(scrape.text()), { status: 0, complaints: [] });
  t.not(lint('troupe_x{a="b} 1\n')?.status, 0);
});

/** The parts of a scrape that are of some families. */
function familiesOf(text: string, isWanted: (name: string) => boolean): string {
  const parts = text.split(/^(?=# HELP )/m);
  return parts.filter((part) => isWanted(part.split(' ')[2] as FamilyName)).join('');
}
