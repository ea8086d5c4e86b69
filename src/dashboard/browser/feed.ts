import { type PageEvent, type PageState, PATHS } from '../state.js';
import type { Session } from './session.js';
import { SseReader } from './sse-reader.js';

export type FeedStatus = 'live' | 'connecting' | 'lost' | 'busy';

export interface FeedHearer {
  state(state: PageState): void;
  events(events: readonly PageEvent[]): void;
  status(status: FeedStatus): void;
  /** The system tells nothing without a token; resolves when there is another one to try. */
  needToken(): Promise<void>;
}

/** Nothing for so long means that nobody is there any more; the state comes every second. */
const SILENCE_MS = 10_000;
const RETRY_MS = 1000;
const RETRY_MAX_MS = 10_000;

/** Hears what the system says, for ever: a connection that ends is made anew. */
export async function follow(session: Session, hearer: FeedHearer): Promise<never> {
  let waitMs = RETRY_MS;
  for (;;) {
    hearer.status('connecting');
    const end = await hearOnce(session, hearer).catch(() => 'lost' as const);
    if (end === 'refused') {
      await hearer.needToken();
      continue;
    }
    hearer.status(end === 'busy' ? 'busy' : 'lost');
    waitMs = end === 'heard' ? RETRY_MS : Math.min(RETRY_MAX_MS, 2 * waitMs);
    await pause(waitMs);
  }
}

/** `heard`: it was live until it ended. */
async function hearOnce(session: Session, hearer: FeedHearer): Promise<'heard' | 'refused' | 'busy' | 'lost'> {
  const controller = new AbortController();
  let timer = 0;
  const watch = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => controller.abort(), SILENCE_MS);
  };
  watch();
  try {
    const response = await fetch(PATHS.feed, {
      headers: session.headers(),
      signal: controller.signal,
      cache: 'no-store',
    });
    if (response.status === 401) return 'refused';
    if (response.status === 503) return 'busy';
    if (!response.ok || response.body === null) return 'lost';
    hearer.status('live');
    const reader = new SseReader();
    const chunks = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await chunks.read().catch(() => ({ done: true, value: undefined }));
      if (done || value === undefined) return 'heard';
      watch();
      for (const { type, data } of reader.push(value)) {
        if (type === 'state') hearer.state(JSON.parse(data) as PageState);
        else if (type === 'events') hearer.events(JSON.parse(data) as PageEvent[]);
      }
    }
  } finally {
    clearTimeout(timer);
    controller.abort();
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
