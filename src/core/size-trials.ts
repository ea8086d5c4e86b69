/**
 * Which size of batch serves most records per second: found by trials, not by what happened to be seen. When a machine is
 * slow, queues are long, so batches are large, so large batches look slow; a choice by such figures makes batches small
 * just when that hurts most. A trial is a batch of another size between two of the present one, all while enough records
 * wait for either, so that whatever else goes on strikes both.
 *
 * T1 at most one trial at a time, and none before a pool has shown that it lives longer than a few batches. T2 what was
 * found worse is tried again ever more rarely, the worse the more; what is larger than the present size never too rarely,
 * so that a wrong step towards small batches does not last. T3 a step needs a gain beyond doubt.
 */

/** Sizes are counted by powers of two, rounded in the logarithm. */
export function classOf(size: number): number {
  return Math.round(Math.log2(size));
}

/** Work of the host per batch that no replica sees; without it batches of one would look free of overhead. */
export const HOST_MS = 0.05;
/** Where a batch takes less than this nobody's latency suffers from its size, so none is made smaller. */
const LONG_MS = 4;
/** A doubling that does not gain this share is not worth the latency. */
const WORTH = Math.log(1.02);
/** No trial before so many batches (T1), nor where fewer records wait than this. */
const FIRST_AT = 12;
const COUNT_LEAST = 4;
/** So many batches without its end, and a trial is given up: other sizes came between. */
const PATIENCE = 12;
/** So many trials are the least to go by, so many settle it, and so many are remembered. */
const SOME = 3;
const ENOUGH = 8;
const MEMORY = 12;
/** Deviation of a trial, as a share, that is assumed until some have shown theirs. */
const PRIOR_SPREAD = 0.03;
/** So many standard errors are beyond doubt, and less than this is no gain. */
const DOUBT = 2;
const MARGIN = 0.005;
/** Worse by this, and the second look has time. */
const HOPELESS = Math.log(1.4);
/** A trial that is off by this from what those before have shown makes them worthless. */
const SURPRISE = 0.3;
/** One odd batch makes a trial no worse, and no better, than this. */
const ODD_MOST = 0.7;
/** Batches until something no worse is tried again; T2. */
const AGAIN_AFTER = 32;
const AGAIN_LATEST = 4096;
const LARGER_AGAIN_LATEST = 64;
/** A mere guess is trusted for so long. */
const GUESS_LATEST = 128;

/** What trials of one size against another have shown, in logarithms of milliseconds per record: below zero is better. */
class Contest {
  count = 0;
  mean = 0;
  #squares = 0;
  lastAt = -Infinity;
  constructor(
    readonly from: number,
    readonly to: number,
  ) {}

  add(value: number): void {
    // Not what it used to be: the old trials say nothing any more.
    if (this.count >= SOME && Math.abs(value - this.mean) > SURPRISE) {
      this.count = 0;
      this.mean = 0;
      this.#squares = 0;
    }
    const weight = 1 / (Math.min(this.count, MEMORY - 1) + 1);
    const before = value - this.mean;
    this.mean += weight * before;
    if (this.count >= MEMORY) this.#squares *= 1 - weight;
    this.#squares += before * (value - this.mean);
    this.count++;
  }

  /** The same trials seen from the other side. */
  turned(): Contest {
    const turned = new Contest(this.to, this.from);
    turned.count = Math.min(this.count, SOME);
    turned.mean = -this.mean;
    turned.#squares = (this.#squares * turned.count) / Math.max(1, this.count);
    turned.lastAt = this.lastAt;
    return turned;
  }

  get error(): number {
    const count = Math.min(this.count, MEMORY);
    return Math.sqrt((this.#squares + 2 * PRIOR_SPREAD ** 2) / (count + 1) / Math.max(1, count));
  }
}

interface Trial {
  readonly contest: Contest;
  readonly begunAt: number;
  readonly before: number;
  /** NaN until its batch has come back. */
  seen: number;
}

export class SizeTrials {
  /** Class of the best size while that is not the largest, else -1. */
  bestClass = -1;
  #contests: Contest[] = [];
  #trial: Trial | undefined;
  #batchCount = 0;
  // Of the batch that came back last.
  #lastSize = 0;
  #lastMs = 0;

  /** The warm-up showed this class to be best; trials go on from there. */
  start(bestClass: number): void {
    this.bestClass = bestClass;
  }

  /** Costs have jumped: old trials say nothing. The size stays until new ones speak. */
  restart(): void {
    this.#contests = [];
    this.#trial = undefined;
  }

  /** A batch came back. */
  observe(size: number, ms: number): void {
    this.#batchCount++;
    if (this.#trial !== undefined) this.#follow(this.#trial, size, ms);
    this.#lastSize = size;
    this.#lastMs = ms;
  }

  /**
   * A size to try now, where `count` records wait and the next batch would have `size` of them; 0 for none. None is larger
   * than `most`. `expectedMs` tells what a batch of a size nobody has tried may cost.
   */
  propose(count: number, size: number, most: number, expectedMs: (size: number) => number): number {
    if (count < COUNT_LEAST || this.#batchCount < FIRST_AT || this.#trial !== undefined) return 0;
    const from = classOf(size);
    if (this.#lastSize === 0 || classOf(this.#lastSize) !== from) return 0;
    let to = -1;
    if (this.bestClass === from && this.#fits(from + 1, count, most) && this.#isDue(from, from + 1, expectedMs))
      to = from + 1;
    else if (this.#lastMs >= LONG_MS && !this.#isBeaten(from))
      for (let step = 2; step >= 1 && to < 0; step--)
        if (from >= step && this.#isDue(from, from - step, expectedMs)) to = from - step;
    if (to < 0) return 0;
    const contest = this.#contest(from, to) ?? this.#newContest(from, to);
    contest.lastAt = this.#batchCount;
    this.#trial = { contest, begunAt: this.#batchCount, before: valueOf(this.#lastSize, this.#lastMs), seen: NaN };
    return 2 ** to;
  }

  /** One step of the trial: its own batch, then one of the usual size. */
  #follow(trial: Trial, size: number, ms: number): void {
    const { contest } = trial;
    const index = classOf(size);
    if (Number.isNaN(trial.seen)) {
      if (index === contest.to) trial.seen = valueOf(size, ms);
    } else if (index === contest.from) {
      this.#trial = undefined;
      contest.lastAt = this.#batchCount;
      const loss = trial.seen - (trial.before + valueOf(size, ms)) / 2;
      contest.add(Math.max(-ODD_MOST, Math.min(ODD_MOST, loss)));
      this.#judge(contest);
    }
    if (this.#batchCount - trial.begunAt > PATIENCE) this.#trial = undefined;
  }

  #fits(index: number, count: number, most: number): boolean {
    return 2 ** index <= Math.min(count, most);
  }

  #judge({ from, to, mean, count, error }: Contest): void {
    if (this.bestClass >= 0 && from !== this.bestClass) return;
    const gain = -(mean + WORTH * (to - from));
    if (count < SOME || gain <= Math.max(MARGIN, DOUBT * error)) return;
    this.bestClass = to;
    // What was learned against the old size is not worth much against the new one, but for the old size itself.
    const turned = this.#contest(from, to)?.turned();
    this.#contests = turned === undefined ? [] : [turned];
  }

  #isDue(from: number, to: number, expectedMs: (size: number) => number): boolean {
    const contest = this.#contest(from, to);
    if (contest === undefined || contest.count === 0) {
      // What batches of other sizes cost tells something of this one: what looks hopeless has time.
      const loss = valueOf(2 ** to, expectedMs(2 ** to)) - valueOf(this.#lastSize, this.#lastMs);
      return loss < HOPELESS || this.#batchCount - (contest?.lastAt ?? 0) >= patienceFor(loss, GUESS_LATEST);
    }
    const { mean, count, error } = contest;
    const loss = mean + WORTH * (to - from);
    if (count < ENOUGH && loss < Math.max(MARGIN, DOUBT * error)) return true;
    if (count < SOME && loss < HOPELESS) return true;
    const latest = to > from ? LARGER_AGAIN_LATEST : AGAIN_LATEST / 4 ** Math.max(0, SOME - count);
    return this.#batchCount - contest.lastAt >= patienceFor(loss, latest);
  }

  /** This size, or one above it, is known to be worse than a larger one: then still smaller ones are, too. */
  #isBeaten(index: number): boolean {
    const contests = this.#contests;
    for (let i = 0; i < contests.length; i++) {
      const { from, to, mean, count, error } = contests[i] as Contest;
      if (to < index || to > from || count === 0) continue;
      if (mean + WORTH * (to - from) > Math.max(MARGIN, DOUBT * error)) return true;
    }
    return false;
  }

  #contest(from: number, to: number): Contest | undefined {
    const contests = this.#contests;
    for (let i = 0; i < contests.length; i++) {
      const contest = contests[i] as Contest;
      if (contest.from === from && contest.to === to) return contest;
    }
    return undefined;
  }

  #newContest(from: number, to: number): Contest {
    const contest = new Contest(from, to);
    this.#contests.push(contest);
    return contest;
  }
}

/** Batches until a loss is looked at again: doubled by every tenth of it. */
function patienceFor(loss: number, latest: number): number {
  return Math.min(latest, AGAIN_AFTER * 2 ** (10 * Math.max(0, loss)));
}

function valueOf(size: number, ms: number): number {
  return Math.log((ms + HOST_MS) / size);
}
