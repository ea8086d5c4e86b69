import { mkdirSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl, createSystem, isTroupeError, silentLog } from 'troupe';
import { seededRandom } from '../../src/kernel/random.js';
import { privateFolder } from '../control/stand.js';
import { beginRow } from './row-report.js';
import { seed, sizes } from './sizes.js';

/**
 * Row H5 of the reliability scorecard: a config file that is edited, broken, cut off and written while it is read is applied
 * again and again, under load. What runs is one of the files that were whole, and all of it.
 */

const actor = new URL('../fixtures/actors/versions.js', import.meta.url);
const ASKERS = 6;
const NAMES = ['a', 'b'] as const;

/** Both pools have the same version and count, so that a mixture of two files shows. */
interface Wish {
  readonly version: number;
  readonly replicas: number;
}

function textOf({ version, replicas }: Wish): string {
  const pool = { actor: actor.pathname, isolation: 'inline', version, replicas };
  return JSON.stringify({ name: 'h5', control: { socket: './c.sock' }, pools: { a: pool, b: pool } });
}

/** Nothing that comes out of a good text by these is one. */
const breaks: readonly ((text: string, chance: number) => string)[] = [
  (text, chance) => text.slice(0, Math.floor(chance * text.length)),
  (text) => text.replace('"version"', '"verison"'),
  (text) => text.replace(/"replicas":\d+/, '"replicas":0'),
  (text) => text.replace(/"replicas":\d+/, '"replicas":"10s"'),
  (text) => text.replace('"b":', '"a":'),
  (text) => text.replace('"b":', '"__proto__":'),
  (text) => text.replace('"b":', '"../b":'),
  (text) => text.replace('versions.js', 'none.js'),
  (text) => `${text}\n---\n${text}`,
  (text) => `&x ${text.replace('"inline"', '"${NOT_SET_ANYWHERE}"')}`,
  (text) => `${text}\0`,
  (text) => `# ${'x'.repeat(1024 * 1024)}\n${text}`,
];

test.serial(
  'H5 a file applied under load, whole, broken or written meanwhile, takes effect as a whole or not at all',
  async (t) => {
    t.timeout(30 * 60_000);
    const row = beginRow(t, 'H5');
    const dir = privateFolder(t);
    mkdirSync(join(dir, 'node_modules'));
    const file = join(dir, 'troupe.yaml');
    const random = seededRandom(seed);
    let now: Wish = { version: 1, replicas: 1 };
    writeFileSync(file, textOf(now));
    const system = await createSystem({ config: file, log: silentLog });
    t.teardown(() => system.stop({ timeoutMs: 0 }));
    await using control = await connectControl(system.control?.socket ?? '', { access: 'write' });
    await using other = await connectControl(system.control?.socket ?? '', { access: 'write' });

    let isOver = false;
    t.teardown(() => (isOver = true));
    let asked = 0;
    let lost = 0;
    const askers = Array.from({ length: ASKERS }, async (_, asker) => {
      const name = NAMES[asker % 2] as string;
      while (!isOver) {
        const n = asked++;
        const [outcome] = (await system.get(name)?.askMany([n])) ?? [];
        if (outcome?.ok !== true || outcome.value !== `${n} by ${outcome.version}`) lost++;
      }
    });
    const running = (): readonly Wish[] =>
      NAMES.map((name) => {
        const pool = system.get(name);
        return { version: Number(pool?.version), replicas: pool?.stats().replicas.length ?? 0 };
      });
    const is = (t2: ExecutionContext, { version, replicas }: Wish, why: string): void => {
      t2.deepEqual(
        running(),
        [
          { version, replicas },
          { version, replicas },
        ],
        why,
      );
      t2.deepEqual(system.names(), [...NAMES], why);
    };
    const wish = (): Wish => ({ version: now.version + 1, replicas: 1 + Math.floor(random() * 3) });
    const counts = { whole: 0, broken: 0, torn: 0 };

    for (let reload = 0; reload < sizes.h5Reloads; reload++) {
      const kind = reload % 4;
      if (kind === 0) {
        now = wish();
        writeFileSync(file, textOf(now));
        // Two at once: one of them finds nothing to do.
        const [one, two] = await Promise.all([control.apply(), other.apply()]);
        t.true(one.done > 0 !== two.done > 0, `${one.done} and ${two.done} steps`);
        is(t, now, 'a whole file');
        counts.whole++;
      } else if (kind < 3) {
        const index = Math.floor(random() * breaks.length);
        writeFileSync(file, (breaks[index] as (typeof breaks)[number])(textOf(wish()), random()));
        const error = await t.throwsAsync(control.apply(), undefined, `the file broken in way ${index}`);
        t.true(isTroupeError(error) && error.code === 'CONFIG_INVALID', `way ${index}: ${String(error)}`);
        is(t, now, `a file broken in way ${index}`);
        counts.broken++;
      } else {
        // Written piece by piece, as an editor without a temporary file does, while it is applied twice.
        const next = wish();
        const writer = writeSlowly(file, textOf(next), random);
        const ends = await Promise.allSettled([control.apply(), other.apply(), writer]);
        for (const end of ends) {
          if (end.status === 'fulfilled') continue;
          t.true(isTroupeError(end.reason) && end.reason.code === 'CONFIG_INVALID', String(end.reason));
          counts.torn++;
        }
        const [{ version }] = running() as [Wish];
        is(t, version === next.version ? next : now, 'a file that was written meanwhile');
        await control.apply();
        now = next;
        is(t, now, 'the same file when it was whole');
      }
    }
    isOver = true;
    await Promise.all(askers);
    row({
      faults: counts.broken + counts.torn,
      runs: asked,
      lost,
      dup: 0,
      reorder: 0,
      more: { reloads: sizes.h5Reloads, ...counts },
    });
    t.is(lost, 0);
    t.true(counts.whole > 0 && counts.broken > 0);
    for (const name of NAMES) {
      const { errors, restarts } = system.get(name)?.stats() ?? {};
      t.deepEqual({ errors, restarts }, { errors: {}, restarts: 0 });
    }
  },
);

async function writeSlowly(file: string, text: string, random: () => number): Promise<void> {
  const handle = await open(file, 'w');
  try {
    for (let at = 0; at < text.length; ) {
      const length = 1 + Math.floor(random() * 120);
      await handle.write(text.slice(at, at + length));
      at += length;
    }
  } finally {
    await handle.close();
  }
}
