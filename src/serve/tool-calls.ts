/**
 * The calls of tools in the pieces of one text, put together as OpenAI's client does it: pieces with the same `index` are
 * one call, whose texts of arguments stand one behind the other; a call without an index is whole.
 */
export class ToolCalls {
  readonly #calls: unknown[] = [];
  readonly #byIndex = new Map<number, StartedCall>();
  /** Of arguments that were put together. */
  chars = 0;

  add(call: unknown): void {
    const index = isMap(call) ? call['index'] : undefined;
    if (!isMap(call) || typeof index !== 'number') {
      this.#calls.push(call);
      return;
    }
    let started = this.#byIndex.get(index);
    if (started === undefined) {
      started = new StartedCall();
      this.#byIndex.set(index, started);
      this.#calls.push(started);
    }
    this.chars += started.add(call);
  }

  /** In the order of their beginnings; undefined where there are none. */
  whole(): readonly unknown[] | undefined {
    if (this.#calls.length === 0) return undefined;
    return this.#calls.map((call) => (call instanceof StartedCall ? call.whole() : call));
  }
}

/** Where a call of each type has the text that comes in pieces. */
const TEXTS: readonly (readonly [of: string, text: string])[] = [
  ['function', 'arguments'],
  ['custom', 'input'],
];

class StartedCall {
  readonly #fields = new Map<string, unknown>();
  readonly #texts = new Map<string, string[]>();

  /** How many characters it has brought. */
  add(piece: Fields): number {
    let chars = 0;
    for (const [name, value] of Object.entries(piece)) {
      const text = TEXTS.find(([of]) => of === name)?.[1];
      if (name === 'index' || value === undefined || value === null) continue;
      if (text === undefined || !isMap(value)) {
        this.#fields.set(name, value);
        continue;
      }
      const { [text]: more, ...rest } = value;
      this.#fields.set(name, { ...(this.#fields.get(name) as Fields | undefined), ...rest });
      const texts = this.#texts.get(name) ?? [];
      this.#texts.set(name, texts);
      if (typeof more !== 'string') continue;
      texts.push(more);
      chars += more.length;
    }
    return chars;
  }

  whole(): Fields {
    const call = Object.fromEntries(this.#fields);
    for (const [of, text] of TEXTS) {
      const texts = this.#texts.get(of);
      if (texts !== undefined) call[of] = { ...(call[of] as Fields), [text]: texts.join('') };
    }
    return call;
  }
}

type Fields = Readonly<Record<string, unknown>>;

function isMap(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
