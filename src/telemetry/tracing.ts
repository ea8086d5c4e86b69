/**
 * Spans, in the words of OpenTelemetry's API and without it: who has a tracer hands it over, and nobody else pays. The
 * shapes below are the part of `@opentelemetry/api` that is used.
 */

/** Names a span of some trace, as W3C Trace Context does. */
export interface SpanContext {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits. */
  readonly spanId: string;
  readonly traceFlags: number;
  readonly isRemote?: boolean;
}

export type SpanAttributes = Record<string, string | number>;

export interface Span {
  setAttributes(attributes: SpanAttributes): unknown;
  /** code 2 is an error. */
  setStatus(status: { code: number; message?: string }): unknown;
  end(): void;
}

/** A Tracer of `@opentelemetry/api` is one. */
export interface Tracer {
  startSpan(
    name: string,
    options: { root: boolean; kind: number; attributes: SpanAttributes; links: { context: SpanContext }[] },
  ): Span;
}

/** What a system makes spans with: one for each batch, with links to the spans its records belong to. */
export interface Tracing {
  readonly tracer: Tracer;
  /** The span in which an ask is made, as `() => trace.getActiveSpan()?.spanContext()`. Default: asks belong to none. */
  readonly active?: () => SpanContext | undefined;
}

/** The `traceparent` header of W3C Trace Context; undefined for what is none. */
export function parseTraceparent(text: string): SpanContext | undefined {
  const match = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/.exec(text);
  if (match === null) return undefined;
  const [, version = '', traceId = '', spanId = '', flags = '', more] = match;
  if (version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true };
}

export function formatTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${(traceFlags & 0xff).toString(16).padStart(2, '0')}`;
}

/** What a source lets travel along with a record is foreign: it has a `traceparent` or it has not. */
export function traceparentOf(metadata: unknown): string | undefined {
  if (typeof metadata !== 'object' || metadata === null) return undefined;
  try {
    const { traceparent } = metadata as { traceparent?: unknown };
    return typeof traceparent === 'string' ? traceparent : undefined;
  } catch {
    return undefined; // A proxy whose traps throw.
  }
}
