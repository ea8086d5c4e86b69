/**
 * The spans of one pool's batches: one from the send of a batch to its answer or the end of its replica, with links to
 * the spans its records belong to. A pool without a tracer has none of this.
 *
 * Z1 every span that was started is ended once. Z2 nothing of a record or of an error's message is in a span. Z3 the
 * tracer is foreign code called amid our work: one that throws is told of once and not asked again.
 */
import type { DeathNotice, Effect } from '../core/effects.js';
import type { Cell } from '../core/slots.js';
import type { Request } from '../core/request.js';
import type { RecordResult } from '../host/link.js';
import {
  formatTraceparent,
  parseTraceparent,
  type Span,
  type SpanContext,
  type Tracing,
} from '../telemetry/tracing.js';

type Send = Extract<Effect, { kind: 'send' }>;

interface Open {
  readonly span: Span;
  readonly cell: number;
  readonly incarnation: number;
}

/** SpanKind.INTERNAL and SpanStatusCode.ERROR of OpenTelemetry. */
const INTERNAL = 0;
const ERROR = 2;
/** What an SDK keeps of the links of one span unless it is told otherwise. */
const LINKS_MAX = 128;

export class BatchTraces {
  readonly #pool: string;
  readonly #tracing: Tracing;
  readonly #onBroken: (cause: unknown) => void;
  /** Of requests that belong to a span; gone with them. */
  readonly #contexts = new WeakMap<Request, SpanContext>();
  readonly #open = new Map<number, Open>();
  #isBroken = false;
  #lastText = '';
  #lastContext: SpanContext | undefined;

  /** `onBroken` is told once. */
  constructor(pool: string, tracing: Tracing, onBroken: (cause: unknown) => void) {
    this.#pool = pool;
    this.#tracing = tracing;
    this.#onBroken = onBroken;
  }

  /** An ask came: it belongs to the span that is active where it was made. */
  asked(request: Request): void {
    this.#guard(() => {
      const context = this.#tracing.active?.();
      if (context !== undefined) this.#contexts.set(request, context);
    });
  }

  /** A record of a stream came. */
  submitted(request: Request, traceparent: string | undefined): void {
    if (traceparent === undefined) return;
    // Records that come together often belong to one span.
    if (traceparent !== this.#lastText) {
      this.#lastText = traceparent;
      this.#lastContext = parseTraceparent(traceparent);
    }
    if (this.#lastContext !== undefined) this.#contexts.set(request, this.#lastContext);
  }

  /** For many asks at once, some of which come later than the call. */
  activeTraceparent(): string | undefined {
    let context: SpanContext | undefined;
    this.#guard(() => {
      context = this.#tracing.active?.();
    });
    return context === undefined ? undefined : formatTraceparent(context);
  }

  sent({ cell, batchId, requests, trigger }: Send, { replica, incarnation, version }: Cell): void {
    this.#guard(() => {
      const span = this.#tracing.tracer.startSpan(`predict ${this.#pool}`, {
        root: true,
        kind: INTERNAL,
        attributes: {
          'troupe.pool': this.#pool,
          'troupe.replica': replica,
          'troupe.incarnation': incarnation,
          ...(version === undefined ? {} : { 'troupe.version': version }),
          'troupe.batch.size': requests.length,
          'troupe.batch.trigger': trigger,
        },
        links: this.#linksOf(requests),
      });
      this.#open.set(batchId, { span, cell, incarnation });
    });
  }

  replied(batchId: number, results: readonly RecordResult[]): void {
    let failed = 0;
    for (const result of results) if (!result.ok) failed++;
    this.#end(batchId, undefined, failed);
  }

  /** The batch failed as a whole. */
  failed(batchId: number, code: string): void {
    this.#end(batchId, code);
  }

  exited(cell: number, incarnation: number, death: DeathNotice): void {
    for (const [batchId, open] of this.#open) {
      if (open.cell === cell && open.incarnation === incarnation) this.#end(batchId, `replica ended: ${death.cause}`);
    }
  }

  #end(batchId: number, error: string | undefined, failed = 0): void {
    const open = this.#open.get(batchId);
    if (open === undefined) return;
    this.#open.delete(batchId);
    this.#guard(() => {
      if (failed > 0) open.span.setAttributes({ 'troupe.batch.failed': failed });
      if (error !== undefined) open.span.setStatus({ code: ERROR, message: error });
      open.span.end();
    });
  }

  /** Of several records of one span, one. */
  #linksOf(requests: readonly Request[]): { context: SpanContext }[] {
    const links = new Map<string, { context: SpanContext }>();
    for (const request of requests) {
      const context = this.#contexts.get(request);
      if (context !== undefined) links.set(`${context.traceId}${context.spanId}`, { context });
      if (links.size === LINKS_MAX) break;
    }
    return [...links.values()];
  }

  #guard(run: () => void): void {
    if (this.#isBroken) return;
    try {
      run();
    } catch (cause) {
      this.#isBroken = true;
      this.#open.clear();
      this.#onBroken(cause);
    }
  }
}
