import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { createSystem, silentLog } from 'troupe';
import { mlpModel } from '../fixtures/onnx-writer.js';

const wide = 1024;

/** A model that computes for a while, so that a stop meets a run. */
function heavyModel(): string {
  const model = mkdtempSync(join(tmpdir(), 'troupe-stop-'));
  const layer = { weights: new Float32Array(wide * wide).fill(0.001), bias: new Float32Array(wide) };
  mkdirSync(join(model, '1'));
  writeFileSync(join(model, '1', 'model.onnx'), mlpModel([layer, layer, layer, layer]));
  return model;
}

for (const isolation of ['process', 'thread'] as const) {
  test.serial(
    `a stop while native runs are in flight in a ${isolation} settles every record and harms nothing`,
    async (t) => {
      t.timeout(300_000);
      const model = heavyModel();
      t.teardown(() => rmSync(model, { recursive: true }));
      for (let round = 0; round < 6; round++) {
        const system = createSystem({ log: silentLog });
        const pool = await system.spawn<{ x: Float32Array }, unknown>('heavy', { actor: 'onnx', model, isolation });
        const x = new Float32Array(wide).fill(1);
        const first = pool.ask({ x });
        const running = pool.askMany(Array.from({ length: 500 }, () => ({ x })));
        await first;
        await system.stop({ timeoutMs: 0 });
        const outcomes = await running;
        t.is(outcomes.length, 500);
        const codes = new Set(outcomes.map((outcome) => (outcome.ok ? 'ok' : outcome.error.code)));
        t.true(codes.has('POOL_STOPPED'), [...codes].join(' '));
        codes.delete('ok');
        t.deepEqual([...codes], ['POOL_STOPPED']);
      }
    },
  );
}
