import test, { type ExecutionContext } from 'ava';
import { connect, createSystem, silentLog, type TensorRecord } from 'troupe';
import { doubler } from '../serve/oip-stand.js';
import { laneProxy, type Passing } from './lane-proxy.js';
import { beginRow } from './row-report.js';
import { sizes } from './sizes.js';

/** Row F1 of the reliability scorecard over HTTP and gRPC; over the lane it is in rows-f.test.ts. */

/** The answer to one ask of a connection of its own, through a proxy, or why there is none. */
async function ask(
  t: ExecutionContext,
  scheme: string,
  port: number,
  passing: { readonly up?: Passing; readonly down?: Passing },
): Promise<string> {
  const proxy = await laneProxy(t, port, passing.up, passing.down);
  const connection = connect(`${scheme}://${proxy.address}`, { timeoutMs: 300_000 });
  t.teardown(() => connection.close());
  const pool = connection.pool<TensorRecord, TensorRecord>('double');
  const answer = await pool.ask({ x: Float32Array.of(1, 2) }).then(({ y }) => (y as Float32Array).join(), String);
  await connection.close();
  return answer;
}

for (const [index, scheme] of ['http', 'grpc'].entries()) {
  test(`F1 a connection of ${scheme} cut at any byte of an exchange, either way, ends in the right answer`, async (t) => {
    t.timeout(1_200_000);
    const row = beginRow(t, 'F1');
    await using system = createSystem({ log: silentLog });
    await system.spawn('double', { actor: doubler });
    const { addresses } = await system.serve({ port: 0, grpc: { port: 0 } });
    const port = addresses[index]?.port ?? 0;
    const bytes = { up: 0, down: 0 };
    const counting =
      (way: 'up' | 'down'): Passing =>
      (chunk, pair) => {
        if (pair.index === 0) bytes[way] += chunk.length;
        return chunk;
      };
    t.is(await ask(t, scheme, port, { up: counting('up'), down: counting('down') }), '2,4');
    t.true(bytes.up > 200 && bytes.down > 200, `${bytes.up} and ${bytes.down} bytes`);
    const cuts = (['up', 'down'] as const)
      .flatMap((way) => Array.from({ length: bytes[way] }, (_, at) => [way, at] as const))
      .filter((_, at) => at % sizes.f1Stride === 0);
    let lost = 0;
    let next = 0;
    const cut = new Set<number>();
    const worker = async (): Promise<void> => {
      for (let at = next++; at < cuts.length; at = next++) {
        const [way, offset] = cuts[at] as readonly ['up' | 'down', number];
        let passed = 0;
        const cutting: Passing = (chunk, pair) => {
          if (pair.index > 0) return chunk;
          const part = chunk.subarray(0, Math.max(0, offset - passed));
          passed += chunk.length;
          if (passed >= offset) {
            cut.add(at);
            setImmediate(pair.cut);
          }
          return part;
        };
        const answer = await ask(t, scheme, port, { [way]: cutting });
        if (answer === '2,4') continue;
        lost++;
        t.log(`cut ${way} at ${offset}: ${answer}`);
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    t.is(lost, 0);
    // What is said at the end, after the answer, mostly is not reached any more.
    t.true(cut.size > cuts.length / 2, `${cut.size} cut of ${cuts.length}`);
    row({ faults: cut.size, runs: cuts.length, lost, dup: 0, reorder: 0 });
  });
}
