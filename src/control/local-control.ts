import { Calls, type TailOptions } from './calls.js';
import type { ControlEvent } from './event-log.js';
import { EventStream } from './event-stream.js';
import type { Access, VerbName } from './grammar.js';
import type { Operations } from './operations.js';

/** The verbs within the process, for `system.repl()`: the same checks, the same audit, no socket. */
export class LocalControl extends Calls {
  constructor(
    private readonly operations: Operations,
    readonly access: Access,
  ) {
    super();
  }

  async call(verb: VerbName, params: Readonly<Record<string, unknown>>): Promise<unknown> {
    const caller = { who: 'the REPL of this process', access: this.access, signal: new AbortController().signal };
    return this.operations.run(verb, params, caller);
  }

  tail(pool?: string, options: TailOptions = {}): AsyncIterableIterator<ControlEvent> {
    const { last, signal } = options;
    let stop = (): void => undefined;
    const stream = new EventStream(() => stop());
    const params = { ...(pool === undefined ? {} : { pool }), ...(last === undefined ? {} : { last }) };
    const silence = this.operations.tail(params, (event) => stream.push(event));
    const ended = (): void => void stream.return();
    stop = () => {
      silence();
      signal?.removeEventListener('abort', ended);
    };
    if (signal?.aborted === true) ended();
    else signal?.addEventListener('abort', ended);
    return stream;
  }
}
