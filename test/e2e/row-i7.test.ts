import test from 'ava';
import { createSystem, defineActor, fromIterable, isTroupeError, silentLog, stream } from 'troupe';
import { makeTree } from '../models/model-tree.js';
import { beginRow } from './row-report.js';
import { sizes } from './sizes.js';

/**
 * Row I7 of the reliability scorecard: whatever callers make up by the hundred thousand, a scrape stays within its cap.
 * test/telemetry/exposition.test.ts has the same for names that reach a scrape whatever the system thinks of them.
 */

const SERIES_MAX = 10_000;
const MiB = 2 ** 20;

test.serial(
  'I7 names of models, methods, keys, versions, pools and pipelines and texts of errors make no more series than the cap',
  async (t) => {
    t.timeout(30 * 60_000);
    const row = beginRow(t, 'I7');
    const count = sizes.i7Names;
    const system = createSystem({ log: silentLog });
    t.teardown(() => system.stop({ timeoutMs: 0 }));
    const actor = defineActor<string, string, void>({
      predict: (batch) =>
        batch.map((text) => Object.assign(new Error(`cannot do ${text}`), { code: `E_${text}`, name: text })),
      methods: { fails: (_, text) => Promise.reject(new Error(String(text))) },
    });
    const pool = await system.spawn<string, string>('p', { actor, version: 1 });
    const many = await system.spawn<string, string>('many', {
      actor,
      models: { root: makeTree(t, { 'fr/1/m': '' }), maxBytes: 10 },
    });
    const codes = new Set<string>();
    const fails = async (work: Promise<unknown>): Promise<void> => {
      const error: unknown = await work.then(
        () => undefined,
        (reason: unknown) => reason,
      );
      codes.add(isTroupeError(error) ? error.code : String(error).slice(0, 80));
    };
    for (let from = 0; from < count; from += 100) {
      const words = Array.from({ length: Math.min(100, count - from) }, (_, n) => `word-${from + n}`);
      await Promise.all(
        words.flatMap((word) => [
          fails(pool.ask(word, { key: word })),
          fails(pool.call(word)),
          fails(pool.call('fails', word)),
          fails(many.ask(word, { model: word })),
          fails(many.ask(word, { model: `fr@${word}` })),
          fails(many.swap(word, { model: 'fr' })),
          fails(many.preload(word)),
        ]),
      );
      // These cost more, and one in a hundred is as many as the cap all the same.
      const name = `name-${from}`;
      await system.stopPool((await system.spawn(name, { actor })).name);
      await stream(fromIterable([name]), { name })
        .infer(pool)
        .toArray()
        .catch(() => undefined);
      await pool.swap(2 + from);
    }
    const text = system.metrics();
    const series = text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length;
    row({
      faults: 7 * count,
      runs: 7 * count,
      lost: 0,
      dup: 0,
      reorder: 0,
      more: { series, scrapeBytes: text.length, codes: codes.size },
    });
    t.deepEqual([...codes].sort(), [
      'METHOD_FAILED',
      'METHOD_NOT_FOUND',
      'MODEL_NOT_FOUND',
      'PREDICT_FAILED',
      'VERSION_NOT_FOUND',
    ]);
    t.true(series <= SERIES_MAX, `${series} series`);
    t.true(text.length < 4 * MiB, `${text.length} bytes`);
    // Of what was refused or is no label nothing is there.
    t.false(/model="word-|method="|key="|code="E_|cannot do/.test(text));
    t.true(text.includes('troupe_errors_total{pool="p",code="PREDICT_FAILED"}'));
  },
);
