import type { ModelConfigFile } from './model-config.js';
import type { TextPosition } from './text-proto.js';

/** Something a config.pbtxt says of its model that is no option of a pool, in words for people. */
export interface ModelFact {
  /** Path below the pool: `['model_warmup', 0]`. */
  readonly path: readonly (string | number)[];
  readonly value: string;
  readonly file: string;
  readonly at: TextPosition;
}

/** What every load of the model does by it, and what of it has no effect. */
export function modelFacts({ file, warmUps, ignored }: ModelConfigFile): readonly ModelFact[] {
  return [
    ...warmUps.map(({ name, at, count, batchSize }, index) => {
      const records = batchSize === 1 ? '1 record' : `${batchSize} records`;
      const value = `${JSON.stringify(name)}: ${count === 1 ? '1 run' : `${count} runs`} of ${records}`;
      return { path: ['model_warmup', index], value, file, at };
    }),
    ...ignored.map(({ field, at }) => ({ path: field.split('.'), value: 'no effect', file, at })),
  ];
}
