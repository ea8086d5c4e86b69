import type { PageEvent, PageState } from '../state.js';
import { button, element, setAttribute, setText } from './element.js';
import { EventsPanel } from './events-panel.js';
import { type FeedStatus, follow } from './feed.js';
import { durationText, plural } from './figures.js';
import { PipelinesPanel } from './pipelines-panel.js';
import { PoolCard } from './pool-card.js';
import { Session } from './session.js';
import { TokenDialog } from './token-dialog.js';

/** Puts the page together and keeps it as the system says. */

/** Of more pools the rest is folded up at first. */
const OPEN_MAX = 6;
const STATUS: Readonly<Record<FeedStatus, string>> = {
  live: 'live',
  connecting: 'connecting …',
  lost: 'no connection; the last figures stand still',
  busy: 'too many pages are open',
};

const session = new Session();
const dialog = new TokenDialog();
const cards = new Map<string, PoolCard>();
const events = new EventsPanel();
const pipelines = new PipelinesPanel();
const title = element('h1', {}, 'Troupe');
const about = element('p', { class: 'about' });
const status = element('p', { class: 'status', role: 'status' });
const lock = button('Unlock changes', 'primary', () => {
  if (session.isUnlocked) session.lock();
  else void unlock();
});
const pools = element('div', { class: 'pools' });
const noPools = element('p', { class: 'panel quiet' }, 'No pools yet. They stand here as soon as they begin to load.');
const morePools = element('p', { class: 'quiet' });
let latest: PageState | undefined;
let reader: Promise<void> | undefined;

session.onChange(() => setText(lock, session.isUnlocked ? 'Lock changes' : 'Unlock changes'));
document.body.append(
  element(
    'header',
    { class: 'top' },
    element('div', { class: 'names' }, title, about),
    element('div', { class: 'top-right' }, status, lock),
  ),
  element(
    'main',
    { class: 'layout' },
    element('div', { class: 'left' }, noPools, pools, morePools, pipelines.node),
    events.node,
  ),
  dialog.node,
);
void follow(session, { state: show, events: hear, status: tell, needToken });

function show(state: PageState): void {
  latest = state;
  document.title = `${state.system} · Troupe`;
  setText(title, state.system);
  setText(about, `pid ${state.pid} · up ${durationText(state.upMs)}`);
  lock.hidden = state.control === null;
  const names = new Set(state.pools.map(({ name }) => name));
  for (const [name, card] of cards) {
    if (names.has(name)) continue;
    card.node.remove();
    cards.delete(name);
  }
  for (const pool of state.pools) {
    let card = cards.get(pool.name);
    if (card === undefined) {
      card = new PoolCard(pool.name, cards.size < OPEN_MAX, { session, unlock });
      cards.set(pool.name, card);
      pools.append(card.node);
    }
    card.show(pool, state.at);
  }
  noPools.hidden = state.poolCount > 0;
  const hidden = state.poolCount - state.pools.length;
  setText(morePools, hidden > 0 ? `and ${plural(hidden, 'pool')} more` : '');
  pipelines.show(state);
}

function hear(all: readonly PageEvent[]): void {
  for (const event of events.add(all)) if (event.pool !== undefined) cards.get(event.pool)?.hear(event);
}

function tell(now: FeedStatus): void {
  setText(status, STATUS[now]);
  setAttribute(status, 'class', `status ${now}`);
  document.body.classList.toggle('stale', now !== 'live' && latest !== undefined);
}

/** Asks for the token that may change the system. Why not, where there is none. */
async function unlock(): Promise<string | undefined> {
  const control = latest?.control ?? null;
  if (control === null) {
    return 'Nothing can be changed from here: the system has no control socket. It wants control: {} in its config.';
  }
  await dialog.ask({
    title: 'Unlock changes',
    words: 'Whoever changes models runs code. The token shows that you are the owner of the system. This prints it:',
    command: `cat '${control.tokenFile}'`,
    take: (token) => session.unlock(token),
  });
  return undefined;
}

/** The metrics have a token of their own, and the page tells nothing without it. */
function needToken(): Promise<void> {
  reader ??= dialog
    .ask({
      title: 'This page is not for everybody',
      words: 'It wants the token that stands under metrics in the config, or that of the control socket.',
      command: undefined,
      take: async (token) => {
        if (token === '') return 'A token is one word of letters and digits.';
        session.remember(token);
        return undefined;
      },
    })
    .finally(() => {
      reader = undefined;
    });
  return reader;
}
