import type { ModelConfig } from './model-config-fields.js';

/** What `metric_tags` may say, so that any of it can be a label of the metrics. */

const TAGS_MAX = 8;
const VALUE_LENGTH_MAX = 256;

/** The label has an underscore before it, and names with two are kept for Prometheus itself. */
const NAME = /^[a-zA-Z][a-zA-Z0-9_]{0,127}$/;

/** `refuse` throws, with the place of a field or of an entry of its map. */
export function checkMetricTags(
  { metric_tags: tags = {} }: ModelConfig,
  refuse: (field: string, problem: string, holder?: object, key?: string) => never,
): void {
  const found = Object.entries(tags);
  const surplus = found[TAGS_MAX];
  if (surplus !== undefined)
    refuse('metric_tags', `expected at most ${TAGS_MAX} tags, found ${found.length}`, tags, surplus[0]);
  for (const [name, value] of found) {
    const told = JSON.stringify(name.slice(0, 200));
    if (!NAME.test(name))
      refuse(
        'metric_tags',
        `expected names of letters, digits and _ that begin with a letter, found ${told}`,
        tags,
        name,
      );
    if (value.length > VALUE_LENGTH_MAX)
      refuse(
        'metric_tags',
        `${told}: expected a value of at most ${VALUE_LENGTH_MAX} characters, found ${value.length}`,
        tags,
        name,
      );
  }
}
