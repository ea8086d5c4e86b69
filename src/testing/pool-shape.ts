import type { PoolLimits } from '../core/pool-limits.js';

/** A plain pool: one record per batch, everything else generous. */
export const POOL_SHAPE: PoolLimits = {
  name: 'sim',
  mailbox: { capacity: 64, capacityBytes: 64_000_000, ageingMs: 1000 },
  batching: {
    adaptive: true,
    maxSize: 1,
    maxBytes: 16_000_000,
    maxWeight: Infinity,
    maxDelayMs: 0,
    targetLatencyMs: Infinity,
  },
  maxInFlight: 1,
  batchTimeoutMs: 30_000,
  attempts: 5,
  cancellation: 'signal',
  restart: { max: 5, withinMs: 60_000, backoffMs: 100, maxBackoffMs: 30_000, jitter: 0.2, quarantineMax: 20 },
  restartType: 'permanent',
  strategy: 'one-for-one',
};
