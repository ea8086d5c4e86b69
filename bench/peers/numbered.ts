/** What the bare lanes send: an id finds the caller again. */
export interface Numbered {
  readonly id: number;
  readonly value: Float32Array;
}

/** The least a caller needs over a bare channel: numbers, and a table of who waits. */
export class NumberedCalls {
  readonly #waiting = new Map<number, (value: Float32Array) => void>();
  readonly #send: (message: Numbered) => void;
  #last = 0;

  constructor(send: (message: Numbered) => void) {
    this.#send = send;
  }

  ask(value: Float32Array): Promise<Float32Array> {
    return new Promise((resolve) => {
      const id = ++this.#last;
      this.#waiting.set(id, resolve);
      this.#send({ id, value });
    });
  }

  answered({ id, value }: Numbered): void {
    this.#waiting.get(id)?.(value);
    this.#waiting.delete(id);
  }
}
