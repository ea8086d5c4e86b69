import { parentPort } from 'node:worker_threads';

/** What comes by transfer goes back by transfer. */
parentPort?.on('message', (value: Float32Array) => parentPort?.postMessage(value, [value.buffer as ArrayBuffer]));
