import { startInline } from './inline.js';
import type { Link, LinkEvents, ReplicaSpec, StartLink } from './link.js';
import { startProcess } from './process.js';
import { startThread } from './thread.js';

const BY_ISOLATION: Readonly<Record<ReplicaSpec['isolation'], StartLink>> = {
  inline: startInline,
  thread: startThread,
  process: startProcess,
};

/** Starts a replica in the isolation its spec names. */
export const startLink: StartLink = (spec: ReplicaSpec, events: LinkEvents): Link =>
  BY_ISOLATION[spec.isolation](spec, events);
