import { importOptional } from '../stream/optional-package.js';
import type { Tracing } from '../telemetry/tracing.js';

/**
 * The tracer that the process has registered with `@opentelemetry/api`; it makes no spans where no SDK was started.
 * Rejects with PACKAGE_NOT_INSTALLED where the package is missing.
 */
export async function openTelemetry(): Promise<Tracing> {
  const { trace } = await importOptional('tracing', '@opentelemetry/api', '1', () => import('@opentelemetry/api'));
  return { tracer: trace.getTracer('troupe'), active: () => trace.getActiveSpan()?.spanContext() };
}
