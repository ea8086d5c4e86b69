import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { FileRecord } from 'troupe';

/** The model looks at this much of a file: the whole where it is smaller, else its beginning and its end. */
export const HEAD_BYTES = 1536;
export const TAIL_BYTES = 512;

/** One line of the results. */
export type Result =
  | {
      readonly path: string;
      readonly size: number;
      readonly type: string;
      readonly score: number;
      readonly version: string;
    }
  | { readonly path: string; readonly size: 0; readonly type: 'empty' }
  | { readonly path: string; readonly error: { readonly code: string; readonly message: string } };

/** The one input of the model, uint8 [2048], padded with zeros, and its one output. */
export interface Sample {
  readonly bytes: Uint8Array;
}
export interface Scores {
  readonly scores: Float32Array;
}

export function sampleOf(file: FileRecord): Sample {
  const bytes = new Uint8Array(HEAD_BYTES + TAIL_BYTES);
  bytes.set(file.bytes);
  return { bytes };
}

/** What stands beside the model: the names of its outputs, and the types that extensions promise. */
export class Labels {
  readonly #labels: readonly string[];
  readonly #byExtension: ReadonlyMap<string, string>;

  private constructor(labels: readonly string[], byExtension: ReadonlyMap<string, string>) {
    this.#labels = labels;
    this.#byExtension = byExtension;
  }

  static async read(model: string): Promise<Labels> {
    const [labels, extensions] = await Promise.all([
      readFile(join(model, 'labels.txt'), 'utf8'),
      readFile(join(model, 'extensions.json'), 'utf8'),
    ]);
    const byExtension = new Map(Object.entries(JSON.parse(extensions) as Record<string, string>));
    return new Labels(labels.trimEnd().split('\n'), byExtension);
  }

  /** The label with the highest score. */
  best(scores: Float32Array): { readonly type: string; readonly score: number } {
    let best = 0;
    for (let index = 1; index < scores.length; index++) {
      if ((scores[index] as number) > (scores[best] as number)) best = index;
    }
    const type = this.#labels[best];
    if (type === undefined)
      throw new RangeError(`The model gave ${scores.length} scores for ${this.#labels.length} labels`);
    // Sums over batches of other sizes differ by up to 1e-7; three decimals are the same whoever shared the batch.
    return { type, score: Math.round((scores[best] as number) * 1e3) / 1e3 };
  }

  /** The type that the name promises, where its extension is known; the longest extension counts (.d.ts before .ts). */
  promisedBy(path: string): string | undefined {
    const name = basename(path).toLowerCase();
    for (let dot = name.indexOf('.', 1); dot !== -1; dot = name.indexOf('.', dot + 1)) {
      const type = this.#byExtension.get(name.slice(dot));
      if (type !== undefined) return type;
    }
    return undefined;
  }
}
