/**
 * mapParallel: stateless CPU work on the threads of a piscina pool of its own. The door to piscina.
 *
 * A pump pulls a few records at a time and gives each handful to one thread; results leave in the order of entry.
 * P1 held records <= 2 * concurrency * RECORDS_PER_TASK: one task runs on each thread, one waits or is waited for.
 * P2 a thread that dies, and a value that cannot cross, cost one record: the handful is then tried one by one.
 */
import { availableParallelism } from 'node:os';
import { isAbsolute } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Piscina } from 'piscina';
import { TroupeError } from '../kernel/errors.js';
import { fromFault } from '../wire/fault.js';
import { operatorFailed, type Chunk, type Envelope } from './envelope.js';
import { INTERRUPTED } from './interrupt.js';
import { checkCount, checkKeys, refuse } from './options.js';
import type { ParallelAnswer, ParallelTask } from './parallel-worker.js';
import type { RunContext, Stage } from './stage.js';
import { WakeUp } from './wake-up.js';

/** One message per handful: eight make the message cheap and still spread few records over the threads. */
const RECORDS_PER_TASK = 8;

export interface ParallelOptions {
  /** File URL or absolute path of the module, as `import.meta.resolve('./work.js')` gives it. */
  module: string | URL;
  /** Name of the exported function, sync or async. Default `default`. */
  exportName?: string;
  /** Threads. Default: one less than the machine runs at once, at least 1. */
  concurrency?: number;
}

export interface ParallelPlan {
  readonly module: string;
  readonly exportName: string;
  readonly concurrency: number;
}

export function parallelPlan(given: string | URL | ParallelOptions): ParallelPlan {
  if (typeof given === 'function') {
    throw new TypeError(
      'mapParallel must be given the URL of a module, got a function: it runs in other threads, and a function cannot ' +
        "cross to them with the variables it closes over. Export it from a module: mapParallel(import.meta.resolve('./work.js'))",
    );
  }
  const options = typeof given === 'string' || given instanceof URL ? { module: given } : given;
  checkKeys('mapParallel', options, ['module', 'exportName', 'concurrency']);
  const { module, exportName = 'default', concurrency = Math.max(1, availableParallelism() - 1) } = options;
  checkCount('mapParallel.concurrency', concurrency);
  if (typeof exportName !== 'string' || exportName === '') refuse('mapParallel.exportName', 'a name', exportName);
  return { module: moduleUrl(module), exportName, concurrency };
}

/** Resolves when a thread has loaded the module; rejects with OPERATOR_FAILED when that cannot be. */
export async function startParallel(
  plan: ParallelPlan,
  upstream: Stage,
  run: RunContext,
  index: number,
): Promise<Stage> {
  const threads = new Piscina<ParallelTask, ParallelAnswer[]>({
    filename: new URL('./parallel-worker.js', import.meta.url).href,
    minThreads: 1,
    maxThreads: plan.concurrency,
    // The default stops a thread's timers between tasks.
    atomics: 'disabled',
  });
  try {
    const { module, exportName } = plan;
    const loaded = await run.interrupt.guard(threads.run({ module, exportName, values: [] }));
    if (loaded === INTERRUPTED) throw new TroupeError('CANCELLED', 'The run has ended');
  } catch (cause) {
    await threads.destroy();
    if (run.interrupt.isSet) return { pull: async () => undefined, close: () => undefined };
    const words = cause instanceof Error ? cause.message : String(cause);
    throw new TroupeError('OPERATOR_FAILED', `mapParallel cannot use ${plan.module}: ${words}`, { cause });
  }
  return new ParallelStage(plan, threads, upstream, run, index);
}

interface Task {
  readonly chunk: Chunk;
  /** Never rejects: failures are in the envelopes. */
  readonly done: Promise<void>;
}

class ParallelStage implements Stage {
  readonly #tasks: Task[] = [];
  /** What is left of a task that was larger than the pull. */
  #rest: Chunk = [];
  #hasEnded = false;
  #failure: { readonly reason: unknown } | undefined;
  readonly #downstream: WakeUp;
  readonly #pumping: WakeUp;

  constructor(
    private readonly plan: ParallelPlan,
    private readonly threads: Piscina<ParallelTask, ParallelAnswer[]>,
    private readonly upstream: Stage,
    private readonly run: RunContext,
    private readonly index: number,
  ) {
    this.#downstream = new WakeUp(run.interrupt);
    this.#pumping = new WakeUp(run.interrupt);
    void this.#pump().catch((reason: unknown) => {
      this.#failure = { reason };
      this.#downstream.wake();
    });
  }

  async pull(max: number): Promise<Chunk | undefined> {
    while (this.#rest.length === 0) {
      if (this.run.interrupt.isSet) return undefined;
      const [task] = this.#tasks;
      if (task !== undefined) {
        if ((await this.run.interrupt.guard(task.done)) === INTERRUPTED) return undefined;
        this.#tasks.shift();
        this.#pumping.wake();
        this.#rest = task.chunk;
      } else if (this.#failure !== undefined) {
        throw this.#failure.reason;
      } else if (this.#hasEnded) {
        return undefined;
      } else {
        await this.#downstream.wait();
      }
    }
    return this.#rest.splice(0, max);
  }

  close(): Promise<void> {
    return this.threads.destroy();
  }

  async #pump(): Promise<void> {
    const limit = this.plan.concurrency * 2;
    while (!this.run.interrupt.isSet) {
      // What downstream has begun to take still counts. P1
      if (this.#tasks.length + (this.#rest.length > 0 ? 1 : 0) >= limit) {
        await this.#pumping.wait();
        continue;
      }
      const turn = this.run.turn.give();
      if (turn !== undefined) await turn;
      const chunk = await this.upstream.pull(Math.min(RECORDS_PER_TASK, this.run.chunkSize));
      if (chunk === undefined) break;
      this.#tasks.push({ chunk, done: this.#process(chunk) });
      this.#downstream.wake();
    }
    this.#hasEnded = true;
    this.#downstream.wake();
  }

  async #process(chunk: Chunk): Promise<void> {
    const envelopes = chunk.filter((envelope) => !envelope.passes);
    if (envelopes.length === 0) return;
    try {
      await this.#ask(envelopes);
    } catch (cause) {
      // P2. With a single record there is nobody else to save.
      if (envelopes.length === 1) this.#fail(envelopes[0] as Envelope, cause);
      else
        for (const envelope of envelopes) await this.#ask([envelope]).catch((reason) => this.#fail(envelope, reason));
    }
  }

  async #ask(envelopes: Chunk): Promise<void> {
    const { module, exportName } = this.plan;
    const values = envelopes.map((envelope) => envelope.value);
    const answers = await this.threads.run({ module, exportName, values });
    envelopes.forEach((envelope, index) => {
      const answer = answers[index] as ParallelAnswer;
      if (answer.ok) envelope.value = answer.value;
      else this.#fail(envelope, fromFault(answer.fault));
    });
  }

  #fail(envelope: Envelope, cause: unknown): void {
    envelope.fail(operatorFailed('mapParallel', cause), { step: this.index, at: this.run.clock.now() });
  }
}

function moduleUrl(module: unknown): string {
  if (module instanceof URL) return moduleUrl(module.href);
  if (typeof module !== 'string') refuse('mapParallel.module', 'a file URL or an absolute path', module);
  if (module.startsWith('file:')) return module;
  if (isAbsolute(module)) return pathToFileURL(module).href;
  throw new TypeError(
    `mapParallel.module must be a file URL or an absolute path, got ${JSON.stringify(module)}; ` +
      `write import.meta.resolve(${JSON.stringify(module)})`,
  );
}
