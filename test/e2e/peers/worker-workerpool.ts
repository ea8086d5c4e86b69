import workerpool from 'workerpool';
import { run } from './task.js';

workerpool.worker({ run });
