import { BREAKER_DEFAULTS } from '../core/breaker.js';
import type { CacheLimits } from '../core/result-cache.js';
import { z } from '../kernel/schema.js';
import { LATEST, MODEL_REF_PATTERN, NAME_RULE } from '../models/names.js';
import { nameSchema } from '../models/options.js';
import { ENSEMBLE } from './ready-made.js';

/**
 * The options of `spawn`, which are also the keys of a pool in the config file. One schema gives types, defaults,
 * validation and the reference page: every field carries its `describe` text, its unit is at the end of its name.
 */

const count = z.number().int().min(1);
/** With a bound of its own, as a second one would be told beside the first. */
const durationFrom = (leastMs: number) =>
  z
    .number()
    .min(leastMs)
    .max(2 ** 40);
const durationMs = durationFrom(0);
const sizeBytes = z.number().int().min(1);

export const mailboxSchema = z
  .strictObject({
    capacity: count.default(1024).describe('How many records may wait in the mailbox.'),
    capacityBytes: sizeBytes.default(64_000_000).describe('How many bytes of records may wait in the mailbox.'),
    overflow: z
      .enum(['reject', 'wait', 'drop-oldest', 'drop-newest'])
      .default('reject')
      .describe('What an ask meets when the mailbox is full. Stream operators always wait.'),
    ageingMs: durationMs
      .default(1000)
      .describe('A waiting record gains one level of priority each time this long has passed; 0 turns ageing off.'),
    maxWaitMs: durationFrom(1)
      .optional()
      .describe(
        'How long a record that has a deadline waits to be sent to a replica for the first time, before it ends with DEADLINE_PASSED; without it until its deadline. None is held back for company for longer than half of it.',
      ),
    priorityLevels: count
      .max(65_536)
      .optional()
      .describe(
        'How many levels of priority clients of the inference protocol may name, 1 the highest. Needs defaultPriorityLevel. Without it every number is a level, above what names none.',
      ),
    defaultPriorityLevel: count
      .max(65_536)
      .optional()
      .describe('The level of what names none, or one beyond priorityLevels; from code it is priority 0.'),
  })
  .refine(
    ({ priorityLevels: levels, defaultPriorityLevel: normal }) =>
      (levels ?? 0) >= (normal ?? 0) && !(levels !== undefined && normal === undefined),
    {
      message: 'must be given together with priorityLevels, and be one of these',
      path: ['defaultPriorityLevel'],
    },
  )
  .prefault({});

export const batchingSchema = z
  .strictObject({
    adaptive: z
      .boolean()
      .default(true)
      .describe(
        'Learn what batches cost and choose their size by it, up to maxSize; false: every batch takes as many as maxSize.',
      ),
    maxSize: count.max(65_536).default(32).describe('Most records in one batch.'),
    maxBytes: sizeBytes
      .default(16_000_000)
      .describe('Most bytes of records in one batch; a single larger record goes alone.'),
    maxWeight: z
      .number()
      .positive()
      .optional()
      .describe('Most weight in one batch, where records carry a weight (tokens, pixels).'),
    maxDelayMs: durationMs
      .default(0)
      .describe('How long the oldest record may wait for company while a replica is idle; 0 sends at once.'),
    targetLatencyMs: durationMs
      .optional()
      .describe(
        'Time in the system to aim at: no batch is made so large that a record which waits for one before its own takes longer, and none is held back beyond it.',
      ),
    maxInFlight: count
      .max(16)
      .default(1)
      .describe('Batches a replica may hold at once: one running, the others staged.'),
    maxStreams: count
      .max(4096)
      .default(32)
      .describe(
        'Token streams with which a replica takes no further batch; one in flight may begin as many more as it has records.',
      ),
  })
  .prefault({});

export const restartSchema = z
  .strictObject({
    max: z
      .number()
      .int()
      .min(0)
      .default(5)
      .describe('Restart intensity: how many deaths are forgiven within withinMs; one more and the pool has failed.'),
    withinMs: durationMs.default(60_000).describe('The window over which deaths are counted.'),
    backoffMs: durationMs
      .default(100)
      .describe(
        'Wait before the second restart in a row without a finished batch in between; doubles from there. The first is immediate.',
      ),
    maxBackoffMs: durationMs.default(30_000).describe('Longest wait before a restart.'),
    jitter: z
      .number()
      .min(0)
      .max(1)
      .default(0.2)
      .describe('Share of the wait that is random, so that replicas do not restart in step.'),
    quarantineMax: z
      .number()
      .int()
      .min(0)
      .default(20)
      .describe('Deaths blamed on single records that are forgiven within withinMs; they do not count against max.'),
    type: z
      .enum(['permanent', 'transient', 'temporary'])
      .default('permanent')
      .describe('When a replica that ended is started again: always, only after an abnormal end, never.'),
    strategy: z
      .enum(['one-for-one', 'rest-for-one', 'one-for-all'])
      .default('one-for-one')
      .describe('Which replicas are restarted when one dies.'),
  })
  .prefault({});

export const breakerSchema = z.strictObject({
  windowMs: durationFrom(1).default(BREAKER_DEFAULTS.windowMs).describe('How far back calls count.'),
  minCalls: count
    .default(BREAKER_DEFAULTS.minCalls)
    .describe('Fewer calls than this in the window never open the breaker.'),
  failureRate: z
    .number()
    .positive()
    .max(1)
    .default(BREAKER_DEFAULTS.failureRate)
    .describe('Share of failed calls that opens it.'),
  openMs: durationMs
    .default(BREAKER_DEFAULTS.openMs)
    .describe('How long it stays open before calls are let through to probe.'),
  probes: count
    .default(BREAKER_DEFAULTS.probes)
    .describe('Calls let through at once while it probes; as many successes close it, one failure opens it again.'),
});

export const scalingSchema = z
  .strictObject({
    min: z
      .number()
      .int()
      .min(0)
      .max(1024)
      .default(1)
      .describe('Least replicas; 0: a pool without work has none, and the first record that comes waits for the load.'),
    max: count
      .max(1024)
      .optional()
      .describe('Most replicas; without it as many as there are CPUs that the process may use.'),
    targetWaitMs: durationFrom(1)
      .default(100)
      .describe('More replicas, when records wait longer than this all the time while every replica works.'),
    targetUtilization: z
      .number()
      .positive()
      .max(1)
      .default(0.8)
      .describe('Share of their time that replicas are to work: more are added above it, fewer are kept below it.'),
    upAfterMs: durationFrom(10)
      .default(2000)
      .describe('How long the load must last before replicas are added, and again before more are.'),
    downAfterMs: durationFrom(10)
      .default(60_000)
      .describe('How long fewer replicas must have done before some are taken away.'),
    idleAfterMs: durationFrom(10).default(300_000).describe('With min 0: how long without work before the last goes.'),
  })
  .refine(({ min, max }) => max === undefined || min <= max, { message: 'min must be at most max', path: ['min'] });

export const cacheSchema = z.strictObject({
  maxBytes: sizeBytes
    .default(64_000_000)
    .describe('How many bytes the answers may hold, with what they are found by; those used longest ago go first.'),
  ttlMs: durationFrom(1)
    .optional()
    .describe('An answer older than this is not given any more; without it, only others that need its room end it.'),
});

/** A model, or one version of it: `fr`, `fr@2`, `fr@stable`. */
const modelRefSchema = z
  .string()
  .regex(MODEL_REF_PATTERN, `must be the name of a model, or name@version; each part ${NAME_RULE}`);

export const residentModelsSchema = z.strictObject({
  root: z
    .string()
    .min(1)
    .optional()
    .describe('Directory of the models, each <root>/<model>/<version>; without it those of models.roots.'),
  list: z
    .array(modelRefSchema)
    .min(1)
    .optional()
    .describe('The models that may be asked for, where not all of the directory; without directories, all there are.'),
  maxBytes: sizeBytes.describe(
    'How many bytes of models each replica may hold. A model counts with the bytes of its files, or with what load() says by usesBytes().',
  ),
  ttlMs: durationFrom(1)
    .optional()
    .describe('A model that nobody has used for this long is unloaded; without it, only when another needs its room.'),
  pin: z.array(modelRefSchema).default([]).describe('Models that every replica loads at the start and never unloads.'),
});

export const poolOptionsSchema = z
  .strictObject({
    actor: z
      .string()
      .min(1)
      .describe(
        'File URL or path of the actor module, or the name of a ready-made actor (onnx, mock, triton, http, openai, ensemble).',
      ),
    model: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Model directory in Triton layout, <model>/<version>/model.onnx; or the name of a model where models.roots are given.',
      ),
    models: residentModelsSchema
      .optional()
      .describe(
        'Makes it a pool of many models: each ask names one, which is loaded when it is first wanted. In the place of model and version.',
      ),
    version: z
      .union([nameSchema, z.number().int().min(0)])
      .default('latest')
      .transform(String)
      .describe('Model version: a number, an alias, or latest for the highest number.'),
    replicas: z
      .union([count.max(1024), scalingSchema], 'expected a whole number, or a map with min and max')
      .default(1)
      .describe('How many replicas run the actor; with min and max the pool scales by itself.'),
    isolation: z
      .enum(['inline', 'thread', 'process'])
      .optional()
      .describe('Where replicas live; without it the safe default of the actor kind.'),
    device: z
      .string()
      .regex(/^(auto|cpu|gpu:\d+)$/, 'must be auto, cpu or gpu:<n>')
      .default('auto')
      .describe('Device the actor should use.'),
    mailbox: mailboxSchema.describe('The bounded inbox of the pool.'),
    batching: batchingSchema.describe('How batches are formed.'),
    restart: restartSchema.describe('What happens when replicas die.'),
    breaker: breakerSchema
      .optional()
      .describe(
        'Circuit breaker of the pool, shared by asks and streams: refuses records with BREAKER_OPEN while too many fail. Without it there is none.',
      ),
    cache: z
      .union([z.boolean(), cacheSchema], 'expected true, false, or a map of maxBytes and ttlMs')
      .default(false)
      .describe(
        'Keeps answers, and gives them again to equal records without running the model; true: with the defaults. Only where the same record always has the same answer.',
      ),
    attempts: count
      .default(5)
      .describe('How often a record is sent at most, when replicas die under it or never started it.'),
    cancellation: z
      .enum(['signal', 'replace'])
      .default('signal')
      .describe(
        'When everybody has given up a batch that runs: signal aborts the signal predict was given and waits; replace ends the replica and starts another.',
      ),
    timeoutMs: durationMs
      .default(30_000)
      .describe('Default deadline of an ask, queueing included. Stream operators have none unless they set one.'),
    batchTimeoutMs: durationFrom(1)
      .default(30_000)
      .describe('A replica that does not answer a batch for this long is hung, and is replaced.'),
    loadTimeoutMs: durationFrom(1).default(60_000).describe('Start-up deadline: import, load and warm-up together.'),
    heartbeatMs: durationFrom(50)
      .default(1000)
      .describe('Beat of the watchdog thread in child processes; two missed beats mean hung.'),
    stopTimeoutMs: durationMs.default(5000).describe('Budget of each rung of the stop ladder: drain, unload, SIGTERM.'),
    memoryLimitBytes: sizeBytes
      .optional()
      .describe('Memory limit of a replica; beyond it the replica is ended with cause oom.'),
    options: z.record(z.string(), z.unknown()).default({}).describe('Handed to load().'),
  })
  .superRefine(({ actor, model, models, version, isolation = 'inline', cache }, context) => {
    if (actor === ENSEMBLE && cache !== false)
      context.addIssue({
        code: 'custom',
        path: ['cache'],
        message:
          'must be false for actor ensemble, whose answers change with its steps: give it to the pools of the steps',
      });
    if (actor === ENSEMBLE && model === undefined)
      context.addIssue({
        code: 'custom',
        path: ['model'],
        message: 'must be given for actor ensemble: the graph stands in the config.pbtxt of a model',
      });
    if (actor === ENSEMBLE && isolation !== 'inline')
      context.addIssue({
        code: 'custom',
        path: ['isolation'],
        message: 'must be inline for actor ensemble: it asks the pools of its own process',
      });
    if (models === undefined) return;
    const fix = 'each ask names its model and version';
    if (model !== undefined)
      context.addIssue({ code: 'custom', path: ['model'], message: `must not be given together with models: ${fix}` });
    if (version !== LATEST)
      context.addIssue({
        code: 'custom',
        path: ['version'],
        message: `must not be given together with models: ${fix}`,
      });
  });

/** What the cache of a pool may hold; undefined: it has none. */
export function cacheLimits({ cache }: Pick<ResolvedPoolOptions, 'cache'>): CacheLimits | undefined {
  if (cache === false) return undefined;
  const { maxBytes, ttlMs = Infinity } = cache === true ? cacheSchema.parse({}) : cache;
  return { maxBytes, ttlMs };
}

/** As a user writes it. */
export type PoolOptions = z.input<typeof poolOptionsSchema>;
/** Every default filled in; inner code has no `??`. */
export type ResolvedPoolOptions = z.output<typeof poolOptionsSchema>;
