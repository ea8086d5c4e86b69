export interface FeedMessage {
  readonly type: string;
  readonly data: string;
}

/** Longer than anything the system says at once. */
const HELD_MAX = 8 * 1024 * 1024;

/**
 * Takes a stream of Server-Sent Events apart. Not EventSource, which cannot send a header: the token of a reader and the
 * mark of the page's own code go there.
 */
export class SseReader {
  #held = '';

  /** What has come whole, in order. Throws a RangeError where a message has no end. */
  push(text: string): FeedMessage[] {
    this.#held += text;
    const parts = this.#held.split('\n\n');
    this.#held = parts.pop() ?? '';
    if (this.#held.length > HELD_MAX) throw new RangeError('a message of the feed is too long');
    return parts.map(messageOf);
  }
}

function messageOf(part: string): FeedMessage {
  let type = 'message';
  const data: string[] = [];
  for (const line of part.split('\n')) {
    if (line.startsWith('event: ')) type = line.slice(7);
    else if (line.startsWith('data: ')) data.push(line.slice(6));
  }
  return { type, data: data.join('\n') };
}
