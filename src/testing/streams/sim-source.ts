/**
 * The source of increasing numbers, as it stands outside the process: it survives its readers.
 *
 * replayable: a reader begins where it is told. acknowledging: what was not acknowledged comes again to the next reader.
 * neither: what was read is gone.
 */
import { Control, RecordFailure, Stamped } from '../../stream/envelope.js';
import type { Acknowledgement, SourceReader } from '../../stream/source.js';
import { SIM_ERRORS } from './errors.js';
import type { StreamScenario } from './scenario.js';
import { type UserFunctions, valueOf } from './values.js';

type SimItem = number | Control | RecordFailure | Stamped<number | Control>;

export class SimSource {
  /** acknowledging: by number. */
  readonly #acknowledged: Uint8Array;
  /** neither: the next number; what is below was read by somebody. */
  cursor = 0;
  readonly #scenario: StreamScenario;
  readonly #functions: UserFunctions;

  constructor(scenario: StreamScenario, functions: UserFunctions) {
    this.#scenario = scenario;
    this.#functions = functions;
    this.#acknowledged = new Uint8Array(scenario.records);
  }

  isAcknowledged(n: number): boolean {
    return this.#acknowledged[n] === 1;
  }

  acknowledge(outcomes: readonly Acknowledgement[]): void {
    for (const { token } of outcomes) this.#acknowledged[token as number] = 1;
  }

  /** A reader for Tracking, which asks it what it is and where it stands. */
  open(from: unknown): SimReader {
    switch (this.#scenario.source) {
      case 'replayable':
        return new ReplayableReader(this, from === undefined ? 0 : (from as number));
      case 'acknowledging':
        return new AcknowledgingReader(this);
      default:
        return new SimReader(this);
    }
  }

  /** undefined at the end. */
  item(n: number): SimItem | undefined {
    const { records, source } = this.#scenario;
    if (n >= records) return undefined;
    let item: SimItem = valueOf(n);
    if (this.isControl(n)) item = new Control('mark', n);
    else if (this.#functions.isBad(n)) item = new RecordFailure(SIM_ERRORS.unreadable, valueOf(n));
    if (source !== 'acknowledging') return item;
    return new Stamped<number | Control>(item, { token: n });
  }

  isControl(n: number): boolean {
    const { controlEvery } = this.#scenario;
    return controlEvery > 0 && n % (controlEvery + 1) === controlEvery;
  }
}

/** Its answers are given by the job, after the time they take. */
export class SimReader implements SourceReader<unknown> {
  constructor(protected readonly source: SimSource) {}

  read(max: number): readonly SimItem[] | undefined {
    const items: SimItem[] = [];
    while (items.length < max) {
      const item = this.next();
      if (item === undefined) break;
      items.push(item);
    }
    return items.length === 0 ? undefined : items;
  }

  close(): void {}

  protected next(): SimItem | undefined {
    const item = this.source.item(this.source.cursor);
    if (item !== undefined) this.source.cursor++;
    return item;
  }
}

class ReplayableReader extends SimReader {
  #at: number;

  constructor(source: SimSource, at: number) {
    super(source);
    this.#at = at;
  }

  position(): unknown {
    return this.#at;
  }

  protected override next(): SimItem | undefined {
    const item = this.source.item(this.#at);
    if (item !== undefined) this.#at++;
    return item;
  }
}

class AcknowledgingReader extends SimReader {
  #at = 0;

  acknowledge(): void {
    throw new Error('the simulated run acknowledges through its own call, which takes time');
  }

  protected override next(): SimItem | undefined {
    while (this.source.isAcknowledged(this.#at)) this.#at++;
    const item = this.source.item(this.#at);
    if (item !== undefined) this.#at++;
    return item;
  }
}
