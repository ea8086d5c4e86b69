import { ensembleRank } from '../config/ensembles.js';
import type { Config } from '../config/schema.js';

/**
 * What lies between a config file and the system that runs: the steps that lead from here to there, and what only a new
 * start can change. Decides and changes nothing; `convergence.ts` carries it out.
 *
 * Three states are compared, as every tool of this kind does (`kubectl apply`, Terraform): what the file says now, what it
 * said when it was last followed, and what runs. A difference that the file did not make is drift: somebody swapped or
 * scaled by hand, an alias has moved, a pool was given up.
 */

export interface PlanStep {
  readonly action: 'spawn' | 'restart' | 'scale' | 'swap' | 'stop';
  readonly pool: string;
  /** What runs: a version for a swap, replicas for a scale. */
  readonly from?: string | number;
  /** What the file asks for. */
  readonly to?: string | number;
  /** The file says the same as when it was last followed: the difference was made elsewhere. */
  readonly drift?: true;
}

export interface Plan {
  /** In the order in which they are taken. */
  readonly steps: readonly PlanStep[];
  /** Keys of the file that are in force with the next start only. */
  readonly nextStart: readonly string[];
}

/** A pool that runs, as a plan sees it. */
export interface RunningPool {
  readonly state: 'running' | 'failed' | 'ended';
  readonly version: string | undefined;
  readonly replicas: number;
  /** The version that the file's word for it means, such as 3 for `latest`; undefined where it does not say one. */
  readonly meant: string | undefined;
}

type Pools = Config['pools'];

/** Those that change while records flow. */
const LIVE_KEYS: readonly string[] = ['version', 'replicas'];
/** Ensembles come after the pools that they ask, and go before them. */
const ORDER: readonly PlanStep['action'][] = ['spawn', 'restart', 'scale', 'swap', 'stop'];
/** More are not told one by one. */
const KEYS_MAX = 50;

/**
 * `followed` is the file as it was last followed; undefined for a system that was made by code. `running` has the pools
 * there are, those of code too: they are left alone unless the file has a pool of their name.
 */
export function planOf(followed: Config | undefined, wanted: Config, running: ReadonlyMap<string, RunningPool>): Plan {
  const steps: PlanStep[] = [];
  const nextStart: string[] = [];
  const before: Pools = followed?.pools ?? {};
  for (const [name, pool] of Object.entries(wanted.pools)) {
    const old = before[name];
    const now = running.get(name);
    if (now === undefined) steps.push({ action: 'spawn', pool: name, ...(old === undefined ? {} : { drift: true }) });
    else if (old === undefined || now.state === 'ended') nextStart.push(`pools.${name}`);
    else {
      nextStart.push(...changedKeys(withoutLive(old, pool), withoutLive(pool, old), `pools.${name}`));
      steps.push(...liveSteps(name, old, pool, now));
    }
  }
  for (const name of Object.keys(before)) {
    if (wanted.pools[name] === undefined && running.has(name)) steps.push({ action: 'stop', pool: name });
  }
  const { pools: _before, ...restBefore } = followed ?? { pools: {} };
  const { pools: _wanted, ...rest } = wanted;
  if (followed !== undefined) nextStart.push(...changedKeys(restBefore, rest, ''));
  const rankOf = ({ action, pool }: PlanStep): number =>
    action === 'stop' ? -ensembleRank(followed ?? wanted, pool) : ensembleRank(wanted, pool);
  const ranks = new Map(steps.map((step) => [step, rankOf(step)]));
  const rank = (step: PlanStep): number => ranks.get(step) ?? 0;
  steps.sort((one, other) => ORDER.indexOf(one.action) - ORDER.indexOf(other.action) || rank(one) - rank(other));
  return { steps, nextStart: nextStart.slice(0, KEYS_MAX) };
}

function liveSteps(name: string, old: Pools[string], pool: Pools[string], now: RunningPool): PlanStep[] {
  const steps: PlanStep[] = [];
  const drift = (key: 'version' | 'replicas'): { drift?: true } =>
    changedKeys(old[key], pool[key], key).length === 0 ? { drift: true } : {};
  if (now.state === 'failed') steps.push({ action: 'restart', pool: name, drift: true });
  // Between bounds the number is the pool's own business.
  if (typeof old.replicas === 'number' && typeof pool.replicas === 'number' && now.replicas !== pool.replicas)
    steps.push({ action: 'scale', pool: name, from: now.replicas, to: pool.replicas, ...drift('replicas') });
  if (now.meant !== undefined && now.meant !== now.version)
    steps.push({
      action: 'swap',
      pool: name,
      ...(now.version === undefined ? {} : { from: now.version }),
      to: now.meant,
      ...drift('version'),
    });
  return steps;
}

/** The file that is followed once these steps have been taken, one after another. */
export function followedAfter(followed: Config | undefined, wanted: Config, done: readonly PlanStep[]): Config {
  const pools: Record<string, Pools[string]> = { ...followed?.pools };
  for (const { action, pool: name } of done) {
    const entry = wanted.pools[name];
    const old = pools[name];
    if (action === 'stop') delete pools[name];
    else if (entry === undefined) continue;
    else if (action === 'spawn') pools[name] = entry;
    else if (action === 'scale' && old !== undefined) pools[name] = { ...old, replicas: entry.replicas };
    else if (action === 'swap' && old !== undefined) pools[name] = { ...old, version: entry.version };
  }
  return { ...(followed ?? { ...wanted, pools: {} }), pools };
}

/** Bounds of the number of replicas are as they were spawned. */
function withoutLive(pool: Pools[string], other: Pools[string]): object {
  const isLive = (key: string): boolean =>
    LIVE_KEYS.includes(key) &&
    (key !== 'replicas' || (typeof pool.replicas === 'number' && typeof other.replicas === 'number'));
  return Object.fromEntries(Object.entries(pool).filter(([key]) => !isLive(key)));
}

/** Paths of the leaves that differ, without their values, which may be secret. */
export function changedKeys(one: unknown, other: unknown, at: string): string[] {
  if (isPlain(one) && isPlain(other)) {
    const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])];
    return keys.flatMap((key) => changedKeys(one[key], other[key], at === '' ? key : `${at}.${key}`));
  }
  if (Array.isArray(one) && Array.isArray(other) && one.length === other.length)
    return one.flatMap((item, index) => changedKeys(item, other[index], `${at}.${index}`));
  return Object.is(one, other) ? [] : [at];
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
