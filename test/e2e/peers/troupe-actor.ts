import { defineActor } from '../../../src/actor/define-actor.js';
import { run, type Task } from './task.js';

/** The same tasks as the peers' workers run. */
export default defineActor<Task, number, undefined>({
  predict: (batch: Task[]) => Promise.all(batch.map(run)),
});
