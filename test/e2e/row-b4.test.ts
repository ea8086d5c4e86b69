import test from 'ava';
import { createSystem, defineActor, isTroupeError, type Pool, silentLog, type SwapOptions } from 'troupe';
import { type Random, seededRandom } from '../../src/kernel/random.js';
import { makeTree } from '../models/model-tree.js';
import { beginRow } from './row-report.js';
import { seed, sizes } from './sizes.js';

/** Row B4 of the reliability scorecard: 32 callers who swap, take back, promote, load and ask, all at once. */

const CALLERS = 32;
const REPLICAS = 2;
/** What a caller may hear besides an answer. Whoever asks hears of nothing. */
const LISTED = new Set(['SWAP_ROLLED_BACK superseded', 'SWAP_ROLLED_BACK operator', 'NO_ROLLOUT ']);

/** Counts what callers hear, `calls` of each, one after the other. */
class Callers {
  done = 0;
  lost = 0;
  readonly heard = new Map<string, number>();

  async run(calls: number, call: (random: Random) => Promise<void>): Promise<void> {
    const caller = async (_: unknown, index: number): Promise<void> => {
      const random = seededRandom(seed * 1000 + index);
      for (let n = 0; n < calls; n++) {
        await call(random).catch((error: unknown) => this.#failed(error));
        this.done++;
      }
    };
    await Promise.all(Array.from({ length: CALLERS }, caller));
  }

  get swaps(): number {
    return [...this.heard].reduce((sum, [what, count]) => sum + (what.startsWith('SWAP') ? count : 0), 0);
  }

  #failed(error: unknown): void {
    const what = isTroupeError(error) ? `${error.code} ${error.reason ?? ''}` : String(error);
    this.heard.set(what, (this.heard.get(what) ?? 0) + 1);
  }
}

const isOneOf = <T>(random: Random, values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;

const swapOptions: readonly SwapOptions[] = [
  {},
  { keepPreviousMs: 5 },
  { strategy: 'rolling' },
  { strategy: 'recreate' },
  // On a busy machine a new version looks slow by chance.
  { canary: 0.5, bakeMs: 5, rollbackOn: { latencyFactor: 1e6 } },
  { verify: { records: [1, 2] } },
];

const versions = new URL('../fixtures/actors/versions.js', import.meta.url).href;
const ANSWER = /^(\d+) by (\d+)$/;

for (const isolation of ['inline', 'thread'] as const) {
  test.serial(
    `B4 32 callers swap, roll back, promote and ask at once (${isolation}): two versions at most, only listed errors`,
    async (t) => {
      t.timeout(30 * 60_000);
      const row = beginRow(t, 'B4');
      const system = createSystem({ log: silentLog });
      t.teardown(() => system.stop({ timeoutMs: 0 }));
      const pool = await system.spawn<number, string>('p', {
        actor: versions,
        isolation,
        version: 1,
        replicas: REPLICAS,
        mailbox: { capacity: 1000 },
      });
      let mostVersions = 0;
      let mostReplicas = 0;
      const look = (): void => {
        const { replicas } = pool.stats();
        mostVersions = Math.max(mostVersions, new Set(replicas.map(({ version }) => version)).size);
        mostReplicas = Math.max(mostReplicas, replicas.length);
      };
      let promoted = 0;
      for (const event of ['rollout', 'ready', 'freed'] as const) pool.on(event, look);
      pool.on('swapped', () => promoted++);
      const callers = new Callers();
      let record = 0;
      await callers.run(sizes.b4Calls[isolation], async (random) => {
        const chance = random();
        look();
        if (chance < 0.35) await pool.swap(2 + Math.floor(random() * 8), isOneOf(random, swapOptions));
        else if (chance < 0.45) await pool.rollback();
        else if (chance < 0.5) await pool.promote();
        else {
          const inputs = Array.from({ length: 4 }, () => ++record);
          const outcomes = await pool.askMany(inputs);
          for (const [at, outcome] of outcomes.entries()) {
            const [, of, by] = (outcome.ok ? ANSWER.exec(outcome.value) : undefined) ?? [];
            if (!outcome.ok || Number(of) !== inputs[at] || by !== outcome.version) callers.lost++;
          }
        }
      });
      // The last word counts, whatever went on.
      const last = await Promise.allSettled([pool.swap(97), pool.swap(98), pool.swap(99)]);
      t.is(last[2]?.status, 'fulfilled');
      t.is(await pool.ask(5), '5 by 99');
      t.deepEqual(
        pool.stats().replicas.map(({ version, state }) => `${version} ${state}`),
        Array.from({ length: REPLICAS }, () => '99 ready'),
      );
      const heard = Object.fromEntries(callers.heard);
      const more = { promoted, rolledBack: callers.swaps, mostVersions };
      row({ faults: promoted + callers.swaps, runs: callers.done, lost: callers.lost, dup: 0, reorder: 0, more });
      t.deepEqual(
        Object.keys(heard).filter((what) => !LISTED.has(what)),
        [],
        JSON.stringify(heard),
      );
      t.is(callers.lost, 0);
      t.true(promoted > 0, `${promoted} swaps came through`);
      t.true(callers.swaps > 0, 'some were superseded');
      t.true(mostVersions <= 2, `${mostVersions} versions at once`);
      t.true(mostReplicas <= 2 * REPLICAS, `${mostReplicas} replicas at once`);
      const { held, settled, accepted, errors, restarts } = pool.stats();
      t.deepEqual(
        { held, unsettled: accepted - settled, errors, restarts },
        { held: 0, unsettled: 0, errors: {}, restarts: 0 },
      );
    },
  );
}

const BYTES = 10;
const ROOM = 3;

test.serial(
  'B4 32 callers load, swap and ask for four models where three have room: never over it, only listed errors',
  async (t) => {
    t.timeout(30 * 60_000);
    const row = beginRow(t, 'B4');
    const names = ['a', 'b', 'c', 'd'];
    const numbers = [1, 2, 3];
    const root = makeTree(
      t,
      Object.fromEntries(names.flatMap((name) => numbers.map((n) => [`${name}/${n}/m`, 'x'.repeat(BYTES)]))),
    );
    /** By replica, what it holds. */
    const held = new Map<number, number>();
    let most = 0;
    let unloads = 0;
    const actor = defineActor({
      load: async ({ model, version, replica }) => {
        const count = (held.get(replica) ?? 0) + 1;
        held.set(replica, count);
        most = Math.max(most, count);
        await new Promise((resolve) => setImmediate(resolve));
        return { name: `${model}@${version}`, replica };
      },
      predict: (batch: number[], { state }) => batch.map((record) => `${record} by ${state.name}`),
      unload: ({ replica }) => {
        held.set(replica, (held.get(replica) ?? 0) - 1);
        unloads++;
      },
    });
    const system = createSystem({ log: silentLog });
    t.teardown(() => system.stop({ timeoutMs: 0 }));
    const pool: Pool<number, string> = await system.spawn('p', {
      actor,
      isolation: 'inline',
      replicas: REPLICAS,
      models: { root, maxBytes: ROOM * BYTES },
    });
    const callers = new Callers();
    let record = 0;
    let swapped = 0;
    pool.on('model-swapped', () => swapped++);
    await callers.run(sizes.b4Calls.models, async (random) => {
      const chance = random();
      const model = isOneOf(random, names);
      const version = isOneOf(random, numbers);
      if (chance < 0.2) await pool.swap(version, { model });
      else if (chance < 0.3) await pool.preload(`${model}@${version}`);
      else {
        const asked = random() < 0.5 ? model : `${model}@${version}`;
        const inputs = Array.from({ length: 4 }, () => ++record);
        for (const [at, outcome] of (await pool.askMany(inputs, { model: asked })).entries()) {
          const named = outcome.ok ? `${inputs[at]} by ${model}@${outcome.version}` : '';
          const isAsked = asked === model || named.endsWith(`@${version}`);
          if (!outcome.ok || outcome.value !== named || !isAsked) callers.lost++;
        }
      }
    });
    const more = { swapped, unloads, mostHeld: most };
    row({ faults: swapped + unloads, runs: callers.done, lost: callers.lost, dup: 0, reorder: 0, more });
    t.deepEqual(Object.fromEntries(callers.heard), {});
    t.is(callers.lost, 0);
    t.true(swapped > 0 && unloads > 0);
    t.true(most <= ROOM, `${most} models in one replica`);
    t.deepEqual(pool.stats().errors, {});
  },
);
