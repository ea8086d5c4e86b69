import { button, element, setText } from './element.js';
import type { Session } from './session.js';

export interface SwapActions {
  swap(version: string): void;
  canary(version: string, share: number): void;
  rollBack(): void;
}

/** Chooses a version and what is to be done with it. */
export class SwapForm {
  readonly node: HTMLElement;
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
    this.#known = element('datalist', { id });
    this.#versions = element('input', {
      id: `version-${number}`,
      class: 'version-input',
      list: id,
      placeholder: 'such as 2',
      autocomplete: 'off',
      spellcheck: 'false',
      maxlength: '128',
    });
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
    this.#swap = button('Swap', 'plain', () => chosen(actions.swap));
    this.#canary = button('Canary', 'plain', () => {
      const percent = this.#percent.valueAsNumber;
      if (percent > 0 && percent < 100) return chosen((version) => actions.canary(version, percent / 100));
      complain('A canary has more than 0 % of the records and less than 100 %.');
    });
    this.#back = button('Roll back', 'plain', () => actions.rollBack());
    this.#versions.addEventListener('focus', () => void this.load());
    this.node = element(
      'div',
      { class: 'swap-form' },
      element('label', { for: `version-${number}` }, 'Version'),
      this.#versions,
      this.#known,
      this.#swap,
      element('span', { class: 'canary' }, this.#canary, 'with', this.#percent),
      element('label', { for: `percent-${number}` }, '% of the records'),
      this.#back,
    );
  }

  /** Which versions there are, as far as the system knows. */
  async load(): Promise<void> {
    const versions = await this.session.versions(this.pool);
    if (!('available' in versions)) return;
    this.#known.replaceChildren(...versions.available.map((value) => element('option', { value })));
  }

  show(previous: string | null, isUnderWay: boolean): void {
    this.#back.hidden = previous === null || isUnderWay;
    if (previous !== null) setText(this.#back, `Back to ${previous}`);
  }
}
