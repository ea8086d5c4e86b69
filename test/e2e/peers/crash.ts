import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { wrap } from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';
import { Piscina } from 'piscina';
import { FixedThreadPool } from 'poolifier';
import Tinypool from 'tinypool';
import workerpool from 'workerpool';
import type { Bthreads, ThreadsJs } from './untyped.js';
import { type Ask, measureCells } from './cells.js';
import type { Task } from './task.js';

/**
 * Measures one peer in a process of its own: crash.js <peer> <exit|throw>. Prints the cells as one line of JSON and leaves
 * with SIGKILL, since some peers do not end by themselves after a crash.
 */
const file = (name: string): string => fileURLToPath(new URL(`./worker-${name}.js`, import.meta.url));

const PEERS: Readonly<Record<string, () => Ask | Promise<Ask>>> = {
  piscina() {
    const pool = new Piscina<Task, number>({ filename: file('function'), minThreads: 1, maxThreads: 1 });
    pool.on('error', ignore);
    return (task) => pool.run(task);
  },
  'tinypool threads': () => tinypool('worker_threads'),
  'tinypool process': () => tinypool('child_process'),
  poolifier() {
    const pool = new FixedThreadPool<Task, number>(1, file('poolifier'), { errorHandler: ignore });
    return (task) => pool.execute(task);
  },
  'workerpool threads': () => pooled('thread'),
  'workerpool process': () => pooled('process'),
  comlink() {
    const worker = new Worker(file('comlink'));
    worker.on('error', ignore);
    const remote = wrap<{ run(task: Task): number }>(nodeEndpoint(worker));
    return (task) => remote.run(task);
  },
  async 'threads.js'() {
    // The ES modules of threads lack the extensions Node wants, so this one is required.
    const threads = createRequire(import.meta.url)('threads') as ThreadsJs;
    const pool = threads.Pool(() => threads.spawn(new threads.Worker('./worker-threads.js')), 1);
    return (task) => pool.queue((worker) => worker.run(task));
  },
  bthreads() {
    const { Pool } = createRequire(import.meta.url)('bthreads/threads') as Bthreads;
    const pool = new Pool(file('bthreads'), { size: 1 });
    pool.on('error', ignore);
    return (task) => pool.call('run', [task]);
  },
};

function tinypool(runtime: 'worker_threads' | 'child_process'): Ask {
  const pool = new Tinypool({ filename: file('function'), runtime, minThreads: 1, maxThreads: 1 });
  return (task) => pool.run(task);
}

function pooled(workerType: 'thread' | 'process'): Ask {
  const pool = workerpool.pool(file('workerpool'), { workerType, minWorkers: 1, maxWorkers: 1 });
  return (task) => pool.exec('run', [task]) as unknown as PromiseLike<unknown>;
}

/** What a peer reports beside its calls is not measured here. */
function ignore(): void {
  return undefined;
}

const [peer = '', death = ''] = process.argv.slice(2);
const open = PEERS[peer];
if (open === undefined || (death !== 'exit' && death !== 'throw'))
  throw new TypeError(
    `crash.js: expected one of ${Object.keys(PEERS).join(', ')} and exit or throw, got ${peer} ${death}`,
  );
process.on('uncaughtException', ignore);
process.on('unhandledRejection', ignore);
const cells = await measureCells(await open(), death);
process.stdout.write(`${JSON.stringify(cells)}\n`, () => process.kill(process.pid, 'SIGKILL'));
