import { TroupeError } from '../kernel/errors.js';

/** What changes a pool, of one that belongs to another process: it is done there, and says so here. */
export abstract class PoolElsewhere {
  abstract readonly name: string;
  /** Of its server. */
  protected abstract readonly address: string;

  swap(_version?: unknown, _options?: unknown): Promise<never> {
    return this.#refuse('swapped', `swap ${this.name} VERSION`);
  }

  promote(): Promise<never> {
    return this.#refuse('promoted', 'repl --write');
  }

  rollback(): Promise<never> {
    return this.#refuse('rolled back', `rollback ${this.name}`);
  }

  scale(_replicas?: unknown): Promise<never> {
    return this.#refuse('scaled', `scale ${this.name} REPLICAS`);
  }

  restart(): Promise<never> {
    return this.#refuse('started anew', 'repl --write');
  }

  drain(_options?: unknown): Promise<never> {
    return this.#refuse('drained', 'repl --write');
  }

  #refuse(what: string, command: string): Promise<never> {
    const where = `in its own process, or over the control socket of that: npx troupe ${command}`;
    const message = `Pool "${this.name}" at ${this.address} is of another process and can be ${what} only there: ${where}`;
    return Promise.reject(new TroupeError('POOL_ELSEWHERE', message, { actor: this.name }));
  }
}
