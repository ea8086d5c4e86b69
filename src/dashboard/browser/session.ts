import { MARK, type PageFault, type PageVerb, type PageVersions, PATHS } from '../state.js';

/**
 * What this tab may do. The token stays in the memory of the tab: it is in no cookie, storage or address, and gone with
 * the next load of the page.
 */
export class Session {
  #token: string | undefined;
  /** The one that looking takes, where it takes one. */
  #readToken: string | undefined;
  #isUnlocked = false;
  #listeners: (() => void)[] = [];

  /** It may change the system. */
  get isUnlocked(): boolean {
    return this.#isUnlocked;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Of every question to the system. */
  headers(): Record<string, string> {
    return { [MARK]: '1', ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }) };
  }

  /** Takes a token that the system may ask readers for. */
  remember(token: string): void {
    this.#readToken = token;
    this.#token = token;
  }

  /** Undefined when the token was right, else what to say. */
  async unlock(token: string): Promise<string | undefined> {
    if (!/^[\x21-\x7e]+$/.test(token)) return 'A token is one word of letters and digits.';
    const headers = { [MARK]: '1', authorization: `Bearer ${token}` };
    try {
      const response = await fetch(PATHS.unlock, { method: 'POST', headers });
      if (response.status === 401) return 'The token is wrong. It is new at every start of the system.';
      if (!response.ok) return `The system refused it (${response.status}).`;
    } catch {
      return 'The system does not answer.';
    }
    this.#token = token;
    this.#set(true);
    return undefined;
  }

  lock(): void {
    this.#token = this.#readToken;
    this.#set(false);
  }

  /** Undefined when it is done, else why not. */
  async call(verb: PageVerb, params: Readonly<Record<string, unknown>>): Promise<PageFault | undefined> {
    const headers = { ...this.headers(), 'content-type': 'application/json' };
    try {
      const response = await fetch(PATHS.call, { method: 'POST', headers, body: JSON.stringify({ verb, params }) });
      if (response.ok) return undefined;
      if (response.status === 401) this.#set(false);
      return await faultOf(response);
    } catch {
      return { message: 'The connection was lost. The events say what came of it.' };
    }
  }

  async versions(pool: string): Promise<PageVersions | PageFault> {
    try {
      const query = new URLSearchParams({ pool });
      const response = await fetch(`${PATHS.versions}?${query}`, { headers: this.headers() });
      if (!response.ok) return await faultOf(response);
      const { value } = (await response.json()) as { value: PageVersions };
      return value;
    } catch {
      return { message: 'The system does not answer.' };
    }
  }

  #set(isUnlocked: boolean): void {
    if (this.#isUnlocked === isUnlocked) return;
    this.#isUnlocked = isUnlocked;
    for (const listener of this.#listeners) listener();
  }
}

async function faultOf(response: Response): Promise<PageFault> {
  try {
    const { error } = (await response.json()) as { error: PageFault };
    return error;
  } catch {
    return { message: `The system refused it (${response.status}).` };
  }
}
