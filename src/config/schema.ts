import { nameSchema, poolOptionsSchema } from '../actor/pool-options.js';
import { z } from '../kernel/schema.js';

/**
 * What may stand in troupe.yaml. This one schema gives the types, the defaults, the validation, docs/config.schema.json
 * and docs/configuration.md; so every key carries its `describe` text, and the shape after parsing is the shape in the
 * file: `explain` relies on equal paths.
 */

const path = (what: string) =>
  z.string().min(1).describe(`${what} Relative paths start at the folder of the config file.`);

/** `./steps.js#parse`: a module path and the name of one of its exports. */
const moduleReference = (what: string) =>
  z
    .string()
    .regex(
      /^(?:\.{1,2}\/|\/|file:\/\/)[^#]+#[A-Za-z_$][\w$]*$/,
      'must be a module reference such as ./steps.js#parse (a path that starts with ./, ../ or /, then # and an export)',
    )
    .describe(`${what} A module reference: ./steps.js#exportName.`);

const format = z.enum(['lines', 'ndjson', 'csv']);

export const sourceSchema = z
  .strictObject({
    file: path('A file that is read record by record.').optional(),
    format: format
      .optional()
      .describe(
        'With file: how it is cut into records. Without it the ending decides: .ndjson, .jsonl, .csv; else lines.',
      ),
    files: path('A directory (all files below it) or a glob; one record per file.').optional(),
  })
  .superRefine((source, context) => {
    exactlyOne(source, ['file', 'files'], context);
    if (source.files !== undefined && source.format !== undefined) {
      context.addIssue({ code: 'custom', path: ['format'], message: 'format belongs to file, not to files' });
    }
  });

export const sinkSchema = z
  .strictObject({
    file: path('A file that gets one line per result.').optional(),
    stdout: z.enum(['ndjson', 'lines']).optional().describe('Writes one line per result to standard output.'),
  })
  .superRefine((sink, context) => exactlyOne(sink, ['file', 'stdout'], context));

export const inferSchema = z.strictObject({
  pool: nameSchema.describe('Name of a pool of this file.'),
  input: moduleReference(
    'Makes the input of the model from a record; without it the record itself is the input.',
  ).optional(),
  output: moduleReference(
    'Joins a record and the answer of the model to a new record; without it the answer replaces the record.',
  ).optional(),
  order: z
    .enum(['ordered', 'unordered'])
    .default('ordered')
    .describe('Whether results leave in the order of their records, or as they come.'),
  capacity: z.number().int().min(1).default(512).describe('How many records this step may hold at once.'),
  timeoutMs: z
    .number()
    .min(1)
    .optional()
    .describe('Deadline of one record in this step, queueing included; none without it.'),
});

const STEP_KINDS = ['map', 'filter', 'flatMap', 'mapParallel', 'infer'] as const;

export const stepSchema = z
  .strictObject({
    map: moduleReference('One record in, one record out.').optional(),
    filter: moduleReference('Keeps the records for which it returns true.').optional(),
    flatMap: moduleReference('One record in, any number of records out.').optional(),
    mapParallel: moduleReference('As map, for heavy CPU work without state: runs in a pool of threads.').optional(),
    infer: inferSchema.describe('Sends records to a pool.').optional(),
  })
  .superRefine((step, context) => exactlyOne(step, STEP_KINDS, context));

export const pipelineSchema = z.strictObject({
  source: sourceSchema.describe('Where records come from: file or files.'),
  steps: z.array(stepSchema).default([]).describe('What happens to a record, in order. Each step has exactly one key.'),
  sink: sinkSchema.describe('Where results go: file or stdout.'),
  deadLetters: z
    .strictObject({ file: path('A file that gets one line per failed record, with its error.') })
    .optional()
    .describe('Where failed records go; without it they are only counted.'),
});

export const configSchema = z.strictObject({
  name: nameSchema.default('troupe').describe('Name of the system, for logs and reports.'),
  pools: z.record(nameSchema, poolOptionsSchema).default({}).describe('Pools by name, each with the options of spawn.'),
  pipelines: z.record(nameSchema, pipelineSchema).default({}).describe('Pipelines by name.'),
});

/** As a user writes it. */
export type ConfigInput = z.input<typeof configSchema>;
/** Every default filled in. */
export type Config = z.output<typeof configSchema>;
export type PipelineConfig = z.output<typeof pipelineSchema>;
export type InferConfig = z.output<typeof inferSchema>;

/** One step as a tagged union, for those who run it. */
export type Step =
  | { readonly kind: 'map' | 'filter' | 'flatMap' | 'mapParallel'; readonly reference: string }
  | { readonly kind: 'infer'; readonly options: InferConfig };

export function stepOf(entry: z.output<typeof stepSchema>): Step {
  if (entry.infer !== undefined) return { kind: 'infer', options: entry.infer };
  for (const kind of ['map', 'filter', 'flatMap', 'mapParallel'] as const) {
    const reference = entry[kind];
    if (reference !== undefined) return { kind, reference };
  }
  throw new TypeError('steps: expected one of map, filter, flatMap, mapParallel, infer; got none');
}

/** The schema as plain data, as an editor reads it; also what the messages and the reference page are made from. */
export function configJsonSchema(): JsonSchema {
  jsonSchema ??= z.toJSONSchema(configSchema, { io: 'input' }) as JsonSchema;
  return jsonSchema;
}

/** Made at first use: a valid config never needs it. */
let jsonSchema: JsonSchema | undefined;

/** The part of JSON Schema that `configSchema` produces. */
export interface JsonSchema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly minLength?: number;
  readonly pattern?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: JsonSchema | boolean;
  readonly propertyNames?: JsonSchema;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
}

interface IssueSink {
  addIssue(issue: { code: 'custom'; message: string; path?: PropertyKey[] }): void;
}

function exactlyOne(value: Readonly<Record<string, unknown>>, keys: readonly string[], context: IssueSink): void {
  const given = keys.filter((key) => value[key] !== undefined);
  if (given.length === 1) return;
  const found = given.length === 0 ? 'none' : given.join(' and ');
  context.addIssue({ code: 'custom', message: `expected exactly one of ${keys.join(', ')}; found ${found}` });
}
