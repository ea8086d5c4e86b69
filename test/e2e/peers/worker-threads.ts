import { createRequire } from 'node:module';
import { run } from './task.js';
import type { ThreadsJsWorker } from './untyped.js';

const { expose } = createRequire(import.meta.url)('threads/worker') as ThreadsJsWorker;
expose({ run });
