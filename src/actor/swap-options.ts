import { type RolloutRules, type SwapStrategy, AT_ONCE } from '../core/rollout.js';
import type { ShadowRules } from '../core/shadow.js';
import { TRIAL_DEFAULTS } from '../core/trial.js';
import { checkOptions } from './ask.js';
import type { Verification } from './verification.js';

/** How a version is brought in. Without any: as soon as it is up it gets everything, for good. */
export interface SwapOptions {
  /** Which one, in a pool of many models; then no other option is taken. */
  readonly model?: string;
  /**
   * Where the new version is loaded. `beside` the old one, which serves meanwhile; both must fit. `rolling`: one replica after
   * the other in the place of an old one. `recreate`: when the old one has gone; records wait in the mailbox until then.
   * Default `beside`.
   */
  readonly strategy?: SwapStrategy;
  /**
   * Share of the records for the new version while it bakes, above 0 and below 1. Records with a key stick to one
   * version. Without it the new version gets all of them from the shift on.
   */
  readonly canary?: number;
  /**
   * How long the new version is watched before the old one is let go, in milliseconds; until then the way back costs
   * nothing. Default 30,000 with canary or shadow, else 0.
   */
  readonly bakeMs?: number;
  /**
   * How long the old version stays loaded, without work, once the new one is promoted, in milliseconds: `rollback()` takes
   * no time until then. It costs the memory of both. Default 0.
   */
  readonly keepPreviousMs?: number;
  /**
   * Instead of a canary: the new version is only shown a share of the records, callers get what the old one answers, and the
   * answers are compared. A number is the share, above 0; 1 for all of them.
   */
  readonly shadow?: number | ShadowOptions;
  /** Probe records that the new version must answer before it is given work. */
  readonly verify?: Verification;
  /** When the new version is rolled back by itself while it bakes. */
  readonly rollbackOn?: RollbackRules;
}

export interface ShadowOptions {
  /** Share of the records that the new version is shown. Default 1. */
  readonly share?: number;
  /** How far a number may be off: by this much, or by this part of it where it is larger than 1. Default 0. */
  readonly tolerance?: number;
  /** With a smaller share of equal answers it is rolled back when `bakeMs` is over, 0 to 1. Default 0.99. */
  readonly minAgreement?: number;
}

export interface RollbackRules {
  /** By how much the share of failed records may exceed the old version's, 0 to 1. Default 0.05. */
  readonly errorRate?: number;
  /** A batch is slow when it takes so many times as long as the old version's of the same size; above 1. Default 2. */
  readonly latencyFactor?: number;
  /** Fewer results of the new version than this prove nothing. Default 20. */
  readonly minRecords?: number;
}

/** A swap as it was asked for, checked and with its defaults. */
export interface SwapPlan {
  readonly version: string;
  readonly rules: RolloutRules;
  readonly verify: Verification | undefined;
  /** For what a shadow answers. */
  readonly tolerance: number;
}

export const STRATEGIES: readonly SwapStrategy[] = ['beside', 'rolling', 'recreate'];

const TRIAL_BAKE_MS = 30_000;
const MIN_AGREEMENT = 0.99;
const TIME_MAX_MS = 2 ** 40;

/** Wrong options throw a TypeError that names option, expectation and value. */
export function planSwap(version: unknown, options: SwapOptions): SwapPlan {
  if (typeof version !== 'string' && typeof version !== 'number')
    throw new TypeError(`swap: expected a version, such as 2 or 'latest', got a value of type ${typeof version}`);
  checkOptions('swap', options);
  refuseUnknown('swap', options, ['strategy', 'canary', 'shadow', 'bakeMs', 'keepPreviousMs', 'verify', 'rollbackOn']);
  const { strategy = 'beside', canary, shadow, verify, rollbackOn, keepPreviousMs = 0 } = options;
  if (!STRATEGIES.includes(strategy))
    throw new TypeError(`swap: strategy must be one of ${STRATEGIES.join(', ')}, got ${String(strategy)}`);
  const needsBoth = Object.entries({
    canary,
    shadow,
    keepPreviousMs: keepPreviousMs === 0 ? undefined : keepPreviousMs,
  });
  for (const [name, value] of needsBoth)
    if (strategy !== 'beside' && value !== undefined)
      throw new TypeError(`swap: ${name} needs both versions loaded, which strategy ${strategy} avoids`);
  if (canary !== undefined && !(isNumber(canary) && canary > 0 && canary < 1))
    throw new TypeError(`swap: canary must be a number above 0 and below 1, got ${String(canary)}`);
  if (canary !== undefined && shadow !== undefined)
    throw new TypeError('swap: canary and shadow exclude each other: a shadow answers no record, a canary does');
  const shown = shadow === undefined ? undefined : shadowPlan(shadow);
  const trial = canary === undefined ? (shown === undefined ? undefined : 'shadow') : 'canary';
  const { bakeMs = trial === undefined ? 0 : TRIAL_BAKE_MS } = options;
  checkTime('bakeMs', bakeMs);
  checkTime('keepPreviousMs', keepPreviousMs);
  if (trial !== undefined && bakeMs === 0)
    throw new TypeError(`swap: ${trial} needs a bakeMs above 0: with 0 the new version gets everything at once`);
  if (rollbackOn !== undefined && bakeMs === 0)
    throw new TypeError('swap: rollbackOn needs a bakeMs above 0: with 0 nothing is watched');
  if (verify !== undefined) checkVerification(verify);
  const rules: RolloutRules = {
    ...AT_ONCE,
    strategy,
    share: canary ?? 1,
    ...(shown === undefined ? {} : { shadow: shown.rules }),
    bakeMs,
    keepMs: keepPreviousMs,
    verifies: verify !== undefined,
    ...(rollbackOn === undefined ? {} : { rollbackOn: trialLimits(rollbackOn) }),
  };
  return { version: String(version), rules, verify, tolerance: shown?.tolerance ?? 0 };
}

/** Two callers who want the very same thing share one swap. */
export function isSamePlan(one: SwapPlan, other: SwapPlan): boolean {
  const sameProbes =
    one.verify?.records === other.verify?.records &&
    one.verify?.expect === other.verify?.expect &&
    one.verify?.tolerance === other.verify?.tolerance;
  const isSame = sameProbes && one.version === other.version && one.tolerance === other.tolerance;
  return isSame && JSON.stringify(one.rules) === JSON.stringify(other.rules);
}

function checkVerification(verify: Verification): void {
  checkOptions('swap: verify', verify);
  refuseUnknown('swap: verify', verify, ['records', 'expect', 'tolerance']);
  const { records, expect, tolerance = 0 } = verify;
  if (!Array.isArray(records) || records.length === 0)
    throw new TypeError('swap: verify.records must be an array of at least one record');
  if (expect !== undefined && (!Array.isArray(expect) || expect.length !== records.length))
    throw new TypeError(
      `swap: verify.expect must be an array of as many results as there are records, ${records.length}`,
    );
  if (!isNumber(tolerance) || tolerance < 0)
    throw new TypeError(`swap: verify.tolerance must be a number of at least 0, got ${String(tolerance)}`);
}

function checkTime(name: string, ms: unknown): void {
  if (isNumber(ms) && ms >= 0 && ms <= TIME_MAX_MS) return;
  throw new TypeError(`swap: ${name} must be a number of milliseconds from 0 to ${TIME_MAX_MS}, got ${String(ms)}`);
}

function shadowPlan(shadow: number | ShadowOptions): { readonly rules: ShadowRules; readonly tolerance: number } {
  const given = typeof shadow === 'number' ? { share: shadow } : shadow;
  checkOptions('swap: shadow', given);
  refuseUnknown('swap: shadow', given, ['share', 'tolerance', 'minAgreement']);
  const { share = 1, tolerance = 0, minAgreement = MIN_AGREEMENT } = given;
  if (!isNumber(share) || share <= 0 || share > 1)
    throw new TypeError(`swap: shadow.share must be a number above 0 and at most 1, got ${String(share)}`);
  if (!isNumber(tolerance) || tolerance < 0)
    throw new TypeError(`swap: shadow.tolerance must be a number of at least 0, got ${String(tolerance)}`);
  if (!isNumber(minAgreement) || minAgreement < 0 || minAgreement > 1)
    throw new TypeError(`swap: shadow.minAgreement must be a number from 0 to 1, got ${String(minAgreement)}`);
  return { rules: { share, minAgreement }, tolerance };
}

function trialLimits(given: RollbackRules): RolloutRules['rollbackOn'] {
  checkOptions('swap: rollbackOn', given);
  refuseUnknown('swap: rollbackOn', given, ['errorRate', 'latencyFactor', 'minRecords']);
  const { errorRate, latencyFactor, minRecords } = { ...TRIAL_DEFAULTS, ...given };
  if (!isNumber(errorRate) || errorRate < 0 || errorRate > 1)
    throw new TypeError(`swap: rollbackOn.errorRate must be a number from 0 to 1, got ${String(errorRate)}`);
  if (!isNumber(latencyFactor) || latencyFactor <= 1)
    throw new TypeError(`swap: rollbackOn.latencyFactor must be a number above 1, got ${String(latencyFactor)}`);
  if (!Number.isInteger(minRecords) || minRecords < 1)
    throw new TypeError(`swap: rollbackOn.minRecords must be a whole number of at least 1, got ${String(minRecords)}`);
  return { errorRate, latencyFactor, minRecords };
}

function refuseUnknown(where: string, options: object, known: readonly string[]): void {
  for (const key of Object.keys(options))
    if (!known.includes(key)) throw new TypeError(`${where}: unknown option "${key}"; expected ${known.join(', ')}`);
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && !Number.isNaN(value);
}
