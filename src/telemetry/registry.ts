import { type Clock, systemClock } from '../kernel/clock.js';
import { EventLoopWatch } from './event-loop.js';
import { Exposition } from './exposition.js';
import { FAMILY_TABLE } from './families.js';
import { MachineWatch } from './machine.js';

/** Counts anyway, and says what when it is asked. */
export interface MetricsSource {
  collect(into: Exposition): void;
  /** Of a pipeline that runs: where it stands. */
  run?(): RunCounts;
  /** Of a listener: its name, and how many it has turned away, by reason. */
  refusals?(): readonly [listener: string, counts: Iterable<readonly [reason: string, count: number]>];
}

/** Where a pipeline stands. records = results + failed + deadLetters. */
export interface RunCounts {
  readonly name: string;
  readonly records: number;
  readonly results: number;
  readonly failed: number;
  readonly deadLetters: number;
  /** Inside the pipeline; not among the records yet. */
  readonly held: number;
}

/**
 * Who counts what in one system, and the text of a scrape. Nothing is written here while the system works: a scrape asks.
 *
 * Counters go on when who counted them is gone: those of a pipeline that has ended, or of a pool that was stopped, stay,
 * and what comes later under the same name adds to them.
 */
export class MetricsRegistry {
  readonly #sources = new Set<MetricsSource>();
  #past = new Exposition();
  readonly #eventLoop: EventLoopWatch;
  readonly #machine = new MachineWatch();

  constructor(clock: Clock = systemClock) {
    this.#eventLoop = new EventLoopWatch(clock);
  }

  /** Gives what takes it away again, which keeps what it has counted. */
  add(source: MetricsSource): () => void {
    this.#sources.add(source);
    return () => {
      if (!this.#sources.delete(source)) return;
      const last = new Exposition();
      source.collect(last);
      this.#past.addCumulative(last);
    };
  }

  /** The pipelines that run now. */
  runs(): readonly RunCounts[] {
    return [...this.#sources].flatMap((source) => source.run?.() ?? []);
  }

  /** What was turned away, by listener and reason; only what was. */
  refusals(): Readonly<Record<string, Readonly<Record<string, number>>>> {
    const all: Record<string, Record<string, number>> = {};
    for (const source of this.#sources) {
      const [listener, counts] = source.refusals?.() ?? ['', []];
      for (const [reason, count] of counts) {
        if (count === 0) continue;
        const of = (all[listener] ??= {});
        of[reason] = (of[reason] ?? 0) + count;
      }
    }
    return all;
  }

  /** In the text format 0.0.4 of Prometheus. The first call begins the watch of the event loop; `close` ends it. */
  text(): string {
    const scrape = new Exposition();
    // First of all, so that no crowd of names can push it out.
    this.#addProcess(scrape);
    for (const source of this.#sources) source.collect(scrape);
    scrape.addCumulative(this.#past);
    return scrape.text();
  }

  close(): void {
    this.#eventLoop.stop();
  }

  #addProcess(into: Exposition): void {
    this.#eventLoop.start();
    const { user, system } = process.cpuUsage();
    const { bounds } = FAMILY_TABLE.troupe_event_loop_delay_seconds;
    into.addDistribution('troupe_event_loop_delay_seconds', {}, this.#eventLoop.delay.distribution(bounds ?? []));
    into.add('troupe_resident_bytes', {}, process.memoryUsage.rss());
    into.add('troupe_cpu_seconds_total', {}, (user + system) / 1e6);
    const share = this.#machine.cpuShare();
    if (share !== undefined) into.add('nv_cpu_utilization', {}, share);
    const memory = this.#machine.memory();
    if (memory === undefined) return;
    into.add('nv_cpu_memory_total_bytes', {}, memory.totalBytes);
    into.add('nv_cpu_memory_used_bytes', {}, memory.usedBytes);
  }
}
