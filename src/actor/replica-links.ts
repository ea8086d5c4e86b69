import type { Cell } from '../core/slots.js';
import type { DeathNotice, Effect } from '../core/effects.js';
import type { Clock } from '../kernel/clock.js';
import { deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';
import type { Description, Link, RecordResult, ReplyStreams, StartLink } from '../host/link.js';
import { residentBytesOf } from '../host/resident.js';
import { checkContentHash } from '../models/content-hash.js';
import { declaredDifferences } from '../models/declared-signature.js';
import type { LocatedModel } from '../models/repository.js';
import { shapeKey } from '../wire/columns.js';
import type { ActorDefinition, Isolation } from '../wire/definition.js';
import { signatureDifferences } from '../wire/signature-difference.js';
import { giveUp } from '../wire/token-stream.js';
import { GenerationFiles } from './generation-files.js';
import type { ResolvedPoolOptions } from './pool-options.js';
import { Probes } from './probes.js';
import { copyOf } from './value-copy.js';

/**
 * The links of one pool's replicas, by cell: started, spoken to and forgotten here, and nowhere else.
 *
 * Every event of a link goes on with its cell and incarnation, so that the core can fence what is stale. A version whose
 * tensors are not those that its config.pbtxt declares, or differ from those of the serving one, is refused here, before
 * the core hears that it is ready.
 */

export interface LinkListener {
  ready(cell: number, incarnation: number, description: Description): void;
  reply(
    cell: number,
    incarnation: number,
    batchId: number,
    results: readonly RecordResult[],
    streams?: ReplyStreams,
  ): void;
  /** Before the answer that has them. */
  streamsBegan(cell: number, incarnation: number, count: number, model: string | undefined): void;
  streamEnded(cell: number, incarnation: number, model: string | undefined): void;
  failed(cell: number, incarnation: number, batchId: number, error: TroupeError): void;
  exited(cell: number, incarnation: number, death: DeathNotice): void;
  stale(cell: number, incarnation: number, batchId: number): void;
}

export interface ReplicaPlan {
  readonly pool: string;
  readonly options: ResolvedPoolOptions;
  // any: the record types are the pool's business, not the link's
  readonly actor: string | ActorDefinition<any, any, any>;
  readonly isolation: Isolation;
}

export interface ResidentMemory {
  readonly of: 'replicas' | 'host';
  readonly bytes: number;
}

interface Held {
  readonly link: Link;
  readonly incarnation: number;
  readonly version: string | undefined;
  readonly config: LocatedModel['config'];
  /** Of a child process, once it is ready. */
  pid: number | undefined;
}

export class ReplicaLinks {
  /** What the first replica said of itself; later ones must agree. */
  description: Description | undefined;
  readonly files = new GenerationFiles();
  readonly #plan: ReplicaPlan;
  readonly #startLink: StartLink;
  readonly #clock: Clock;
  readonly #listener: LinkListener;
  readonly #held = new Map<number, Held>();
  readonly #probes = new Probes();

  constructor(plan: ReplicaPlan, startLink: StartLink, clock: Clock, listener: LinkListener) {
    this.#plan = plan;
    this.#clock = clock;
    this.#startLink = startLink;
    this.#listener = listener;
  }

  /** Rejects with HASH_MISMATCH where the files of a generation are not those that are pinned; undefined where none are. */
  checkFiles(generation: number): Promise<void> | undefined {
    const model = this.files.of(generation);
    return model?.hash === undefined ? undefined : checkContentHash(model.modelDir, model.hash);
  }

  link(cell: number): Link | undefined {
    return this.#held.get(cell)?.link;
  }

  /** Its start waits for its turn. */
  isWaiting(cell: number): boolean {
    return this.#held.get(cell)?.link.isWaiting === true;
  }

  /** The link of some ready replica. */
  anyReady(cells: Iterable<Cell>): Link | undefined {
    for (const cell of cells) {
      const held = this.#held.get(cell.id);
      if (cell.state === 'ready' && held !== undefined) return held.link;
    }
    return undefined;
  }

  start(effect: Extract<Effect, { kind: 'start' }>, generation: number): void {
    const { cell, replica, replicas, incarnation, version } = effect;
    const { pool, options, actor, isolation } = this.#plan;
    const listener = this.#listener;
    const model = this.files.startOf(generation);
    const link = this.#startLink(
      {
        pool,
        replica,
        replicas,
        incarnation,
        isolation,
        actor,
        modelDir: model?.modelDir,
        modelConfig: model?.config?.config,
        modelHash: model?.hash,
        warmUps: model?.config?.warmUps,
        version,
        options: options.options,
        device: options.device,
        maxBatchSize: options.batching.maxSize,
        loadTimeoutMs: options.loadTimeoutMs,
        heartbeatMs: options.heartbeatMs,
        stopTimeoutMs: options.stopTimeoutMs,
        pieceTimeoutMs: options.batchTimeoutMs,
        memoryLimitBytes: options.memoryLimitBytes,
        manyModels: options.models !== undefined,
      },
      {
        ready: (description) => this.#ready(cell, incarnation, description),
        reply: (batchId, results, streams, model) => {
          if (streams !== undefined) listener.streamsBegan(cell, incarnation, streams.length, model);
          if (!this.#probes.answered(batchId, results)) listener.reply(cell, incarnation, batchId, results, streams);
          else for (const [, stream] of streams ?? []) giveUp(stream);
        },
        streamEnded: (model) => listener.streamEnded(cell, incarnation, model),
        failed: (batchId, error) => {
          if (!this.#probes.failed(batchId, error)) listener.failed(cell, incarnation, batchId, error);
        },
        exited: (death) => {
          this.#probes.ended(link, death);
          if (this.#held.get(cell)?.incarnation === incarnation) this.#held.delete(cell);
          listener.exited(cell, incarnation, death);
        },
        stale: (batchId) => listener.stale(cell, incarnation, batchId),
      },
    );
    this.#held.set(cell, { link, incarnation, version, config: model?.config, pid: undefined });
  }

  /** Shows a batch to a replica that nobody waits for. In this process it is given copies: callers may change theirs. */
  show(cell: number, batchId: number, inputs: readonly unknown[]): void {
    const isLocal = this.#plan.isolation === 'inline';
    this.link(cell)?.send(batchId, isLocal ? inputs.map(copyOrSame) : inputs);
  }

  /**
   * What a ready replica that has no work yet answers to these records; those of one shape go together, as they would in
   * the mailbox. Rejects where a batch fails as a whole, the replica ends, or it takes longer than a load may.
   */
  async probe(cell: number, records: readonly unknown[]): Promise<readonly RecordResult[]> {
    const { pool, options } = this.#plan;
    const { loadTimeoutMs, batching } = options;
    const signature = this.description?.signature;
    const overdue = deferred<never>();
    const timer = this.#clock.at(this.#clock.now() + loadTimeoutMs, () => {
      const message = `Replica of "${pool}" has not answered the probes within loadTimeoutMs ${loadTimeoutMs}`;
      overdue.reject(new TroupeError('ACTOR_HUNG', message, { actor: pool }));
    });
    const results: RecordResult[] = [];
    try {
      for (let from = 0, end = 0; from < records.length; from = end) {
        const shape = signature === undefined ? '' : shapeKey(records[from], signature);
        for (end = from + 1; end < records.length && end - from < batching.maxSize; end++)
          if (signature !== undefined && shapeKey(records[end], signature) !== shape) break;
        const link = this.link(cell);
        if (link === undefined) throw new TroupeError('ACTOR_CRASHED', `Replica ${cell} of "${pool}" has ended`);
        results.push(...(await Promise.race([this.#probes.send(link, records.slice(from, end)), overdue.promise])));
      }
    } finally {
      timer.cancel();
    }
    return results;
  }

  /** Of the replicas that are child processes, where the system says it. */
  residentBytes(): { readonly replica: number; readonly bytes: number }[] {
    return [...this.#held.values()].flatMap(({ link, pid }) => {
      const bytes = pid === undefined ? undefined : residentBytesOf(pid);
      return bytes === undefined ? [] : [{ replica: link.spec.replica, bytes }];
    });
  }

  /** What they hold; of replicas in this process only what the process holds in all. */
  residentMemory(): ResidentMemory | undefined {
    if (this.#plan.isolation !== 'process') return { of: 'host', bytes: process.memoryUsage.rss() };
    let bytes = 0;
    for (const replica of this.residentBytes()) bytes += replica.bytes;
    return bytes === 0 ? undefined : { of: 'replicas', bytes };
  }

  #ready(cell: number, incarnation: number, description: Description): void {
    const held = this.#held.get(cell);
    if (held === undefined || held.incarnation !== incarnation) return;
    if (this.#plan.isolation === 'process') held.pid = description.pid;
    const problem = this.#objection(held, description);
    if (problem === undefined) {
      this.description ??= description;
      this.#listener.ready(cell, incarnation, description);
      return;
    }
    const { pool } = this.#plan;
    this.#held.delete(cell);
    held.link.stop({ now: true });
    this.#listener.exited(cell, incarnation, {
      cause: 'load-failed',
      error: new TroupeError('SIGNATURE_MISMATCH', problem, { actor: pool }),
    });
  }

  #objection({ version, config }: Held, { signature }: Description): string | undefined {
    const which = `Version ${version ?? 'none'} of "${this.#plan.pool}"`;
    const undeclared = config === undefined ? undefined : objectionToModel(which, config, signature);
    if (undeclared !== undefined || this.description === undefined) return undeclared;
    const differences = signatureDifferences(this.description.signature, signature);
    return differences.length === 0 ? undefined : `${which} does not fit the serving one: ${listed(differences)}`;
  }
}

/** What is wrong with the tensors of a model by its own config.pbtxt; undefined for nothing. */
export function objectionToModel(
  which: string,
  { config, file }: NonNullable<LocatedModel['config']>,
  signature: Description['signature'],
): string | undefined {
  const differences = declaredDifferences(config, signature);
  return differences.length === 0 ? undefined : `${which} is not what ${file} declares: ${listed(differences)}`;
}

/** What is no plain data is shown as it is. */
function copyOrSame(value: unknown): unknown {
  try {
    return copyOf(value);
  } catch {
    return value;
  }
}

/** No message grows with a model. */
function listed(lines: readonly string[]): string {
  const shown = lines.slice(0, DIFFERENCES_MAX).join('; ');
  return lines.length > DIFFERENCES_MAX ? `${shown}; and ${lines.length - DIFFERENCES_MAX} more` : shown;
}

const DIFFERENCES_MAX = 8;
