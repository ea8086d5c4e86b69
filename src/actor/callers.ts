import { type Breaker, verdictOf } from '../core/breaker.js';
import { modelOf } from '../core/model-key.js';
import type { Request } from '../core/request.js';
import { LatencyWindow } from '../telemetry/latency.js';
import { giveUp } from '../wire/token-stream.js';
import { AskOwner, type Owner } from './ask.js';
import type { Outcome } from './outcome.js';
import type { PoolVoice } from './pool-events.js';
import type { Readiness } from './readiness.js';

/** Who told and did not ask: a token stream has no reader. */
export const NOBODY: Owner = {
  settled: (outcome) => {
    if (outcome.ok) giveUp(outcome.value);
  },
};

/** Tells those who sent a record what became of it, and keeps how long it took. User code runs in here. */
export class Callers {
  readonly latency = new LatencyWindow();
  readonly queueWait = new LatencyWindow();
  readonly #voice: PoolVoice;
  readonly #readiness: Readiness;
  readonly #breaker: Breaker | undefined;

  constructor(voice: PoolVoice, readiness: Readiness, breaker: Breaker | undefined) {
    this.#voice = voice;
    this.#readiness = readiness;
    this.#breaker = breaker;
  }

  tell(request: Request, now: number): void {
    const owner = request.owner as Owner;
    const { call, lease } = request;
    if (lease !== undefined) this.#breaker?.release(lease, verdictOf(request.failure), now);
    if (request.owner === this.#readiness) {
      this.#readiness.settled(request.error);
      return;
    }
    if (request.error === undefined) {
      this.latency.record(now - request.offeredAt);
      this.queueWait.record(request.sentAt - request.offeredAt);
      if (owner instanceof AskOwner) owner.resolved(request.value);
      else owner.settled(outcomeOf(request), call);
      return;
    }
    if (request.error.ran === 'failed') this.#voice.recordFailed(request.error, now);
    if (owner === NOBODY || request.error.code === 'MAILBOX_DROPPED') {
      this.#voice.emit('dead-letter', { input: request.input, error: request.error });
    }
    owner.settled({ ok: false, error: request.error }, call);
  }
}

function outcomeOf({ value, version, model }: Request): Outcome<unknown> {
  return model === undefined ? { ok: true, value, version } : { ok: true, value, version, model: modelOf(model) };
}
