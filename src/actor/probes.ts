import { type DeathNotice, describeDeath } from '../core/effects.js';
import type { Link, RecordResult } from '../host/link.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { TroupeError } from '../kernel/errors.js';

/** Batches of the core have ids from 1; those of probes begin where they never get. */
const FIRST_ID = 2 ** 52;

interface Probe {
  readonly link: Link;
  readonly answer: Deferred<readonly RecordResult[]>;
}

/** Batches sent to a replica that has no work yet, past the core: to see what it answers. */
export class Probes {
  readonly #open = new Map<number, Probe>();
  #lastId = FIRST_ID;

  /** Rejects where the batch fails as a whole, or the replica ends. */
  send(link: Link, inputs: readonly unknown[]): Promise<readonly RecordResult[]> {
    const answer = deferred<readonly RecordResult[]>();
    const id = ++this.#lastId;
    this.#open.set(id, { link, answer });
    link.send(id, inputs);
    return answer.promise;
  }

  /** True: it was the answer to a probe. */
  answered(id: number, results: readonly RecordResult[]): boolean {
    if (id < FIRST_ID) return false;
    this.#take(id)?.resolve(results);
    return true;
  }

  failed(id: number, error: TroupeError): boolean {
    if (id < FIRST_ID) return false;
    this.#take(id)?.reject(error);
    return true;
  }

  ended(link: Link, death: DeathNotice): void {
    for (const [id, probe] of this.#open) {
      if (probe.link !== link) continue;
      const { pool: actor, replica } = link.spec;
      const message = `Replica ${replica} of "${actor}" ended while it was probed: ${describeDeath(death)}`;
      this.#take(id)?.reject(new TroupeError('ACTOR_CRASHED', message, { cause: death.error, actor, replica }));
    }
  }

  #take(id: number): Deferred<readonly RecordResult[]> | undefined {
    const probe = this.#open.get(id);
    this.#open.delete(id);
    return probe?.answer;
  }
}
