import { ThreadWorker } from 'poolifier';
import { run, type Task } from './task.js';

export default new ThreadWorker<Task, number>(async (task) => run(task as Task));
