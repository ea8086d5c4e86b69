import type { PoolState } from '../state.js';
import { button, element, setText } from './element.js';
import { countText, percentText } from './figures.js';
import { shadowWords } from './words.js';

const STEPS = [
  ['loading', 'load'],
  ['verifying', 'verify'],
  ['baking', 'trial'],
  ['promoted', 'promote'],
  ['draining', 'drain the old'],
] as const;

export interface RolloutActions {
  promote(): void;
  rollBack(): void;
}

/** A swap that is under way: where it stands, and what can be done about it. */
export class RolloutPanel {
  readonly node: HTMLElement;
  readonly #title = element('h3');
  readonly #words = element('p');
  readonly #steps = STEPS.map(([, words]) => element('li', {}, words));
  readonly #promote: HTMLButtonElement;
  readonly #rollBack: HTMLButtonElement;

  constructor(actions: RolloutActions) {
    this.#promote = button('Promote', 'primary', () => actions.promote());
    this.#rollBack = button('Roll back', 'warn', () => actions.rollBack());
    this.node = element(
      'section',
      { class: 'rollout', 'aria-label': 'Swap under way' },
      element('div', { class: 'rollout-words' }, this.#title, this.#words),
      element('ol', { class: 'steps' }, ...this.#steps),
      element('div', { class: 'rollout-buttons' }, this.#promote, this.#rollBack),
    );
  }

  show(state: PoolState): void {
    const { rollout } = state;
    this.node.hidden = rollout === null;
    if (rollout === null) return;
    setText(this.#title, titleOf(state));
    setText(this.#words, wordsOf(state));
    const at = STEPS.findIndex(([step]) => step === rollout.step);
    for (const [index, item] of this.#steps.entries()) {
      item.className = index < at ? 'done' : index === at ? 'now' : '';
      if (index === at) item.setAttribute('aria-current', 'step');
      else item.removeAttribute('aria-current');
    }
    this.#promote.hidden = rollout.step !== 'baking';
    if (!this.#promote.hidden) setText(this.#promote, `Promote version ${rollout.to ?? ''}`);
    this.#rollBack.hidden = !['loading', 'verifying', 'baking'].includes(rollout.step);
  }
}

function titleOf({ version, rollout }: PoolState): string {
  if (rollout?.to === null || rollout === null) return `Version ${version ?? 'none'} has taken over`;
  return `Version ${rollout.to} in the place of ${version ?? 'none'}`;
}

function wordsOf({ rollout, readyCount, replicaCount }: PoolState): string {
  switch (rollout?.step) {
    case 'loading':
      return `It loads beside the one that serves: ${readyCount} of ${replicaCount} replicas are ready.`;
    case 'verifying':
      return 'It answers probe records before it is given work.';
    case 'baking': {
      const { share, sent, shadow } = rollout;
      if (shadow !== null) return shadowWords(shadow);
      if (sent === null) return 'It has all of the records and is watched; the old one waits beside it.';
      const all = sent.old + sent.new;
      const seen =
        all === 0 ? '' : `, ${percentText(sent.new / all)} so far: ${countText(sent.new)} of ${countText(all)}`;
      return `It is on trial with ${percentText(share ?? 0)} of the records${seen}.`;
    }
    case 'draining':
      return 'The version before finishes its last batches.';
    default:
      return '';
  }
}
