import type { ShadowReport } from '../actor/comparison.js';
import type { Pool } from '../actor/pool.js';
import type { ModelStats, PoolStats } from '../actor/stats.js';
import type { System } from '../actor/system.js';
import type { ControlParts } from '../control/system.js';
import { plainText } from '../control/text.js';
import { modelKey } from '../core/model-key.js';
import type { RunCounts } from '../telemetry/registry.js';
import type {
  ModelsState,
  PageEvent,
  PageState,
  PipelineState,
  PoolState,
  RolloutState,
  ScalingState,
  ShadowState,
} from './state.js';

/**
 * What the page is told of a system, from figures that are counted anyway. Names and messages may come from anywhere:
 * they go out bounded in length and number, and without what is no text.
 */

const POOLS_MAX = 100;
const PIPELINES_MAX = 100;
const REPLICAS_MAX = 64;
/** Of each replica. */
const MODELS_MAX = 24;
const MODEL_REPLICAS_MAX = 16;
const NAME_MAX = 128;
const MESSAGE_MAX = 1000;

export function pageState(system: System, { operations, server }: ControlParts, at: number): PageState {
  const names = system.names();
  const runs = system.registry.runs();
  return {
    system: nameText(system.name),
    pid: process.pid,
    upMs: Math.round(operations.upMs),
    at: Math.round(at),
    control: server === undefined ? null : { tokenFile: server.tokenFile },
    pools: names
      .slice(0, POOLS_MAX)
      .flatMap((name) => system.get(name) ?? [])
      .map(poolState),
    poolCount: names.length,
    pipelines: runs.slice(0, PIPELINES_MAX).map(pipelineState),
    pipelineCount: runs.length,
  };
}

/** An event as the page gets it. */
export function pageEvent({ seq, at, kind, pool, message }: PageEvent): PageEvent {
  const where = pool === undefined ? {} : { pool: nameText(pool) };
  return { seq, at, kind, ...where, message: cut(plainText(message), MESSAGE_MAX) };
}

function poolState(pool: Pool<any, any>): PoolState {
  const { stats, versions, maxBatchSize, latencyMs, split } = pool.meters();
  const { current, previous, next, step, share, shadow } = versions;
  const rollout: RolloutState | null =
    step === undefined
      ? null
      : { to: versionText(next), step, share: share ?? null, sent: split ?? null, shadow: shadowState(shadow) };
  return {
    name: nameText(stats.name),
    state: stats.state,
    version: versionText(current),
    previous: versionText(previous),
    rollout,
    replicas: stats.replicas
      .slice(0, REPLICAS_MAX)
      .map(({ replica, state, version, incarnation, inFlightBatches }) => ({
        replica,
        state,
        version: versionText(version),
        starts: incarnation,
        inFlight: inFlightBatches,
      })),
    replicaCount: stats.replicas.length,
    readyCount: stats.replicas.filter(({ state }) => state === 'ready').length,
    mailbox: { held: stats.mailbox.held, capacity: stats.mailbox.capacity, bytes: stats.mailbox.heldBytes },
    accepted: stats.accepted,
    refused: stats.refused,
    results: stats.results,
    errors: Object.values(stats.errors).reduce((total, count) => total + count, 0),
    batches: stats.batches,
    batchedRecords: Math.round(stats.meanBatchSize * stats.batches),
    batchMax: maxBatchSize,
    restarts: stats.restarts,
    latency: { p50Ms: stats.latencyMs.p50, p99Ms: stats.latencyMs.p99, sumMs: latencyMs.sum, count: latencyMs.count },
    breaker: stats.breaker?.state ?? null,
    scaling: scalingState(stats),
    models: modelsState(stats),
  };
}

function shadowState(report: ShadowReport | undefined): ShadowState | null {
  if (report === undefined) return null;
  const { share, shown, compared, agreed, failed, dropped, oldMs, newMs } = report;
  return { share, shown, compared, agreed, failed, dropped, oldMs: oldMs.p50, newMs: newMs.p50 };
}

function scalingState({ scaling, wanted }: PoolStats): ScalingState | null {
  if (scaling === undefined) return null;
  const { min, max, asleep, changes } = scaling;
  return { min, max, wanted, asleep, changes };
}

function modelsState({ models, replicas }: PoolStats): ModelsState | null {
  if (models === undefined) return null;
  const held = new Map<number, ModelStats['resident'][number][]>(replicas.map(({ replica }) => [replica, []]));
  for (const one of models.resident) held.get(one.replica)?.push(one);
  const total = (count: 'loads' | 'loadFailures' | 'evictions'): number =>
    models.known.reduce((sum, model) => sum + model[count], 0);
  return {
    maxBytes: models.maxBytes,
    replicas: [...held].slice(0, MODEL_REPLICAS_MAX).map(([replica, all]) => ({
      replica,
      bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
      held: all
        .slice(-MODELS_MAX)
        .reverse()
        .map(({ model, version, bytes, state, isPinned }) => ({
          name: nameText(modelKey(model, version)),
          bytes,
          state,
          isPinned,
        })),
      heldCount: all.length,
    })),
    loads: total('loads'),
    loadFailures: total('loadFailures'),
    evictions: total('evictions'),
  };
}

function pipelineState({ name, records, results, failed, deadLetters, held }: RunCounts): PipelineState {
  return { name: nameText(name), records, results, failed, deadLetters, held };
}

function versionText(version: string | undefined): string | null {
  return version === undefined ? null : nameText(version);
}

function nameText(name: string): string {
  return cut(plainText(name), NAME_MAX);
}

function cut(text: string, max: number): string {
  return text.length > max ? `${text.slice(0, max - 1)}…` : text;
}
