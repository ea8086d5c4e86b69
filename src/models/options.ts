import { z } from '../kernel/schema.js';
import { HASH_PATTERN } from './content-hash.js';
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

export const watchSchema = z.strictObject({
  intervalMs: z.number().min(10).max(86_400_000).default(2000).describe('Time between two looks.'),
  settleMs: z
    .number()
    .min(0)
    .max(86_400_000)
    .default(5000)
    .describe('A version counts once it has been the same for this long. Slow or stalling copies want more.'),
});

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
    hashes: z
      .record(
        nameSchema,
        z.record(
          z.string().regex(/^[1-9]\d{0,15}$/, 'must be a version: a whole number of at least 1'),
          z.string().regex(HASH_PATTERN, 'must be sha256: and 64 hexadecimal digits, as troupe hash prints them'),
        ),
      )
      .default({})
      .describe(
        'Pinned content hashes, by model and version: { sentiment: { 3: sha256:… } }. Such a model has only these versions, and none is loaded whose files have another hash.',
      ),
    watch: z
      .union([z.boolean(), watchSchema], 'expected true, false, or a map of intervalMs and settleMs')
      .default(false)
      .describe(
        'Looks at the roots while the system runs: pools whose version is latest take up new versions by a swap, when they have been copied whole.',
      ),
  })
  .refine(({ roots, watch }) => watch === false || roots.length > 0, {
    message: 'needs roots: there is nothing to look at without them',
    path: ['watch'],
  })
  .prefault({});

/** As a user writes it. */
export type ModelsOptions = z.input<typeof modelsSchema>;
export type ResolvedModelsOptions = z.output<typeof modelsSchema>;
