/**
 * Three pipelines share one pool: an ordered one with a slow sink, one that keeps the order of each user, and an unordered
 * one. Among their records are some that fail once, always, or take the whole replica with them. At the end it says what
 * became of every kind of record: npm run example
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createSystem, type DeadLetter, fromIterable, type Report, type Sink, stderrLog, stream } from 'troupe';
import type { Event } from './actors/score.js';

const EVENTS = 2000;
const USERS = 20;

interface Scored {
  readonly event: Event;
  readonly score: number | 'unknown';
}

/** What became of the records of one pipeline, by their kind. */
class Tally {
  readonly byKind = new Map<string, Map<string, number>>();
  readonly arrivals: Event[] = [];

  count(event: Event, outcome: string): void {
    const outcomes = this.byKind.get(event.kind) ?? new Map<string, number>();
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    this.byKind.set(event.kind, outcomes);
  }

  /** A sink that counts; with `pauseMs` it is slow, and the whole pipeline waits for it. */
  sink(pauseMs = 0): Sink<Scored> {
    return {
      name: 'tally',
      write: async (values) => {
        for (const { event, score } of values) {
          this.arrivals.push(event);
          this.count(event, score === 'unknown' ? 'fallback' : 'result');
        }
        if (pauseMs > 0) await sleep(pauseMs);
      },
      close: () => undefined,
    };
  }

  readonly deadLetters: Sink<DeadLetter> = {
    name: 'dead letters',
    write: (letters) => {
      for (const { input, error, attempts } of letters)
        this.count(input as Event, `dead letter ${error.code} (tried ${attempts}x)`);
    },
    close: () => undefined,
  };
}

await using system = createSystem({ log: (entry) => entry.level === 'error' && stderrLog(entry) });
const score = await system.spawn<Event, number>('score', {
  actor: new URL('./actors/score.js', import.meta.url).href,
  isolation: 'process',
  replicas: 2,
  mailbox: { capacity: 256 },
  restart: { max: 20, backoffMs: 10 },
});
const retry = { attempts: 4, backoffMs: 5, budget: Infinity, rules: { PREDICT_FAILED: { attempts: 4 } } } as const;
const join = (event: Event, points: number): Scored => ({ event, score: points });

const ordered = new Tally();
const keyed = new Tally();
const unordered = new Tally();
const reports = await Promise.all([
  stream(fromIterable(events('audit')), { name: 'audit' })
    .infer(score, { order: 'ordered', output: join, retry, deadLetters: ordered.deadLetters })
    .to(ordered.sink(5)),
  stream(fromIterable(events('profile')), { name: 'profile' })
    .infer(score, {
      order: 'keyed',
      key: ({ user }) => user,
      output: join,
      retry,
      fallback: (event): Scored => ({ event, score: 'unknown' }),
    })
    .to(keyed.sink()),
  stream(fromIterable(events('alert')), { name: 'alert' })
    .infer(score, { order: 'unordered', output: join, deadLetters: unordered.deadLetters })
    .to(unordered.sink()),
]);

show('audit', 'ordered, retries, dead letters, slow sink', ordered, reports[0], isAscending(ordered.arrivals));
const users = Array.from({ length: USERS }, (_, user) =>
  keyed.arrivals.filter((event) => event.user === `user ${user}`),
);
show('profile', 'keyed, retries, fallback', keyed, reports[1], users.every(isAscending));
show('alert', 'unordered, one try, dead letters', unordered, reports[2], undefined);
const { restarts, batches, meanBatchSize } = score.stats();
console.log(
  `pool score: ${restarts} restarts, ${batches} batches of ${meanBatchSize.toFixed(1)} records from three pipelines`,
);

function events(pipeline: string): Event[] {
  return Array.from({ length: EVENTS }, (_, number) => ({
    user: `user ${number % USERS}`,
    number,
    kind: kindOf(pipeline, number),
  }));
}

function kindOf(pipeline: string, number: number): Event['kind'] {
  if (pipeline !== 'alert' && number === 777) return 'deadly';
  if (number % 100 === 50) return 'bad';
  return number % 25 === 7 ? 'flaky' : 'good';
}

function isAscending(arrived: readonly Event[]): boolean {
  return arrived.every((event, at) => at === 0 || event.number > (arrived[at - 1] as Event).number);
}

function show(name: string, words: string, tally: Tally, report: Report, inOrder: boolean | undefined): void {
  const order = inOrder === undefined ? '' : inOrder ? '; in order' : '; OUT OF ORDER';
  console.log(`pipeline ${name} (${words}): ${report.records} records in ${Math.round(report.durationMs)} ms${order}`);
  for (const [kind, outcomes] of [...tally.byKind].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const parts = [...outcomes].map(([outcome, count]) => `${count} x ${outcome}`);
    console.log(`  ${kind.padEnd(7)} ${parts.join(', ')}`);
  }
}
