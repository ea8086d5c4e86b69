import { type LatencySummary, LatencyWindow } from './latency.js';

export interface HistogramSummary extends LatencySummary {
  readonly count: number;
  readonly mean: number;
}

/** A LatencyWindow that also knows how many values it saw and their mean; for counts as well as for durations. */
export class Histogram {
  readonly #window = new LatencyWindow();
  #count = 0;
  #sum = 0;

  record(value: number): void {
    this.#window.record(value);
    this.#count++;
    this.#sum += value;
  }

  summary(): HistogramSummary {
    const mean = this.#count === 0 ? 0 : this.#sum / this.#count;
    return { count: this.#count, mean, ...this.#window.summary() };
  }
}
