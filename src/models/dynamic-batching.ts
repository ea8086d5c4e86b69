import type { ModelConfig } from './model-config-fields.js';

/** What Triton refuses of a `dynamic_batching`, and what of it an option of a pool can say. */

type Batching = NonNullable<ModelConfig['dynamic_batching']>;

/** The most that `mailbox.priorityLevels` takes. */
const LEVELS_MAX = 65_536;

/** `refuse` throws, with the place of a field. */
export function checkDynamicBatching(
  { max_batch_size: maxBatch = 0, dynamic_batching: batching = {} }: ModelConfig,
  refuse: (field: string, problem: string) => never,
): void {
  for (const size of batching.preferred_batch_size ?? []) {
    if (size < 1 || size > maxBatch)
      refuse(
        'dynamic_batching.preferred_batch_size',
        `expected sizes from 1 to max_batch_size, which is ${maxBatch}; found ${size}`,
      );
  }
  const { priority_levels: levels = 0, default_priority_level: normal = 0, preserve_ordering: isOrdered } = batching;
  const policies = Object.keys(batching.priority_queue_policy ?? {}).map(Number);
  if (levels > LEVELS_MAX)
    refuse('dynamic_batching.priority_levels', `expected at most ${LEVELS_MAX} levels, found ${levels}`);
  if (levels > 0) {
    if (normal < 1 || normal > levels)
      refuse(
        batching.default_priority_level === undefined
          ? 'dynamic_batching.priority_levels'
          : 'dynamic_batching.default_priority_level',
        `expected a default_priority_level from 1 to priority_levels, which is ${levels}; found ${normal}`,
      );
    const other = policies.find((level) => level < 1 || level > levels);
    if (other !== undefined)
      refuse(
        'dynamic_batching.priority_queue_policy',
        `expected keys from 1 to priority_levels, which is ${levels}; found ${other}`,
      );
  }
  if (isOrdered !== true) return;
  if (levels > 1)
    refuse('dynamic_batching.preserve_ordering', `expected one level of priority beside it, found ${levels}`);
  if ([batching.default_queue_policy ?? {}, ...Object.values(batching.priority_queue_policy ?? {})].some(delays))
    refuse('dynamic_batching.preserve_ordering', 'expected no timeout_action DELAY beside it');
}

/** How long a record may wait, in milliseconds; undefined for as long as it must. */
export function maxWaitMsOf({ default_queue_policy: policy = {} }: Batching): number | undefined {
  const { default_timeout_microseconds: timeout = 0 } = policy;
  // What is delayed is not refused.
  return timeout === 0 || delays(policy) ? undefined : timeout / 1000;
}

function delays({
  timeout_action: action,
  default_timeout_microseconds: timeout = 0,
}: NonNullable<Batching['default_queue_policy']>): boolean {
  return action === 'DELAY' && timeout > 0;
}
