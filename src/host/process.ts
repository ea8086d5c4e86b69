import type { StartLink } from './link.js';
import { LinkCore } from './link-core.js';

/** Runs a replica in a child process. */
export const startProcess: StartLink = (spec, events) => {
  const core = new LinkCore(spec, events);
  core.failToStart(new Error('child processes are not available yet'));
  return core;
};
