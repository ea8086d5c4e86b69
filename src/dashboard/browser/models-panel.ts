import type { ModelsState } from '../state.js';
import { element, setText } from './element.js';
import { bytesText } from './figures.js';
import type { VersionColours } from './versions.js';
import { modelsWords, shelfWords } from './words.js';

/** Which models the replicas of a pool hold, and how full they are. */
export class ModelsPanel {
  readonly node: HTMLElement;
  readonly #words = element('p', { class: 'quiet' });
  readonly #replicas = element('ul', { class: 'shelves' });

  constructor(private readonly colours: VersionColours) {
    this.node = element('section', { class: 'traffic models', 'aria-label': 'Models' }, this.#words, this.#replicas);
  }

  show(models: ModelsState | null): void {
    this.node.hidden = models === null;
    if (models === null) return;
    setText(this.#words, modelsWords(models));
    this.#replicas.replaceChildren(...models.replicas.map((shelf) => this.#shelf(shelf, models)));
  }

  #shelf(shelf: ModelsState['replicas'][number], models: ModelsState): HTMLElement {
    const bar = element('div', { class: 'traffic-bar', 'aria-hidden': 'true' });
    const legend = element('ul', { class: 'legend' });
    let free = models.maxBytes;
    for (const { name, bytes, state, isPinned } of shelf.held) {
      const colour = this.colours.of(name);
      const part = element('span', { class: `traffic-part ${colour}` });
      part.style.flexGrow = String(bytes);
      bar.append(part);
      free -= bytes;
      const words = [name, bytesText(bytes), ...(state === 'ready' ? [] : [state]), ...(isPinned ? ['pinned'] : [])];
      const swatch = element('span', { class: `swatch ${colour}`, 'aria-hidden': 'true' });
      legend.append(element('li', {}, swatch, words.join(' · ')));
    }
    const room = element('span', { class: 'room' });
    room.style.flexGrow = String(Math.max(0, free));
    bar.append(room);
    const hidden = shelf.heldCount - shelf.held.length;
    if (hidden > 0) legend.append(element('li', {}, `and ${hidden} more`));
    return element('li', {}, element('p', {}, shelfWords(shelf, models)), bar, legend);
  }
}
