import test from 'ava';
import { connect, defineActor, isTroupeError } from 'troupe';
import { laneStand } from '../serve/lane-stand.js';
import { laneProxy, type Passing } from './lane-proxy.js';
import { sizes } from './sizes.js';

/** Token streams over a link that is cut anywhere. */

const PIECES = 40;

test('a link cut at any byte of a token stream: whole, or a beginning and an error; begun once, and no piece twice', async (t) => {
  t.timeout(600_000);
  const { system, socket } = await laneStand(t);
  const begun = new Map<number, number>();
  let running = 0;
  async function* talk(record: number): AsyncGenerator<number> {
    begun.set(record, (begun.get(record) ?? 0) + 1);
    running++;
    try {
      for (let piece = 0; piece < PIECES; piece++) yield piece;
    } finally {
      running--;
    }
  }
  const actor = defineActor({ predict: (batch: readonly number[]) => batch.map(talk) });
  await system.spawn('talk', { actor });
  const ask = async (record: number, up?: Passing, down?: Passing): Promise<readonly [number, string]> => {
    const connection = connect((await laneProxy(t, socket, up, down)).address, { timeoutMs: 120_000 });
    let next = 0;
    try {
      for await (const piece of await connection.pool<number, AsyncIterable<number>>('talk').ask(record)) {
        if (piece !== next) throw new Error(`piece ${piece} came in the place of ${next}`);
        next++;
      }
      return [next, 'whole'];
    } catch (error) {
      if (isTroupeError(error)) return [next, error.code];
      throw error;
    } finally {
      await connection.close();
    }
  };
  let [upBytes, downBytes] = [0, 0];
  const countUp: Passing = (chunk) => ((upBytes += chunk.length), chunk);
  const countDown: Passing = (chunk) => ((downBytes += chunk.length), chunk);
  t.deepEqual(await ask(0, countUp, countDown), [PIECES, 'whole']);
  const offsets = [upBytes, downBytes].flatMap((bytes, way) =>
    Array.from({ length: bytes }, (_, at) => [way, at] as const),
  );
  const cuts = offsets.filter((_, at) => at % sizes.f1Stride === 0);
  t.true(cuts.length > 20);
  const ends = new Map<string, number>();
  for (const [index, [way, offset]] of cuts.entries()) {
    let passed = 0;
    const cutting: Passing = (chunk, pair) => {
      if (pair.index > 0) return chunk;
      const part = chunk.subarray(0, Math.max(0, offset - passed));
      passed += chunk.length;
      if (passed >= offset) setImmediate(pair.cut);
      return part;
    };
    const record = index + 1;
    const [count, end] = await ask(record, way === 0 ? cutting : undefined, way === 1 ? cutting : undefined);
    ends.set(end, (ends.get(end) ?? 0) + 1);
    t.true(end === 'whole' ? count === PIECES : end === 'INTERRUPTED', `cut at ${offset}: ${count} pieces, ${end}`);
    // A stream that nobody pulled has not begun.
    const least = count > 0 ? 1 : 0;
    const runs = begun.get(record) ?? 0;
    t.true(runs >= least && runs <= 1, `cut at ${offset}: begun ${runs} times`);
  }
  t.deepEqual(new Set(ends.keys()), new Set(['whole', 'INTERRUPTED']));
  // Those that were cut off have come to their end, too.
  await system.stop();
  t.is(running, 0);
});
