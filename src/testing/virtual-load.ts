import { PoolCore } from '../core/pool-core.js';
import type { Effect } from '../core/effects.js';
import type { BatchLimits } from '../core/batcher.js';
import { Request } from '../core/request.js';

/**
 * One pool core in virtual time under a given trace of arrivals: replicas whose batches cost what a function says, and
 * nothing else in between. The same trace and the same costs for every rule of batching.
 */

export interface VirtualLoad {
  /** Instants of arrival in milliseconds, ascending. */
  readonly arrivals: Float64Array;
  /** What a batch of n costs; `index` counts batches, `bucket` and `version` tell what it is of. */
  readonly costMs: (n: number, index: number, bucket: string, version: string) => number;
  /** The shape of a record, by its place among the arrivals; all alike without it. */
  readonly bucketOf?: (index: number) => string;
  /** Before the batch of this index another version is rolled out. */
  readonly swapAtBatch?: number;
  readonly onBatch?: (batch: VirtualBatch) => void;
  readonly batching: Partial<BatchLimits>;
  readonly replicas?: number;
  readonly maxInFlight?: number;
  readonly capacity?: number;
  /** Of every record, from its arrival; none without it. */
  readonly timeoutMs?: number;
}

export interface VirtualResult {
  /** Of the records answered, in order of arrival; NaN for the others. */
  readonly latencies: Float64Array;
  readonly answered: number;
  readonly refused: number;
  readonly expired: number;
  readonly batches: number;
  readonly endMs: number;
  readonly core: PoolCore;
}

/** A batch as it was sent. */
export interface VirtualBatch {
  readonly size: number;
  readonly bucket: string;
  readonly version: string;
  readonly costMs: number;
}

interface Running {
  readonly cell: number;
  readonly batchId: number;
  readonly requests: readonly Request[];
  readonly endAt: number;
}

export function runVirtualLoad(load: VirtualLoad): VirtualResult {
  const { arrivals, costMs, replicas = 1, timeoutMs } = load;
  const core = new PoolCore(
    {
      name: 'virtual',
      mailbox: { capacity: load.capacity ?? 1_000_000, capacityBytes: Infinity, ageingMs: 1000 },
      batching: {
        adaptive: true,
        maxSize: 32,
        maxBytes: Infinity,
        maxWeight: Infinity,
        maxDelayMs: 0,
        targetLatencyMs: Infinity,
        ...load.batching,
      },
      maxInFlight: load.maxInFlight ?? 1,
      batchTimeoutMs: Infinity,
      attempts: 1,
      cancellation: 'signal',
      restart: { max: 0, withinMs: 1, backoffMs: 1, maxBackoffMs: 1, jitter: 0, quarantineMax: 0 },
      restartType: 'permanent',
      strategy: 'one-for-one',
    },
    () => 0,
  );
  const versions = new Map<number, string>();
  const latencies = new Float64Array(arrivals.length).fill(NaN);
  // By replica: what it was sent, the first runs.
  const lanes = new Map<number, Running[]>();
  let now = 0;
  let answered = 0;
  let refused = 0;
  let expired = 0;
  let batches = 0;
  let next = 0;

  const turn = (): void => {
    for (;;) {
      core.dispatch(now);
      const effects = core.takeEffects();
      const settled = core.takeSettled();
      if (effects.length === 0 && settled.length === 0) return;
      for (const effect of effects) apply(effect);
      for (const request of settled) {
        if (request.failure === undefined) {
          latencies[request.input as number] = now - request.offeredAt;
          answered++;
        } else expired++;
      }
    }
  };
  const apply = (effect: Effect): void => {
    if (effect.kind === 'start') {
      lanes.set(effect.cell, []);
      versions.set(effect.cell, effect.version as string);
      core.ready(effect.cell, effect.incarnation, now);
    } else if (effect.kind === 'send') {
      const lane = lanes.get(effect.cell) as Running[];
      const begins = Math.max(now, lane.at(-1)?.endAt ?? now);
      const { cell, batchId, requests } = effect;
      const { bucket } = requests[0] as Request;
      const version = versions.get(cell) as string;
      const ms = costMs(requests.length, batches++, bucket, version);
      lane.push({ cell, batchId, requests, endAt: begins + ms });
      load.onBatch?.({ size: requests.length, bucket, version, costMs: ms });
    } else if (effect.kind === 'stop') {
      core.died(effect.cell, 1, { cause: 'stopped' }, now);
      lanes.delete(effect.cell);
    }
  };

  core.rollOut('1', replicas, 0);
  turn();
  for (;;) {
    const arriveAt = next < arrivals.length ? (arrivals[next] as number) : Infinity;
    let first: Running | undefined;
    for (const [running] of lanes.values())
      if (running !== undefined && (first === undefined || running.endAt < first.endAt)) first = running;
    const wakeAt = core.nextWakeAt();
    const endAt = first?.endAt ?? Infinity;
    const nextAt = Math.min(arriveAt, endAt, wakeAt);
    if (nextAt === Infinity) break;
    now = nextAt;
    if (first !== undefined && endAt <= now) {
      (lanes.get(first.cell) as Running[]).shift();
      const results = first.requests.map(() => ({ ok: true, value: 0 }) as const);
      core.reply(first.cell, 1, first.batchId, results, now);
      if (batches === load.swapAtBatch) core.rollOut('2', replicas, now);
    } else if (arriveAt <= now) {
      // What comes at one instant comes in one turn.
      for (; next < arrivals.length && arrivals[next] === now; next++) {
        const request = new Request({
          id: next + 1,
          input: next,
          owner: undefined,
          sender: 0,
          priority: 0,
          bucket: load.bucketOf?.(next) ?? '',
          bytes: 1,
          weight: 1,
          offeredAt: now,
          deadlineAt: timeoutMs === undefined ? Infinity : now + timeoutMs,
        });
        const offered = core.offer(request, 'reject', now);
        if (offered !== 'accepted') refused++;
      }
    } else core.tick(now);
    turn();
  }
  return { latencies, answered, refused, expired, batches, endMs: now, core };
}

/**
 * The rule of RabbitMQ's gen-batch-server on one replica: what waits goes up to a limit, which doubles when it was filled
 * and halves when it was not; it never falls below `least`.
 */
export function runDoubling(
  arrivals: Float64Array,
  costMs: (n: number, index: number) => number,
  least: number,
  most: number,
): VirtualResult['latencies'] {
  const latencies = new Float64Array(arrivals.length);
  let limit = least;
  let freeAt = 0;
  let batches = 0;
  for (let at = 0; at < arrivals.length; ) {
    const now = Math.max(freeAt, arrivals[at] as number);
    let end = at;
    while (end < arrivals.length && end - at < limit && (arrivals[end] as number) <= now) end++;
    freeAt = now + costMs(end - at, batches++);
    limit = end - at === limit ? Math.min(most, limit * 2) : Math.max(least, limit >> 1);
    for (; at < end; at++) latencies[at] = freeAt - (arrivals[at] as number);
  }
  return latencies;
}
