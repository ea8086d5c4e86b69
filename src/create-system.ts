import { checkOptions } from './actor/ask.js';
import type { SystemOptions } from './actor/system.js';
import { serveOptions, withoutUndefined } from './config/build-pipeline.js';
import { loadConfig } from './config/load.js';
import { openTelemetry } from './config/open-telemetry.js';
import { serveMetrics } from './dashboard/serve-metrics.js';
import { System } from './control/system.js';

/**
 * Makes a system. Without `config` it is empty and there at once. With `config`, the path of a troupe.yaml, it resolves
 * when every pool of the file is up and its control, its metrics and its pools, where the file says so, are served; it rejects with
 * CONFIG_INVALID before anything starts, or with the error of the first pool that did not start, with everything stopped
 * again. The name in the file yields to one given here.
 */
export function createSystem(options: SystemOptions & { readonly config: string }): Promise<System>;
export function createSystem(options?: SystemOptions): System;
export function createSystem(options: SystemOptions & { readonly config?: string } = {}): System | Promise<System> {
  checkOptions('createSystem', options);
  const { config, ...rest } = options;
  if (config !== undefined && (typeof config !== 'string' || config === '')) {
    const got = config === '' ? 'an empty string' : typeof config;
    throw new TypeError(`createSystem: config must be the path of a troupe.yaml, got ${got}`);
  }
  return config === undefined ? new System(rest) : fromConfig(config, rest);
}

async function fromConfig(file: string, options: SystemOptions): Promise<System> {
  const loaded = await loadConfig(file);
  const { name, models, startsAtOnce, pools, control, metrics, serve, tracing } = loaded.config;
  const traced = tracing ? { tracing: await openTelemetry() } : {};
  const starts = startsAtOnce === undefined ? {} : { startsAtOnce };
  const system = new System({ name, models, ...starts, ...traced, ...options }, { loaded });
  try {
    if (control !== undefined) await system.openControl(control);
    if (metrics !== undefined)
      await serveMetrics(system, { ...withoutUndefined(metrics), pools: () => system.configuredPools() });
    if (serve !== undefined) await system.serve(serveOptions(serve));
    await Promise.all(Object.entries(pools).map(([pool, entry]) => system.spawn(pool, entry)));
    return system;
  } catch (error) {
    await system.stop({ timeoutMs: 0 });
    throw error;
  }
}
