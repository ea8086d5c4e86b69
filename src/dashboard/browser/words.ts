import type { ModelsState, ScalingState, ShadowState } from '../state.js';
import { bytesText, countText, numberText, percentText, plural } from './figures.js';

/** What is said in sentences. Needs no browser. */

/** `It is shown 10 % of the records and answers nobody: 2 of 408 compared answers differ (99.5 % agree); …` */
export function shadowWords({ share, ...counts }: ShadowState): string {
  const { shown, compared, agreed, failed, dropped, oldMs, newMs } = counts;
  const differ =
    compared === 0
      ? 'nothing was compared yet'
      : `${countText(compared - agreed)} of ${countText(compared)} compared answers differ (${percentText(agreed / compared)} agree)`;
  const parts = [
    `It is shown ${percentText(share)} of the records and answers nobody: ${differ}`,
    `${countText(shown)} shown`,
    ...(failed === 0 ? [] : [`${countText(failed)} failed`]),
    ...(dropped === 0 ? [] : [`${countText(dropped)} left out for want of room`]),
    ...(newMs === 0 ? [] : [`${numberText(newMs)} ms a batch, the old version ${numberText(oldMs)} ms`]),
  ];
  return `${parts.join('; ')}.`;
}

/** `Scales by itself between 1 and 4: 2 replicas wanted; changed 3 times (2 queue-age, 1 calm)`; nothing where it does not. */
export function scalingWords(scaling: ScalingState | null): string {
  if (scaling === null) return '';
  const { min, max, wanted, asleep, changes } = scaling;
  const reasons = Object.entries(changes).filter(([, count]) => count > 0);
  const all = reasons.reduce((sum, [, count]) => sum + count, 0);
  const why = reasons.map(([reason, count]) => `${countText(count)} ${reason}`).join(', ');
  const now = asleep ? 'asleep until there is work' : `${plural(wanted, 'replica')} wanted`;
  const past = all === 0 ? 'not changed yet' : `changed ${plural(all, 'time')} (${why})`;
  return `Scales by itself between ${min} and ${max}: ${now}; ${past}`;
}

/** `Models: 12 loads, 1 failed, 4 evictions`. */
export function modelsWords({ loads, loadFailures, evictions }: ModelsState): string {
  const failed = loadFailures === 0 ? '' : `, ${countText(loadFailures)} failed`;
  return `Models: ${plural(loads, 'load')}${failed}, ${plural(evictions, 'eviction')}`;
}

/** `replica 0 holds 2 models, 812 MB of 1 GB`. */
export function shelfWords(
  { replica, bytes, heldCount }: ModelsState['replicas'][number],
  { maxBytes }: ModelsState,
): string {
  return `replica ${replica} holds ${plural(heldCount, 'model')}, ${bytesText(bytes)} of ${bytesText(maxBytes)}`;
}
