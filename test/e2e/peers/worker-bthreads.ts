import { createRequire } from 'node:module';
import type { Bthreads } from './untyped.js';
import { run } from './task.js';

const { parent } = createRequire(import.meta.url)('bthreads/threads') as Bthreads;
parent.hook('run', run);
