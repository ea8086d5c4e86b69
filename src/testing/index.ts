export { type DiskImage, MemoryDisk, diskError } from './memory-disk.js';
export { VirtualClock } from './virtual-clock.js';
export { Scheduler } from './scheduler.js';
export { forkRandom } from './seeds.js';
export { FAULT_KINDS, noFaults, type FaultKind, type FaultRates } from './faults.js';
export { type Scenario, swarmScenario } from './scenario.js';
export { NAMED_SCENARIOS, type NamedScenario } from './named-scenarios.js';
export { firedByKind, runScenario, type RunReport } from './run.js';
export { runRows, type RowResult } from './rows.js';
export { shrinkScenario } from './shrink.js';
export type { Lies } from './sim-pool.js';
export type { Violation } from './world.js';
export {
  type CheckResult,
  type ConformanceReport,
  formatConformance,
} from './conformance/report.js';
export { type SinkStand, type SinkSubject, checkSink } from './conformance/sink.js';
export { type SourceStand, type SourceSubject, checkSource } from './conformance/source.js';
export {
  noStreamFaults,
  STREAM_FAULT_KINDS,
  type StreamFaultKind,
  type StreamFaultRates,
} from './streams/faults.js';
export { type StreamScenario, type StreamShape, streamScenario } from './streams/scenario.js';
export { NAMED_STREAMS } from './families.js';
export { runStream, type StreamRunReport } from './streams/run.js';
export { shrinkStream } from './streams/shrink.js';
export type { StreamTotals } from './streams/sim-stream.js';
