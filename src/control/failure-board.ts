import { type Clock, systemClock } from '../kernel/clock.js';
import type { TroupeError } from '../kernel/errors.js';

/** A record that failed in a pipeline, as it may be shown: everything but the record. */
export interface LetterSummary {
  /** ISO 8601. */
  readonly at: string;
  readonly pipeline: string;
  readonly code: string;
  readonly message: string;
  readonly pool?: string;
  readonly version?: string;
}

const LETTERS_KEPT = 100;
const MESSAGE_MAX = 500;

interface Entry {
  readonly file: string | undefined;
  readonly letters: LetterSummary[];
}

/** What failed in the pipelines of a run, for those who look from outside. Bounded: the newest of each pipeline only. */
export class FailureBoard {
  readonly #entries = new Map<string, Entry>();

  constructor(private readonly clock: Clock = systemClock) {}

  /** `file`: where its dead letters are written, where they are. */
  opened(pipeline: string, file: string | undefined): void {
    this.#entries.set(pipeline, { file, letters: [] });
  }

  failed(pipeline: string, { code, message, actor, modelVersion }: TroupeError): void {
    const letters = this.#entries.get(pipeline)?.letters;
    if (letters === undefined) return;
    letters.push({
      at: new Date(this.clock.wallNow()).toISOString(),
      pipeline,
      code,
      message: message.slice(0, MESSAGE_MAX),
      ...(actor === undefined ? {} : { pool: actor }),
      ...(modelVersion === undefined ? {} : { version: modelVersion }),
    });
    if (letters.length > LETTERS_KEPT) letters.shift();
  }

  pipelines(): readonly string[] {
    return [...this.#entries.keys()];
  }

  /** Dead-letter files by pipeline. */
  files(): Readonly<Record<string, string>> {
    const files = [...this.#entries].flatMap(([name, { file }]) => (file === undefined ? [] : [[name, file] as const]));
    return Object.fromEntries(files);
  }

  /** The newest failures, oldest first; of one pipeline where it is named. */
  letters(pipeline?: string): readonly LetterSummary[] {
    return [...this.#entries].flatMap(([name, { letters }]) => {
      return pipeline === undefined || pipeline === name ? letters : [];
    });
  }
}
