import { type MessagePort, parentPort } from 'node:worker_threads';
import { expose } from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';
import { run } from './task.js';

expose({ run }, nodeEndpoint(parentPort as MessagePort));
