import type { HostLane, InlineEntry, Runner } from '../wire/messages.js';
import { createShell } from './shell.js';

/** The entry of inline replicas. */
export const openInline: InlineEntry['openInline'] = (lane: HostLane, state: Int32Array): Runner =>
  createShell(lane, state, { slicesAtOnce: true }); // The link is told within `post`, and takes the reply apart.
