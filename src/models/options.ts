import { z } from '../kernel/schema.js';
import { isVersion, LATEST, NAME_PATTERN, NAME_RULE } from './names.js';

/** The options of a repository, which are also the key `models` of the config file. */

/** One grammar for every name and version that can reach a path or a metric label. */
export const nameSchema = z.string().regex(NAME_PATTERN, NAME_RULE);

const versionSchema = z
  .union([z.string(), z.number()])
  .transform(String)
  .refine(isVersion, 'must be a version: a whole number of at least 1');

const aliasSchema = nameSchema.refine(
  (name) => name !== LATEST && !/^\d+$/.test(name),
  `must not be a number nor "${LATEST}", which is always the newest version`,
);

export const modelsSchema = z
  .strictObject({
    roots: z
      .array(z.string().min(1))
      .default([])
      .describe(
        'Directories that hold models, each <root>/<model>/<version>. With them, a pool may give its model by name.',
      ),
    aliases: z
      .record(nameSchema, z.record(aliasSchema, versionSchema))
      .default({})
      .describe('Own names of versions, by model: { sentiment: { stable: 3 } }.'),
  })
  .prefault({});

/** As a user writes it. */
export type ModelsOptions = z.input<typeof modelsSchema>;
export type ResolvedModelsOptions = z.output<typeof modelsSchema>;
