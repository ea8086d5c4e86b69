import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { createSystem, type Outcome, silentLog, type TensorRecord } from 'troupe';
import { makeTree } from '../models/model-tree.js';

const models = fileURLToPath(new URL('../../../models', import.meta.url));
const mean = fileURLToPath(new URL('../fixtures/actors/mean-of-scores.js', import.meta.url));

const GRAPH = `platform: "ensemble" max_batch_size: 16
input { name: "bytes" data_type: TYPE_UINT8 dims: 2048 }
output { name: "scores" data_type: TYPE_FP32 dims: 79 }
ensemble_scheduling {
  step {
    model_name: "mean"
    input_map { key: "one" value: "small" } input_map { key: "other" value: "large" }
    output_map { key: "mean" value: "scores" }
  }
  step {
    model_name: "first" model_version: 1
    input_map { key: "bytes" value: "bytes" } output_map { key: "scores" value: "small" }
  }
  step {
    model_name: "second" model_version: 2
    input_map { key: "bytes" value: "bytes" } output_map { key: "scores" value: "large" }
  }
}`;

test('two real models and a third actor, in processes and a thread, answer as one, also while one of them is started anew', async (t) => {
  t.timeout(240_000);
  const dir = makeTree(t, {
    'both/1/': '',
    'both/config.pbtxt': GRAPH,
    'troupe.yaml': `pools:
  both: { actor: ensemble, model: ./both }
  mean: { actor: ${JSON.stringify(mean)}, isolation: thread }
  first: { actor: onnx, model: ${JSON.stringify(`${models}/filetype`)}, version: 1 }
  second: { actor: onnx, model: ${JSON.stringify(`${models}/filetype`)}, version: 2 }
`,
  });
  await using system = await createSystem({ config: path.join(dir, 'troupe.yaml'), log: silentLog });
  const pool = (name: string) => {
    const found = system.get<TensorRecord, TensorRecord>(name);
    if (found === undefined) throw new Error(`no pool ${name}`);
    return found;
  };
  t.is(system.names().at(-1), 'both');
  const golden = JSON.parse(readFileSync(`${models}/filetype/golden.json`, 'utf8')) as { readonly base64: string }[];
  const records = golden.map(({ base64 }) => {
    const bytes = new Uint8Array(2048);
    bytes.set(Buffer.from(base64, 'base64').subarray(0, 2048));
    return { bytes };
  });
  const scores = (outcomes: readonly Outcome<TensorRecord>[]): readonly Float32Array[] =>
    outcomes.map((outcome) => {
      if (!outcome.ok) throw outcome.error;
      return outcome.value['scores'] as Float32Array;
    });
  const small = scores(await pool('first').askMany(records));
  const large = scores(await pool('second').askMany(records));
  const [, answers] = await Promise.all([pool('second').restart(), pool('both').askMany(records)]);
  scores(answers).forEach((given, index) => {
    given.forEach((score, at) => {
      const expected = ((small[index]?.[at] ?? NaN) + (large[index]?.[at] ?? NaN)) / 2;
      // Batches of other sizes add in another order.
      if (!(Math.abs(score - expected) < 1e-4)) t.fail(`record ${index}: ${score} is not ${expected}`);
    });
  });
  t.is(answers.length, golden.length);
});
