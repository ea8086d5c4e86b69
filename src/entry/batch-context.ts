import type { PredictContext } from '../wire/definition.js';

/** What one predict call is given. The signal is made when it is first looked at: most actors never do. */
export class BatchContext implements PredictContext<unknown> {
  readonly state: unknown;
  readonly version: string | undefined;
  readonly model: string | undefined;
  private controller: AbortController | undefined;
  private isAborted = false;

  constructor(state: unknown, version: string | undefined, model: string | undefined) {
    this.state = state;
    this.version = version;
    this.model = model;
  }

  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.isAborted) this.controller.abort();
    }
    return this.controller.signal;
  }

  abort(): void {
    this.isAborted = true;
    this.controller?.abort();
  }
}
