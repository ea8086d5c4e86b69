import type { PageState } from '../state.js';
import { element, setText } from './element.js';
import { countText, plural } from './figures.js';

const COLUMNS = ['records', 'results', 'failed', 'dead letters', 'held'] as const;

/** Pipelines that run, a line each. */
export class PipelinesPanel {
  readonly node: HTMLElement;
  readonly #rows = element('tbody');
  readonly #more = element('p', { class: 'quiet' });

  constructor() {
    const head = ['pipeline', ...COLUMNS].map((name) => element('th', { scope: 'col' }, name));
    const table = element('table', {}, element('thead', {}, element('tr', {}, ...head)), this.#rows);
    this.node = element(
      'section',
      { class: 'panel', 'aria-labelledby': 'pipelines-title' },
      element('h2', { id: 'pipelines-title' }, 'Pipelines'),
      element('div', { class: 'scroll' }, table),
      this.#more,
    );
  }

  show({ pipelines, pipelineCount }: PageState): void {
    this.node.hidden = pipelineCount === 0;
    while (this.#rows.children.length > pipelines.length) this.#rows.lastElementChild?.remove();
    for (const [index, { name, records, results, failed, deadLetters, held }] of pipelines.entries()) {
      const row = this.#rows.children[index] ?? this.#rows.appendChild(emptyRow());
      const texts = [name, ...[records, results, failed, deadLetters, held].map(countText)];
      for (const [column, text] of texts.entries()) setText(row.children[column] as Element, text);
    }
    const hidden = pipelineCount - pipelines.length;
    setText(this.#more, hidden > 0 ? `and ${plural(hidden, 'pipeline')} more` : '');
  }
}

function emptyRow(): HTMLElement {
  return element('tr', {}, element('th', { scope: 'row' }), ...COLUMNS.map(() => element('td')));
}
