import { type MessagePort, parentPort } from 'node:worker_threads';
import { expose } from 'comlink';
import nodeEndpoint from 'comlink/dist/esm/node-adapter.mjs';

expose({ echo: (input: Float32Array): Float32Array => input }, nodeEndpoint(parentPort as MessagePort));
