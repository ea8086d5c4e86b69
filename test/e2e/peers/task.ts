/** What every worker of the crash matrix can be asked: to answer, or to end its thread or process while it runs. */
export interface Task {
  readonly do: 'answer' | 'exit' | 'throw';
  readonly value: number;
}

/** Time for the tasks behind it to be queued. */
const BEFORE_DEATH_MS = 50;
/** Longer than that, so that peers that start B and C beside A have them open too when it dies. */
const BEFORE_ANSWER_MS = 100;

export function run(task: Task): Promise<number> {
  return new Promise((resolve) => {
    if (task.do === 'answer') setTimeout(() => resolve(task.value), BEFORE_ANSWER_MS);
    else
      setTimeout(() => {
        if (task.do === 'exit') process.exit(3);
        throw new Error('thrown from a timer, as told');
      }, BEFORE_DEATH_MS);
  });
}
