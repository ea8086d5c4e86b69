import { Worker } from 'node:worker_threads';
import type { ProcessData } from '../wire/messages.js';

/** Starts the watchdog thread of this child, as a side effect of the first import. It imports nothing that has to be loaded. */

export const settings = JSON.parse(process.argv[2] ?? '{}') as ProcessData;

const watchdog = new Worker(new URL('./watchdog.js', import.meta.url), { workerData: settings });
watchdog.unref();
watchdog.on('error', (error) => {
  throw error;
});

/** Ready means watched: without a first beat the host could not tell that a child has gone silent. */
export const watched: Promise<unknown> = new Promise((resolve) => watchdog.once('message', resolve));
