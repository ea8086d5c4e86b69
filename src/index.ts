export { defineActor } from './actor/define-actor.js';
export type { AsyncBatchStats } from './actor/async-batch.js';
export type { ShadowReport } from './actor/comparison.js';
export type { InferTarget, Submission, Ticket } from './actor/infer-target.js';
export type { Outcome } from './actor/outcome.js';
export type { AskManyOptions, AskOptions } from './actor/ask.js';
export type { Pool } from './actor/pool.js';
export type { PoolClient } from './actor/pool-client.js';
export type { DrainOptions, StopOptions, StopReport } from './actor/pool-life.js';
export type { FreedMemory, PoolEvents, RolloutNotice } from './actor/pool-events.js';
export type { PoolOptions } from './actor/pool-options.js';
export type { PoolHealth } from './actor/readiness.js';
export type { PoolVersions, SwapPreview } from './actor/rollouts.js';
export type { CacheStats } from './actor/cache-meter.js';
export type { BreakerStats, ModelStats, PoolStats, ScalingStats } from './actor/stats.js';
export type { RollbackRules, ShadowOptions, SwapOptions } from './actor/swap-options.js';
export type { Verification } from './actor/verification.js';
export {
  type SpawnOptions,
  type SystemEvents,
  type SystemHealth,
  type SystemOptions,
  type SystemStopReport,
} from './actor/system.js';
export type { ExplainedValue } from './config/explain.js';
export type {
  ApplyAnswer,
  AskAnswer,
  Done,
  ExplainAnswer,
  LettersAnswer,
  PlanAnswer,
  PoolLine,
  PsAnswer,
  VersionsAnswer,
} from './control/answers.js';
export type { ApplyOptions } from './control/convergence.js';
export type { PlanStep } from './control/desired-state.js';
export type { AskRecordOptions, Calls, CanaryOptions, ShadowTrialOptions, TailOptions } from './control/calls.js';
export { type ConnectControlOptions, type ControlClient, connectControl } from './control/client.js';
export type { ControlEvent } from './control/event-log.js';
export type { LetterSummary } from './control/failure-board.js';
export type { Access, VerbName } from './control/grammar.js';
export type { ControlAddress } from './control/server.js';
export type { ControlOptions, ReplOptions, System } from './control/system.js';
export type { ScaleReason } from './core/autoscaler.js';
export type { BreakerState } from './core/breaker.js';
export type { BatchCall } from './core/effects.js';
export type { RollbackReason, RolloutStep } from './core/rollout.js';
export { createSystem } from './create-system.js';
export { type MetricsListenOptions, serveMetrics } from './dashboard/serve-metrics.js';
export { TroupeError, isTroupeError, ERROR_CODES, type ErrorCode, type Ran } from './kernel/errors.js';
export type { ModelConfig } from './models/model-config-fields.js';
export type { ModelConfigFile } from './models/model-config.js';
export type { ModelsOptions } from './models/options.js';
export type { ListedModel, LocatedModel, ModelListing, ModelRepository } from './models/repository.js';
export type { ModelChange, ModelWatch, WatchEvents, WatchOptions } from './models/watch.js';
export type { CheckpointReport } from './stream/checkpoint/coordinator.js';
export { type CheckpointOptions, CheckpointTrigger } from './stream/checkpoint/options.js';
export { Control, type DeadLetter, RecordFailure, type RecordInfo, Stamped, Watermark } from './stream/envelope.js';
export type { BackoffOptions } from './stream/backoff.js';
export type { ListenAddress, ListenOptions } from './stream/http-listener.js';
export type { Fallback, FallbackPool, InferOptions, InferTimeout, RetryOptions } from './stream/infer-options.js';
export type { ParallelOptions } from './stream/parallel.js';
export { type Pipeline, type StreamOptions, type ToOptions, stream } from './stream/pipeline.js';
export type { PostgresConnection } from './stream/postgres-client.js';
export type { KeyOption, NamedRecord } from './stream/record-key.js';
export { type Report, StreamError } from './stream/report.js';
export { type Sink, SinkClosed } from './stream/sink.js';
export { type ArraySink, toArray } from './stream/sinks/array.js';
export { type ToFileOptions, toFile } from './stream/sinks/file.js';
export { forEach } from './stream/sinks/for-each.js';
export { type ToHttpOptions, toHttp } from './stream/sinks/http.js';
export { type ToPostgresOptions, toPostgres } from './stream/sinks/postgres.js';
export { type ToRedisOptions, toRedis } from './stream/sinks/redis.js';
export { type ToSseOptions, toSse } from './stream/sinks/sse.js';
export { type ToStdoutOptions, toStdout } from './stream/sinks/stdout.js';
export type { StepMetrics } from './stream/step-metrics.js';
export type { Acknowledgement, ResumeFrom, Source, SourceItem, SourceReader } from './stream/source.js';
export { type FileFormat, type FromFileOptions, fromFile } from './stream/sources/file.js';
export { type FileRecord, type FromFilesOptions, fromFiles } from './stream/sources/files.js';
export { type FromHttpOptions, type HttpMetadata, fromHttp } from './stream/sources/http.js';
export { type FromIterableOptions, fromIterable } from './stream/sources/iterable.js';
export { type FromPostgresOptions, type PostgresMetadata, fromPostgres } from './stream/sources/postgres.js';
export { type FromRedisOptions, type RedisMetadata, fromRedis } from './stream/sources/redis.js';
export { type FromSseOptions, type SseMetadata, fromSse } from './stream/sources/sse.js';
export { type FromStdinOptions, fromStdin } from './stream/sources/stdin.js';
export { type Connection, type ConnectOptions, connect } from './serve/connect.js';
export type { MetricsListener } from './serve/metrics-listener.js';
export type { Serving } from './serve/oip-listener.js';
export type { NonFinite } from './serve/oip-tensor.js';
export type { ServeOptions } from './serve/serve-options.js';
export type { HistogramSummary } from './telemetry/histogram.js';
export type { LatencySummary } from './telemetry/latency.js';
export { jsonLog, type Log, type LogEntry, silentLog, stderrLog } from './telemetry/log.js';
export type { RunCounts } from './telemetry/registry.js';
export type { Span, SpanAttributes, SpanContext, Tracer, Tracing } from './telemetry/tracing.js';
export type { ActorDefinition, Isolation, LoadContext, PredictContext } from './wire/definition.js';
export type {
  ChatMessage,
  ChatRecord,
  CompletionRecord,
  EmbeddingAnswer,
  EmbeddingRecord,
  ServedKind,
  TextAnswer,
  TextPart,
  TextRecord,
  TextUsage,
  TextWishes,
} from './wire/served-kinds.js';
export type { Column, Columns, DType, NumericArray, Signature, TensorRecord, TensorSpec } from './wire/tensor.js';
export { type Progress, type ProgressOptions, type ProgressOutput, createProgress } from './cli/progress.js';
export { type RunReport, formatReport, summarizeRun } from './cli/report.js';
