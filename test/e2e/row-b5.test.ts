import { fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { createSystem, type RolloutNotice, silentLog, type SwapOptions, type TroupeError } from 'troupe';
import { children } from './family.js';
import { directory, isRunning, until } from './faulty-pool.js';
import { beginRow } from './row-report.js';
import { isFull, sizes } from './sizes.js';
import type { SwappingHostWord } from './swapping-host.js';

/**
 * Row B5 of the reliability scorecard on real processes: SIGKILL for either version at every step of a swap, under load.
 * All orders of events are gone through in the simulator (`npm run simulate -- rows`, and test/core/rollout.test.ts).
 */

const actor = new URL('../fixtures/actors/versions.js', import.meta.url).href;
const ASKERS = 8;

type Step = RolloutNotice['step'];
const watched: SwapOptions = { canary: 0.5, bakeMs: 150, rollbackOn: { latencyFactor: 1e6 } };
const allCases: readonly (readonly [Step, SwapOptions])[] = [
  ['loading', {}],
  ['verifying', { verify: { records: [1, 2] } }],
  ['shifting', {}],
  ['baking', watched],
  ['promoted', {}],
  ['kept', { keepPreviousMs: 300 }],
  ['draining', {}],
  ['loading', { strategy: 'rolling' }],
  ['shifting', { strategy: 'rolling' }],
  ['loading', { strategy: 'recreate' }],
];
/** With every commit those where most is under way. */
const cases = isFull
  ? allCases
  : allCases.filter(([step, { strategy }]) => step === 'baking' || strategy === 'recreate');

test.serial(
  'B5 whichever version is killed at whichever step of a swap, one is left, and no record is lost',
  async (t) => {
    t.timeout(30 * 60_000);
    const row = beginRow(t, 'B5');
    const system = createSystem({ log: silentLog });
    t.teardown(() => system.stop({ timeoutMs: 0 }));
    const pool = await system.spawn<number, string>('p', {
      actor,
      isolation: 'process',
      version: 1,
      replicas: 2,
      attempts: 50,
      restart: { max: 10_000, backoffMs: 1, maxBackoffMs: 1 },
      batching: { maxSize: 4 },
    });
    let isOver = false;
    t.teardown(() => (isOver = true));
    let asked = 0;
    let wrong = 0;
    const askers = Array.from({ length: ASKERS }, async () => {
      while (!isOver) {
        const n = asked++;
        const [outcome] = await pool.askMany([n]);
        if (outcome?.ok !== true || outcome.value !== `${n} by ${outcome.version}`) wrong++;
      }
    });
    const pids = (): number[] => children().map(({ pid }) => pid);
    let version = 1;
    let kills = 0;
    let promoted = 0;
    const rolledBack: string[] = [];
    for (let round = 0; round < sizes.b5Rounds; round++) {
      for (const [step, options] of cases) {
        for (const side of ['old', 'new'] as const) {
          await until('every replica is there and of one version', () =>
            pool.stats().replicas.every(({ state }) => state === 'ready'),
          );
          const old = new Set(pids());
          let hasStruck = false;
          const strike = (notice: RolloutNotice): void => {
            if (notice.step !== step || hasStruck) return;
            hasStruck = true;
            for (const pid of pids()) {
              if (old.has(pid) !== (side === 'old')) continue;
              process.kill(pid, 'SIGKILL');
              kills++;
            }
          };
          pool.on('rollout', strike);
          const before = String(version);
          const next = String(++version);
          const error: TroupeError | undefined = await pool.swap(next, options).then(
            () => undefined,
            (reason: TroupeError) => reason,
          );
          pool.off('rollout', strike);
          t.true(hasStruck, `${step} was told: ${error?.message}`);
          if (error === undefined) promoted++;
          else rolledBack.push(`${error.code} ${error.reason}`);
          t.is(pool.version, error === undefined ? next : before, `${side} killed while ${step}: ${error?.message}`);
          t.regex(await pool.ask(1), new RegExp(`^1 by ${pool.version}$`));
        }
      }
    }
    isOver = true;
    await Promise.all(askers);
    await until('what was killed has been replaced, and what lost has gone', () => {
      const { replicas } = pool.stats();
      return replicas.length === 2 && replicas.every(({ state }) => state === 'ready') && children().length === 2;
    });
    row({
      faults: kills,
      runs: asked,
      lost: wrong,
      dup: 0,
      reorder: 0,
      more: { promoted, rolledBack: rolledBack.length },
    });
    t.is(wrong, 0);
    t.true(kills > promoted);
    t.deepEqual(
      rolledBack.filter((why) => why !== 'SWAP_ROLLED_BACK replicas-died'),
      [],
    );
    const { held, accepted, settled, errors, state } = pool.stats();
    t.deepEqual(
      { held, unsettled: accepted - settled, errors, state },
      { held: 0, unsettled: 0, errors: {}, state: 'running' },
    );
  },
);

test.serial(
  'B5 a host killed at any step of a swap starts again with the one version of its file, and leaves no orphan',
  async (t) => {
    t.timeout(10 * 60_000);
    const row = beginRow(t, 'B5');
    const file = join(directory(t), 'troupe.yaml');
    const write = (version: number): void => {
      const pool = { actor: fileURLToPath(actor), isolation: 'process', version, replicas: 2 };
      writeFileSync(file, JSON.stringify({ name: 'b5', control: { socket: './c.sock' }, pools: { p: pool } }));
    };
    const steps: readonly Step[] = isFull
      ? ['loading', 'shifting', 'baking', 'promoted', 'draining', 'freed']
      : ['draining'];
    let version = 1;
    write(version);
    let slowestMs = 0;
    // One start more than kills: the last one shows what the last kill left.
    for (const step of [...steps, undefined]) {
      const host = fork(fileURLToPath(new URL('./swapping-host.js', import.meta.url)), [file], { silent: true });
      const words: AsyncGenerator<SwappingHostWord> = wordsOf(host);
      const first = (await words.next()).value as SwappingHostWord;
      t.deepEqual(first?.kind === 'up' ? first.versions : first, [String(version), String(version)]);
      const pids = first?.kind === 'up' ? first.pids : [];
      if (step === undefined) {
        host.kill('SIGTERM');
        await once(host, 'close');
        break;
      }
      write(++version);
      host.send('apply');
      for await (const word of words) {
        if (word.kind !== 'step') continue;
        pids.push(...word.pids);
        if (word.step === step) break;
      }
      host.kill('SIGKILL');
      await once(host, 'close');
      slowestMs = Math.max(slowestMs, await until('no child outlives its host', () => !pids.some(isRunning)));
    }
    row({
      faults: steps.length,
      runs: version,
      lost: 0,
      dup: 0,
      reorder: 0,
      more: { slowestOrphanMs: Math.round(slowestMs) },
    });
  },
);

async function* wordsOf(host: ReturnType<typeof fork>): AsyncGenerator<SwappingHostWord> {
  const heard: SwappingHostWord[] = [];
  let wake: () => void = () => undefined;
  host.on('message', (word) => {
    heard.push(word as SwappingHostWord);
    wake();
  });
  host.once('close', (code, signal) => {
    if (signal === null && code !== 0) throw new Error(`the host ended with ${code}`);
  });
  for (;;) {
    const word = heard.shift();
    if (word !== undefined) yield word;
    else await new Promise<void>((resolve) => (wake = resolve));
  }
}
