import { readFile } from 'node:fs/promises';
import test from 'ava';
import { createSystem, silentLog, type TroupeError } from 'troupe';

const model = new URL('../../../models/filetype', import.meta.url).pathname;

interface Golden {
  readonly expectedV2: string;
  readonly sample: Uint8Array;
}

async function golden(): Promise<{ labels: string[]; records: Golden[] }> {
  const labels = (await readFile(`${model}/labels.txt`, 'utf8')).trim().split('\n');
  const rows = JSON.parse(await readFile(`${model}/golden.json`, 'utf8')) as (Record<string, string> & {
    expectedV2: string;
  })[];
  const records = rows.map((row) => {
    const base64 = Object.entries(row).find(([key]) => key !== 'label' && key !== 'expectedV2')?.[1] ?? '';
    return { expectedV2: row.expectedV2, sample: new Uint8Array(Buffer.from(base64, 'base64')) };
  });
  return { labels, records };
}

function best(scores: Float32Array): number {
  let at = 0;
  for (let i = 1; i < scores.length; i++) if ((scores[i] as number) > (scores[at] as number)) at = i;
  return at;
}

test('B1: a swap under load from a small model to a better one loses no record and never mixes versions', async (t) => {
  t.timeout(60_000);
  const { labels, records } = await golden();
  t.true(records.length >= 40);
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<{ bytes: Uint8Array }, { scores: Float32Array }>('filetype', {
    actor: 'onnx',
    model,
    version: 1,
    replicas: 2,
    mailbox: { capacity: 256 },
  });
  t.is(pool.version, '1');
  const inputs = Array.from({ length: 2000 }, (_, i) => ({ bytes: (records[i % records.length] as Golden).sample }));
  const before = pool.askMany(inputs);
  const swapped = pool.swap(2);
  const during = await before;
  await swapped;
  t.is(pool.version, '2');
  const versions = during.map((outcome) => (outcome.ok ? outcome.version : outcome.error.code));
  t.true(
    versions.every((version) => version === '1' || version === '2'),
    'every outcome is a result and names its version',
  );
  const after = await pool.askMany(inputs.slice(0, records.length));
  for (const [i, outcome] of after.entries()) {
    if (!outcome.ok) t.fail(outcome.error.message);
    else {
      t.is(outcome.version, '2');
      t.is(labels[best(outcome.value.scores)], records[i]?.expectedV2);
    }
  }
  t.is(pool.stats().restarts, 0);
});

test('B2: a version that does not exist or does not load changes nothing', async (t) => {
  t.timeout(60_000);
  const { records } = await golden();
  await using system = createSystem({ log: silentLog });
  const pool = await system.spawn<{ bytes: Uint8Array }, { scores: Float32Array }>('filetype', {
    actor: 'onnx',
    model,
    version: 1,
  });
  const missing: TroupeError = await t.throwsAsync<TroupeError>(pool.swap(9), { code: 'SWAP_ROLLED_BACK' });
  t.is((missing.cause as TroupeError).code, 'VERSION_NOT_FOUND');
  const sample = { bytes: (records[0] as Golden).sample };
  t.true((await pool.askMany([sample]))[0]?.ok);
  t.is(pool.version, '1');
  t.is(pool.stats().replicas.length, 1);
});
