import { parentPort } from 'node:worker_threads';
import type { Numbered } from '../peers/numbered.js';

/** Bare postMessage: one message in, one message out. */
parentPort?.on('message', ({ id, value }: Numbered) => parentPort?.postMessage({ id, value }));
