import { button, element, setAttribute, setText } from './element.js';
import type { Session } from './session.js';

export interface SwapActions {
  /** `model`: which one, in a pool of many. */
  swap(version: string, model: string | undefined): void;
  canary(version: string, share: number): void;
  rollBack(): void;
}

/** Names that are offered to choose from. */
const KNOWN_MAX = 200;

/** Chooses a version and what is to be done with it. */
export class SwapForm {
  readonly node: HTMLElement;
  readonly #models: HTMLInputElement;
  readonly #modelPart: HTMLElement;
  readonly #canaryPart: HTMLElement;
  readonly #versions: HTMLInputElement;
  readonly #known: HTMLDataListElement;
  readonly #percent: HTMLInputElement;
  readonly #back: HTMLButtonElement;
  readonly #swap: HTMLButtonElement;
  readonly #canary: HTMLButtonElement;

  constructor(
    private readonly pool: string,
    /** Makes ids that no other form has. */
    number: number,
    private readonly session: Session,
    actions: SwapActions,
    complain: (message: string) => void,
  ) {
    const id = `versions-${number}`;
    const word = { autocomplete: 'off', spellcheck: 'false', maxlength: '128' };
    this.#known = element('datalist', { id });
    this.#models = element('input', { ...word, id: `model-${number}`, class: 'model-input', list: id });
    this.#versions = element('input', {
      ...word,
      id: `version-${number}`,
      class: 'version-input',
      placeholder: 'such as 2',
    });
    this.#modelPart = element(
      'span',
      { class: 'canary' },
      element('label', { for: `model-${number}` }, 'Model'),
      this.#models,
    );
    this.#percent = element('input', {
      id: `percent-${number}`,
      class: 'percent-input',
      type: 'number',
      min: '1',
      max: '99',
      value: '10',
    });
    const chosen = (act: (version: string) => void): void => {
      const version = this.#versions.value.trim();
      if (version !== '') return act(version);
      complain('Say which version first.');
      this.#versions.focus();
    };
    this.#swap = button('Swap', 'plain', () => {
      const model = this.#modelPart.hidden ? undefined : this.#models.value.trim();
      if (model !== '') return chosen((version) => actions.swap(version, model));
      complain('Say which model first.');
      this.#models.focus();
    });
    this.#canary = button('Canary', 'plain', () => {
      const percent = this.#percent.valueAsNumber;
      if (percent > 0 && percent < 100) return chosen((version) => actions.canary(version, percent / 100));
      complain('A canary has more than 0 % of the records and less than 100 %.');
    });
    this.#back = button('Roll back', 'plain', () => actions.rollBack());
    this.#canaryPart = element(
      'span',
      { class: 'canary' },
      this.#canary,
      'with',
      this.#percent,
      element('label', { for: `percent-${number}` }, '% of the records'),
    );
    for (const input of [this.#models, this.#versions]) input.addEventListener('focus', () => void this.load());
    this.node = element(
      'div',
      { class: 'swap-form' },
      this.#modelPart,
      element('label', { for: `version-${number}` }, 'Version'),
      this.#versions,
      this.#known,
      this.#swap,
      this.#canaryPart,
      this.#back,
    );
  }

  /** Which versions, or models, there are, as far as the system knows. */
  async load(): Promise<void> {
    const versions = await this.session.versions(this.pool);
    if (!('available' in versions)) return;
    const known = versions.available.slice(0, KNOWN_MAX);
    this.#known.replaceChildren(...known.map((value) => element('option', { value })));
  }

  /** Of many models, each is swapped at once: there is no share for a new version and no way back but a swap. */
  show(previous: string | null, isUnderWay: boolean, hasModels: boolean): void {
    this.#modelPart.hidden = !hasModels;
    this.#canaryPart.hidden = hasModels;
    // The list holds names of models then.
    setAttribute(this.#versions, 'list', hasModels ? '' : this.#known.id);
    this.#back.hidden = previous === null || isUnderWay;
    if (previous !== null) setText(this.#back, `Back to ${previous}`);
  }
}
