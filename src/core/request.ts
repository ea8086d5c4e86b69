import type { TroupeError } from '../kernel/errors.js';
import type { Lease } from './breaker.js';
import type { Due } from './deadlines.js';
import type { BatchCall } from './effects.js';
import type { Failure } from './failure.js';
import type { KeyPlace } from './key-gate.js';
import type { Flight } from './ledger.js';
import type { SenderQueue } from './mailbox.js';
import { SIDE, type Side } from './traffic-split.js';

/**
 * The bucket of probes, which no record has: they ask whether a replica answers and reach no predict, so they share no
 * batch with records and tell nothing of what batches cost.
 */
export const PROBE_BUCKET = '\u0000probe';

/**
 * One accepted record on its way through a pool. Plain mutable fields and a stable shape: this is the object the hot
 * path touches most, and it is made once per record.
 *
 * Who writes what: the mailbox the links, the deadlines what begins with `due` and `heapIndex`, the pool core everything below "fate".
 * `owner` belongs to the edge and is never looked into.
 */
export class Request {
  // rules
  readonly id: number;
  readonly input: unknown;
  readonly owner: unknown;
  readonly sender: number;
  readonly priority: number;
  bucket: string;
  /** Key of the model it is for, in a pool that holds many. */
  readonly model: string | undefined;
  /** Of two versions that share the work, the one its key goes to. */
  side: Side = SIDE.any;
  readonly bytes: number;
  readonly weight: number;
  readonly offeredAt: number;
  readonly deadlineAt: number;
  readonly callTimeoutMs: number;
  readonly key: string | undefined;

  // links
  prev: Request | undefined = undefined;
  next: Request | undefined = undefined;
  queue: SenderQueue | undefined = undefined;
  keyPlace: KeyPlace | undefined = undefined;
  heapIndex = -1;
  dueBefore: Due | undefined = undefined;
  dueAfter: Due | undefined = undefined;
  /** The earlier of its deadline and, until it was sent, the end of its wait; while in flight, the end of this try. */
  dueAt: number;

  // fate
  /** `known`: its result is there already, and is about to be told. */
  place: 'nowhere' | 'known' | 'door' | 'mailbox' | 'retry' | 'in-flight' | 'settled' = 'nowhere';
  /** How often it was sent to a replica. */
  sendCount = 0;
  /** How many replicas died while they held it. */
  deathCount = 0;
  /** The batch it was last sent with. */
  flight: Flight | undefined = undefined;
  /** When it was last sent; the wait before it is the queue wait. */
  sentAt = 0;
  value: unknown = undefined;
  failure: Failure | undefined = undefined;
  version: string | undefined = undefined;
  /** Belongs to the edge: the right to this call, where the pool has a breaker. */
  lease: Lease | undefined = undefined;
  /** The call whose end settled it. */
  call: BatchCall | undefined = undefined;

  constructor(rules: RequestRules) {
    this.id = rules.id;
    this.input = rules.input;
    this.owner = rules.owner;
    this.sender = rules.sender;
    this.priority = rules.priority;
    this.bucket = rules.bucket;
    this.model = rules.model;
    this.bytes = rules.bytes;
    this.weight = rules.weight;
    this.offeredAt = rules.offeredAt;
    this.deadlineAt = rules.deadlineAt;
    this.callTimeoutMs = rules.callTimeoutMs ?? Infinity;
    this.dueAt = rules.deadlineAt;
    this.key = rules.key;
  }

  /** Why it has no value, once it has settled without one. */
  get error(): TroupeError | undefined {
    return this.failure?.error;
  }
}

export interface RequestRules {
  readonly id: number;
  readonly input: unknown;
  readonly owner: unknown;
  /** Who sends; takes are fair between senders. */
  readonly sender: number;
  /** 0 is normal, higher goes first, ageing lifts what waits. */
  readonly priority: number;
  /** Records of different buckets (shapes, models) never share a batch. */
  readonly bucket: string;
  /** Key of the model; all records of one bucket have the same. */
  readonly model?: string | undefined;
  readonly bytes: number;
  readonly weight: number;
  readonly offeredAt: number;
  /** Infinity for none. */
  readonly deadlineAt: number;
  /** Each try expires this long after its send, whatever the deadline; none without it. */
  readonly callTimeoutMs?: number | undefined;
  /** Records of one key run one after another, in the order they were accepted. */
  readonly key?: string | undefined;
}

/** Probes share no batch with records. */
export function isProbe(requests: readonly Request[]): boolean {
  return requests[0]?.bucket === PROBE_BUCKET;
}
