import { MODEL_REF_PATTERN } from '../models/names.js';
import { nameSchema } from '../models/options.js';
import { STRATEGIES } from '../actor/swap-options.js';
import { z } from '../kernel/schema.js';

/**
 * The closed grammar of the control plane: every frame and every verb there is, each with its schema. What is not in here
 * cannot be said over the socket. One line of JSON is one frame.
 *
 *   client                                        server
 *   {"hello":{"protocol":1,"token":"…",…}}    ->
 *                                             <-  {"welcome":{…}}, or {"refused":{…}} and the end
 *   {"id":1,"verb":"scale","params":{…}}      ->
 *                                             <-  {"id":1,"value":{…}} or {"id":1,"error":{…}}
 *   {"id":2,"verb":"tail"}                    ->
 *                                             <-  {"id":2,"event":{…}} …, at last {"id":2,"value":null}
 *   {"cancel":2}                              ->  ends a tail or gives an ask up
 *   {"ping":7}                                ->
 *                                             <-  {"pong":7}
 */

/** Both sides speak the same one, or they do not speak. */
export const PROTOCOL = 1;

/** What a connection may do. `read` changes nothing, whatever is sent over it. */
export type Access = 'read' | 'write';

export const LIMITS = {
  /** A longer line ends the connection. */
  frameBytes: 1024 * 1024,
  /** Before the token was right. */
  helloBytes: 4096,
  depth: 100,
  /** A longer answer becomes an error. */
  answerBytes: 4 * 1024 * 1024,
  /** What one peer may leave unread. */
  unreadBytes: 8 * 1024 * 1024,
  /** Events are left out, and counted, for a peer that has this much unread. */
  unreadEventBytes: 256 * 1024,
  connections: 16,
  callsAtOnce: 32,
  helloMs: 5000,
  /** A connection that sends nothing for this long is ended; clients send a ping more often. */
  idleMs: 60_000,
  events: 1000,
} as const;

const pool = nameSchema.describe('Name of a pool.');
const version = z.union([nameSchema, z.number().int().min(0)]).transform(String);

const model = z.string().regex(MODEL_REF_PATTERN, 'must be the name of a model, or name@version');

/** How a word of a command line becomes a parameter; a file becomes absolute. */
export type WordKind = 'text' | 'number' | 'json' | 'file';

export interface Verb {
  readonly access: Access;
  readonly params: z.ZodType;
  /** Parameters in the order of their places, in a command and in a call. */
  readonly places: readonly { readonly name: string; readonly kind: WordKind; readonly isOptional?: true }[];
  /** Further parameters, by their name: --bake-ms 500 in a command, { bakeMs: 500 } in a call. */
  readonly options: readonly { readonly name: string; readonly kind: WordKind; readonly what: string }[];
  /** One line for help. */
  readonly what: string;
  /** As it stands in a REPL. */
  readonly example: string;
}

const POOL = { name: 'pool', kind: 'text' } as const;
const POOL_OR_ALL = { ...POOL, isOptional: true } as const;
const FILE = { name: 'file', kind: 'file', isOptional: true } as const;
const file = z
  .string()
  .max(4096)
  .regex(/^(?:\/|[A-Za-z]:[\\/])/, 'must be an absolute path');
const timeoutMs = z.number().min(0).max(3_600_000);
const timeMax = 2 ** 40;
const bakeMs = z.number().positive().max(timeMax);
const keepPreviousMs = z.number().min(0).max(timeMax);
const SHARE = 'must be a share above 0 and below 1, such as 0.1 for a tenth';
const share = z.number(SHARE).gt(0, SHARE).lt(1, SHARE);
const tolerance = z.number().min(0);
const minAgreement = z.number().min(0).max(1);
const SHOWN = 'must be a share above 0 and at most 1, such as 0.1 for a tenth';
const shownShare = z.number(SHOWN).gt(0, SHOWN).max(1, SHOWN);
const shadow = z.union([
  shownShare,
  z.strictObject({
    share: shownShare.optional(),
    tolerance: tolerance.optional(),
    minAgreement: minAgreement.optional(),
  }),
]);
const rollbackOn = z.strictObject({
  errorRate: z.number().min(0).max(1).optional(),
  latencyFactor: z.number().gt(1).optional(),
  minRecords: z.number().int().min(1).optional(),
});
const verify = z.strictObject({
  records: z.array(z.unknown()).min(1).max(1000),
  expect: z.array(z.unknown()).optional(),
  tolerance: tolerance.optional(),
});
const VERIFY = {
  name: 'verify',
  kind: 'json',
  what: 'what it must answer first: { records, expect, tolerance }',
} as const;
const BAKE = {
  name: 'bakeMs',
  kind: 'number',
  what: 'how long the new version is watched before the old one goes',
} as const;
const KEEP = {
  name: 'keepPreviousMs',
  kind: 'number',
  what: 'how long the old version stays loaded, for a rollback at once',
} as const;
const MIN_AGREEMENT = {
  name: 'minAgreement',
  kind: 'number',
  what: 'with a smaller share of equal answers it is rolled back in the end; 0.99',
} as const;
const MODEL = { name: 'model', kind: 'text' } as const;
const ROLLBACK_ON = {
  name: 'rollbackOn',
  kind: 'json',
  what: 'when it is rolled back by itself: { errorRate, latencyFactor, minRecords }',
} as const;

export const VERBS = {
  ps: {
    access: 'read',
    params: z.strictObject({}),
    places: [],
    options: [],
    what: 'pools and pipelines, one line each',
    example: 'ps()',
  },
  stats: {
    access: 'read',
    params: z.strictObject({ pool: pool.optional() }),
    places: [POOL_OR_ALL],
    options: [],
    what: 'every figure of one pool, or of all',
    example: `stats('filetype')`,
  },
  versions: {
    access: 'read',
    params: z.strictObject({ pool }),
    places: [POOL],
    options: [],
    what: 'what serves, what is being rolled out, and which versions there are',
    example: `versions('filetype')`,
  },
  explain: {
    access: 'read',
    params: z.strictObject({ pool: pool.optional() }),
    places: [POOL_OR_ALL],
    options: [],
    what: 'every setting that is in force, and where it came from',
    example: `explain('filetype')`,
  },
  deadLetters: {
    access: 'read',
    params: z.strictObject({ pipeline: nameSchema.optional() }),
    places: [{ name: 'pipeline', kind: 'text', isOptional: true }],
    options: [],
    what: 'what failed lately in the pipelines, without the records',
    example: 'deadLetters()',
  },
  tail: {
    access: 'read',
    params: z.strictObject({ pool: pool.optional(), last: z.number().int().min(0).max(LIMITS.events).optional() }),
    places: [POOL_OR_ALL],
    options: [{ name: 'last', kind: 'number', what: 'begin with this many of the past; 10' }],
    what: 'events as they happen, until Ctrl-C',
    example: 'tail()',
  },
  plan: {
    access: 'read',
    params: z.strictObject({ file: file.optional() }),
    places: [FILE],
    options: [],
    what: 'what apply would change, by the config file as it is now',
    example: 'plan()',
  },
  ask: {
    access: 'write',
    params: z.strictObject({ pool, record: z.unknown(), timeoutMs: timeoutMs.optional(), model: model.optional() }),
    places: [POOL, { name: 'record', kind: 'json' }],
    options: [
      { name: 'timeoutMs', kind: 'number', what: 'give up after this long' },
      { name: 'model', kind: 'text', what: 'which one, in a pool of many models' },
    ],
    what: 'send one record and show what the model says',
    example: `ask('filetype', { bytes: [137, 80, 78, 71] })`,
  },
  apply: {
    access: 'write',
    params: z.strictObject({
      file: file.optional(),
      canary: share.optional(),
      bakeMs: bakeMs.optional(),
      rollbackOn: rollbackOn.optional(),
      drainTimeoutMs: timeoutMs.optional(),
    }),
    places: [FILE],
    options: [
      { name: 'canary', kind: 'number', what: 'share of the records a new version gets first' },
      BAKE,
      ROLLBACK_ON,
      {
        name: 'drainTimeoutMs',
        kind: 'number',
        what: 'how long a pool or version that goes may finish what it holds; 60,000',
      },
    ],
    what: 'bring the system to what its config file says now',
    example: 'apply()',
  },
  swap: {
    access: 'write',
    params: z.strictObject({
      pool,
      version,
      strategy: z.enum(STRATEGIES).optional(),
      canary: share.optional(),
      shadow: shadow.optional(),
      bakeMs: bakeMs.optional(),
      keepPreviousMs: keepPreviousMs.optional(),
      verify: verify.optional(),
      rollbackOn: rollbackOn.optional(),
      model: nameSchema.optional(),
    }),
    places: [POOL, { name: 'version', kind: 'text' }],
    options: [
      { name: 'canary', kind: 'number', what: 'share of the records it gets first, such as 0.1' },
      BAKE,
      {
        name: 'shadow',
        kind: 'json',
        what: 'only show it records and compare its answers: a share, or { share, tolerance, minAgreement }',
      },
      { name: 'strategy', kind: 'text', what: `where it is loaded: ${STRATEGIES.join(', ')}` },
      KEEP,
      VERIFY,
      { name: 'model', kind: 'text', what: 'which one, in a pool of many models; then without the others' },
      ROLLBACK_ON,
    ],
    what: 'bring another version in; waits until the old one is gone',
    example: `swap('filetype', 2)`,
  },
  canary: {
    access: 'write',
    params: z.strictObject({
      pool,
      version,
      share: share.default(0.1),
      bakeMs: bakeMs.optional(),
      keepPreviousMs: keepPreviousMs.optional(),
      verify: verify.optional(),
      rollbackOn: rollbackOn.optional(),
    }),
    places: [POOL, { name: 'version', kind: 'text' }, { name: 'share', kind: 'number', isOptional: true }],
    options: [BAKE, KEEP, VERIFY, ROLLBACK_ON],
    what: 'give another version a share of the records and watch it; does not wait',
    example: `canary('filetype', 2, 0.1)`,
  },
  shadow: {
    access: 'write',
    params: z.strictObject({
      pool,
      version,
      share: shownShare.default(0.1),
      tolerance: tolerance.optional(),
      minAgreement: minAgreement.optional(),
      bakeMs: bakeMs.optional(),
      keepPreviousMs: keepPreviousMs.optional(),
      verify: verify.optional(),
      rollbackOn: rollbackOn.optional(),
    }),
    places: [POOL, { name: 'version', kind: 'text' }, { name: 'share', kind: 'number', isOptional: true }],
    options: [
      { name: 'tolerance', kind: 'number', what: 'how far a number in an answer may be off; 0' },
      MIN_AGREEMENT,
      BAKE,
      KEEP,
      VERIFY,
      ROLLBACK_ON,
    ],
    what: 'show another version a share of the records and compare its answers; does not wait',
    example: `shadow('filetype', 2, 0.1)`,
  },
  promote: {
    access: 'write',
    params: z.strictObject({ pool }),
    places: [POOL],
    options: [],
    what: 'end the watch over a new version in its favour',
    example: `promote('filetype')`,
  },
  rollback: {
    access: 'write',
    params: z.strictObject({ pool }),
    places: [POOL],
    options: [],
    what: 'give up what is being rolled out, or bring back the version before',
    example: `rollback('filetype')`,
  },
  scale: {
    access: 'write',
    params: z.strictObject({
      pool,
      replicas: z
        .number('must be a number')
        .int('must be a whole number')
        .min(0, 'must be at least 0')
        .max(1024, 'must be at most 1024'),
    }),
    places: [POOL, { name: 'replicas', kind: 'number' }],
    options: [],
    what: 'change the number of replicas',
    example: `scale('filetype', 4)`,
  },
  restart: {
    access: 'write',
    params: z.strictObject({ pool }),
    places: [POOL],
    options: [],
    what: 'start the replicas anew, also those of a failed pool; nothing is lost',
    example: `restart('filetype')`,
  },
  preload: {
    access: 'write',
    params: z.strictObject({ pool, model }),
    places: [POOL, MODEL],
    options: [],
    what: 'load one of many models before anybody asks for it',
    example: `preload('translate', 'fr')`,
  },
  unload: {
    access: 'write',
    params: z.strictObject({ pool, model }),
    places: [POOL, MODEL],
    options: [],
    what: 'have one of many models go when it has no work left; who asks for it loads it again',
    example: `unload('translate', 'fr')`,
  },
  drain: {
    access: 'write',
    params: z.strictObject({ pool, timeoutMs: timeoutMs.optional() }),
    places: [POOL],
    options: [{ name: 'timeoutMs', kind: 'number', what: 'say what is left after this long; the pool goes on' }],
    what: 'finish what the pool holds and take nothing more, for good',
    example: `drain('filetype')`,
  },
} as const satisfies Record<string, Verb>;

export type VerbName = keyof typeof VERBS;
export const VERB_NAMES = Object.keys(VERBS) as VerbName[];

/** A Map: what comes over a socket is never looked up in an object. */
const BY_NAME: ReadonlyMap<string, Verb> = new Map(Object.entries(VERBS));

export function verbNamed(name: string): Verb | undefined {
  return BY_NAME.get(name);
}

export const helloSchema = z.strictObject({
  hello: z.strictObject({
    protocol: z.number().int(),
    token: z.string().max(128),
    access: z.enum(['read', 'write']).default('read'),
    /** Who it is, for the audit. */
    client: z.string().max(128).default('client'),
  }),
});

const id = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

export const requestSchema = z.union([
  z.strictObject({ id, verb: z.string().max(64), params: z.record(z.string(), z.unknown()).default({}) }),
  z.strictObject({ cancel: id }),
  z.strictObject({ ping: id }),
]);
export type Request = z.output<typeof requestSchema>;
