import { checkOptions } from '../actor/ask.js';
import { createSystem as createEmptySystem, type System, type SystemOptions } from '../actor/system.js';
import { loadConfig } from './load.js';

/**
 * Makes a system. Without `config` it is empty and there at once. With `config`, the path of a troupe.yaml, it resolves
 * when every pool of the file is up; it rejects with CONFIG_INVALID before anything starts, or with the error of the
 * first pool that did not start, with everything stopped again. The name in the file yields to one given here.
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
  return config === undefined ? createEmptySystem(rest) : fromConfig(config, rest);
}

async function fromConfig(file: string, options: SystemOptions): Promise<System> {
  const { config } = await loadConfig(file);
  const system = createEmptySystem({ name: config.name, models: config.models, ...options });
  try {
    await Promise.all(Object.entries(config.pools).map(([name, pool]) => system.spawn(name, pool)));
    return system;
  } catch (error) {
    await system.stop({ timeoutMs: 0 });
    throw error;
  }
}
