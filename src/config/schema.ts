import { breakerSchema, poolOptionsSchema } from '../actor/pool-options.js';
import { ERROR_CODES, type ErrorCode } from '../kernel/errors.js';
import { z } from '../kernel/schema.js';
import { MODEL_REF_PATTERN } from '../models/names.js';
import { modelsSchema, nameSchema } from '../models/options.js';
import { metricsSchema, serveSchema, serviceSinks, serviceSources } from './services.js';

/**
 * What may stand in troupe.yaml. This one schema gives the types, the defaults, the validation, docs/config.schema.json
 * and docs/configuration.md; so every key carries its `describe` text, and the shape after parsing is the shape in the
 * file: `explain` relies on equal paths.
 */

const path = (what: string) =>
  z.string().min(1).describe(`${what} Relative paths start at the folder of the config file.`);

const REFERENCE_PATTERN = /^(?:\.{1,2}\/|\/|file:\/\/)[^#]+#[A-Za-z_$][\w$]*$/;

/** `./steps.js#parse`: a module path and the name of one of its exports. */
const moduleReference = (what: string) =>
  z
    .string()
    .regex(
      REFERENCE_PATTERN,
      'must be a module reference such as ./steps.js#parse (a path that starts with ./, ../ or /, then # and an export)',
    )
    .describe(`${what} A module reference: ./steps.js#exportName.`);

const fileFormat = z.enum(['lines', 'ndjson', 'csv']);
const lineFormat = z.enum(['auto', 'text', 'ndjson']);
const atLeast = (least: number) => z.number().int().min(least);

const FILE_KEYS = ['format', 'maxLineBytes'] as const;
const FILES_KEYS = ['headBytes', 'tailBytes', 'followSymlinks', 'ignore'] as const;

export const sourceSchema = z
  .strictObject({
    file: path('A file that is read record by record.').optional(),
    format: fileFormat
      .optional()
      .describe('With file: how it is cut. Without it the ending decides: .ndjson, .jsonl, .csv; else lines.'),
    maxLineBytes: atLeast(1)
      .optional()
      .describe('With file: a longer line fails with PARSE_FAILED; 1,048,576 without it.'),
    files: path('A directory (all files below it) or a glob; one record per file.').optional(),
    headBytes: atLeast(0)
      .optional()
      .describe('With files: bytes read from the beginning of each file; 1536 without it.'),
    tailBytes: atLeast(0).optional().describe('With files: bytes read from the end of each file; 512 without it.'),
    followSymlinks: z.boolean().optional().describe('With files: enters directories behind symlinks; not without it.'),
    ignore: z.array(z.string().min(1)).optional().describe('With files: globs of paths that are left out.'),
    stdin: fileFormat.optional().describe('Standard input, cut in this format.'),
    ...serviceSources,
  })
  .superRefine((source, context) => {
    exactlyOne(source, ['file', 'files', 'stdin', 'http', 'sse', 'redis', 'postgres'], context);
    belongsTo('file', source, FILE_KEYS, context);
    belongsTo('files', source, FILES_KEYS, context);
  });

export const sinkSchema = z
  .strictObject({
    file: path('A file that gets one line per result.').optional(),
    format: lineFormat.optional().describe('With file: auto (the default) writes strings as text, all else as NDJSON.'),
    append: z
      .boolean()
      .optional()
      .describe('With file: adds to a file that is there; without it the file begins anew.'),
    stdout: lineFormat.optional().describe('Writes one line per result to standard output, in this format.'),
    ...serviceSinks,
  })
  .superRefine((sink, context) => {
    exactlyOne(sink, ['file', 'stdout', 'http', 'sse', 'redis', 'postgres'], context);
    belongsTo('file', sink, ['format', 'append'], context);
  });

const retryRule = {
  attempts: atLeast(1).optional().describe('How often a record is tried in all.'),
  backoffMs: z.number().min(0).optional().describe('Wait before the second try.'),
  maxBackoffMs: z.number().min(0).optional().describe('Longest wait between two tries.'),
  multiplier: z.number().min(1).optional().describe('Growth of the wait from try to try; 1 keeps it fixed.'),
};

const errorCodes = Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]];

const retrySchema = z
  .strictObject({
    ...retryRule,
    jitter: z.number().min(0).max(1).optional().describe('Share of the wait that is drawn by lot.'),
    budget: z.number().min(0).optional().describe('Tries again per first try, at most.'),
    rules: z
      .partialRecord(z.enum(errorCodes), z.union([z.literal('never'), z.strictObject(retryRule)]))
      .optional()
      .describe('Other rules for single error codes, or never.'),
  })
  .describe('Tries failed records again, each by itself; not without it.');

export const inferSchema = z
  .strictObject({
    pool: nameSchema.describe('Name of a pool of this file.'),
    bypass: moduleReference(
      'Gives the outcome of a record that needs no actor, in place; undefined sends the record to the actor.',
    ).optional(),
    input: moduleReference('Makes the input of the model from a record; without it, the record itself.').optional(),
    output: moduleReference(
      'Joins (record, answer, version) to a new record; without it, the answer itself.',
    ).optional(),
    failed: moduleReference('Turns (record, error) of a failure into a record that goes on.').optional(),
    order: z
      .enum(['ordered', 'unordered', 'keyed'])
      .default('ordered')
      .describe('Whether results leave in the order of their records, as they come, or in order for each key.'),
    key: moduleReference('With order keyed: the key of a record, a string.').optional(),
    model: z
      .string()
      .regex(
        new RegExp(`${MODEL_REF_PATTERN.source}|${REFERENCE_PATTERN.source}`),
        'must be the name of a model, name@version, or a module reference such as ./steps.js#languageOf',
      )
      .optional()
      .describe(
        'In a pool of many models, which one answers: its name, as in fr or fr@2, or a module reference to what gives the name for a record.',
      ),
    capacity: atLeast(1).default(512).describe('How many records this step may hold at once.'),
    timeout: z
      .strictObject({
        ms: z.number().positive().describe('Milliseconds after which a record fails with DEADLINE_PASSED.'),
        mode: z
          .enum(['element', 'batch'])
          .default('element')
          .describe('element: from acceptance, over queue and all tries. batch: each call, from its send.'),
      })
      .optional()
      .describe('How long a record, or a call, may take in this step; no limit without it.'),
    retry: retrySchema.optional(),
    breaker: breakerSchema
      .optional()
      .describe('Circuit breaker of this step alone: refuses records with BREAKER_OPEN while too many fail.'),
    fallback: z
      .strictObject({
        value: z.unknown().optional().describe('Goes on in the place of a record that failed.'),
        function: moduleReference('Makes what goes on from (record, error).').optional(),
        pool: nameSchema.optional().describe('Name of another pool of this file, which is asked instead.'),
      })
      .superRefine((fallback, context) => exactlyOne(fallback, ['value', 'function', 'pool'], context))
      .optional()
      .describe('What answers for a record that failed in this step after all tries.'),

    priority: z.number().default(0).describe('Records with a higher one go first in the pool.'),
  })
  .superRefine((infer, context) => {
    if (infer.order === 'keyed' && infer.key === undefined)
      context.addIssue({ code: 'custom', path: ['order'], message: 'order keyed needs a key' });
    if (infer.order !== 'keyed' && infer.key !== undefined)
      context.addIssue({ code: 'custom', path: ['key'], message: 'key belongs to order: keyed' });
  });

const checkpointSchema = z
  .strictObject({
    dir: path('Where checkpoints are kept; one directory for each pipeline.'),
    intervalMs: z.number().positive().default(1000).describe('Time between two checkpoints.'),
    keep: atLeast(1).default(3).describe('How many are kept.'),
    onFailure: z
      .enum(['stop', 'continue'])
      .default('stop')
      .describe('Whether a checkpoint that cannot be written ends the run.'),
    timeoutMs: z
      .number()
      .positive()
      .default(60_000)
      .describe('Longest that one operation of the disk may take; then the checkpoint has failed.'),
  })
  .describe('Makes the run resumable by troupe run --resume.');

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
  source: sourceSchema.describe(
    'Where records come from; exactly one of file, files, stdin, http, sse, redis, postgres.',
  ),
  steps: z.array(stepSchema).default([]).describe('What happens to a record, in order. Each step has exactly one key.'),
  sink: sinkSchema.describe('Where results go; exactly one of file, stdout, http, sse, redis, postgres.'),
  deadLetters: z
    .strictObject({ file: path('A file that gets one line per failed record, with its error.') })
    .optional()
    .describe('Where failed records go; without it they are only counted.'),
  checkpoint: checkpointSchema.optional(),
  closeTimeoutMs: z
    .number()
    .positive()
    .default(60_000)
    .describe('Longest that the source, a step or the sink may take to close at the end of the run.'),
});

export const controlSchema = z.strictObject({
  socket: path(
    'Unix socket, in a directory that nobody else can enter; <name>.sock in a private directory of the user without it.',
  ).optional(),
});

export const configSchema = z.strictObject({
  name: nameSchema.default('troupe').describe('Name of the system, for logs and reports.'),
  models: modelsSchema.describe('Where models lie, and own names of their versions.'),
  startsAtOnce: z
    .number()
    .int()
    .min(1)
    .optional()
    .describe(
      'Threads and child processes of all pools together that start at the same time; twice as many as there are CPUs to use, and 4 at least, without it.',
    ),
  pools: z.record(nameSchema, poolOptionsSchema).default({}).describe('Pools by name, each with the options of spawn.'),
  pipelines: z.record(nameSchema, pipelineSchema).default({}).describe('Pipelines by name.'),
  control: controlSchema
    .optional()
    .describe('Lets troupe repl, ps, swap and the others reach the system while it runs.'),
  tracing: z
    .boolean()
    .default(false)
    .describe('Makes a span for each batch, with the tracer that the process has registered with @opentelemetry/api.'),
  metrics: metricsSchema
    .optional()
    .describe('Serves /metrics, /health/live and /health/ready over HTTP while the system runs; not without it.'),
  serve: serveSchema
    .optional()
    .describe('Serves the pools by the Open Inference Protocol over HTTP; not without it, but with troupe serve.'),
});

/** As a user writes it. */
export type ConfigInput = z.input<typeof configSchema>;
/** Every default filled in. */
export type Config = z.output<typeof configSchema>;
export type PipelineConfig = z.output<typeof pipelineSchema>;
export type InferConfig = z.output<typeof inferSchema>;

/** Keys of an infer step that name functions. */
export const INFER_FUNCTIONS = ['bypass', 'input', 'output', 'failed', 'key'] as const;

/** `infer.model` is a name, or a reference to what gives one; no name holds a `#`. */
export function isReference(text: string): boolean {
  return text.includes('#');
}

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

/** A key of the kind that was not chosen is a mistake, not something to pass over. */
function belongsTo(
  kind: string,
  value: Readonly<Record<string, unknown>>,
  keys: readonly string[],
  context: IssueSink,
): void {
  if (value[kind] !== undefined) return;
  for (const key of keys) {
    if (value[key] !== undefined)
      context.addIssue({ code: 'custom', path: [key], message: `${key} belongs to ${kind}` });
  }
}

function exactlyOne(value: Readonly<Record<string, unknown>>, keys: readonly string[], context: IssueSink): void {
  const given = keys.filter((key) => value[key] !== undefined);
  if (given.length === 1) return;
  const found = given.length === 0 ? 'none' : given.join(' and ');
  context.addIssue({ code: 'custom', message: `expected exactly one of ${keys.join(', ')}; found ${found}` });
}
