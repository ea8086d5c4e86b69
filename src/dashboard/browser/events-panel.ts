import type { PageEvent } from '../state.js';
import { element, setText } from './element.js';
import type { Mark } from './history.js';

const SHOWN_MAX = 200;
const BAD = /^(died|failed|replica-failed|escalated|refused|model-failed)$/;

/** What kind of news it is, for its colour. */
export function moodOf({ kind, message }: PageEvent): Mark['kind'] {
  if (kind === 'died' && message.endsWith('it was stopped')) return 'plain';
  if (BAD.test(kind)) return 'bad';
  if (kind === 'rollout')
    return /\brolled-back\b/.test(message) ? 'bad' : /\bpromoted\b/.test(message) ? 'good' : 'plain';
  if (kind === 'audit') return /^(failed|refused):/.test(message) ? 'bad' : 'plain';
  return kind === 'restarted' || kind === 'ready' || kind === 'pool-restarted' ? 'good' : 'plain';
}

/** The newest events, the latest on top. */
export class EventsPanel {
  readonly node: HTMLElement;
  readonly #list = element('ol', { class: 'events', tabindex: '0', 'aria-label': 'Events, the latest first' });
  readonly #empty = element('p', { class: 'quiet' }, 'Nothing has happened yet.');
  #lastSeq = 0;

  constructor() {
    this.node = element(
      'section',
      { class: 'panel events-panel', 'aria-labelledby': 'events-title' },
      element('h2', { id: 'events-title' }, 'Events'),
      this.#empty,
      this.#list,
    );
  }

  /** Those that are new. After a reconnection some come again. */
  add(events: readonly PageEvent[]): readonly PageEvent[] {
    const newest = events.at(-1)?.seq ?? 0;
    // Its numbers begin anew with a new process.
    if (newest < this.#lastSeq) {
      this.#lastSeq = 0;
      this.#list.replaceChildren();
    }
    const fresh = events.filter(({ seq }) => seq > this.#lastSeq);
    for (const event of fresh) {
      const missing = this.#lastSeq === 0 ? 0 : event.seq - this.#lastSeq - 1;
      if (missing > 0) this.#list.prepend(element('li', { class: 'event missing' }, `${missing} more are not shown`));
      this.#lastSeq = event.seq;
      this.#list.prepend(row(event));
    }
    while (this.#list.children.length > SHOWN_MAX) this.#list.lastElementChild?.remove();
    this.#empty.hidden = this.#list.children.length > 0;
    return fresh;
  }
}

function row(event: PageEvent): HTMLElement {
  const { at, kind, pool, message } = event;
  const time = element('time', { datetime: at });
  setText(time, new Date(at).toLocaleTimeString('en-GB'));
  const head = element('div', { class: 'event-head' }, time, element('span', { class: 'event-kind' }, kind));
  if (pool !== undefined) head.append(element('span', { class: 'event-pool' }, pool));
  return element('li', { class: `event ${moodOf(event)}` }, head, element('p', {}, message));
}
