import { type LatencySummary, LatencyWindow } from './latency.js';

export interface HistogramSummary extends LatencySummary {
  readonly count: number;
  readonly mean: number;
}

/** Counts of things, or durations, with how many there were and their mean. */
export class Histogram extends LatencyWindow {
  override summary(): HistogramSummary {
    const { count, sum } = this;
    return { count, mean: count === 0 ? 0 : sum / count, ...super.summary() };
  }
}
