/**
 * Which size of batch serves most records per second: found by trials, not by what happened to be seen. When a machine is
 * slow, queues are long, so batches are large, so large batches look slow; a choice by such figures makes batches small
 * just when that hurts most. A trial is a batch of another size between two of the present one, all while enough records
 * wait for either, so that whatever else goes on strikes both.
 *
 * T1 at most one trial at a time, and none before a pool has shown that it lives longer than a few batches. T2 what was
 * found worse is tried again ever more rarely, the worse the more; what is larger than the present size never too rarely,
 * so that a wrong step towards small batches does not last. T3 a step needs a gain beyond doubt. T4 one odd batch decides
 * nothing: it is neither a loss nor a gain, but counts in the long run (size-contest.ts).
 */

import { type Noise, SizeContest } from './size-contest.js';

/** Sizes are counted by powers of two, rounded in the logarithm: above the root of 2 times a power the next one is nearer. */
export function classOf(size: number): number {
  const below = 31 - Math.clz32(size);
  return size * size > 2 * sizeOf(below) * sizeOf(below) ? below + 1 : below;
}

/** Whole numbers in compiled code; `**` leaves it. */
function sizeOf(index: number): number {
  return 1 << index;
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
/** So many trials are the least to go by, so many settle it. */
const SOME = 3;
const ENOUGH = 8;
/** So many standard errors are beyond doubt, and less than this is no gain. */
const DOUBT = 2;
const MARGIN = 0.005;
/** Adjacent batches of one size differ by this share, until some have shown by how much. */
const PRIOR_NOISE = 0.03;
const PRIOR_COUNT = 2;
const NOISE_MEMORY = 32;
/** An odd batch makes all look no noisier than this. */
const ODD_NOISES = 2.5;
const NOISE_LEAST = 0.05;
/** Worse by this, and the second look has time. */
const HOPELESS = Math.log(1.4);
/** What looks that bad is looked at again after so many batches, as its first trials may have been odd. */
const LOOK_AGAIN: readonly number[] = [0, 8];
/**
 * A trial that has lost as much time as a batch takes is followed by none for so many batches: a queue near its limit takes
 * long to catch up. Where so many batches wait that nobody's latency is to be saved, none is lost by learning soon.
 */
const PACE = 20;
const BACKLOG = 4;
/** In a backlog a size that was seen less often may have been odd. */
const SURELY_SEEN = 2;
/** More than any size promises that has been tried. */
const UNTRIED = 1e3;
/** Batches until something no worse is tried again; T2. */
const AGAIN_AFTER = 32;
const AGAIN_LATEST = 4096;
const LARGER_AGAIN_LATEST = 64;
/** What may be better as its odd batches cost less is tried so often: many trials are needed to tell. */
const TAIL_AGAIN_AFTER = 128;
/** A mere guess is trusted for so long. */
const GUESS_LATEST = 128;

/** Steps down that are tried: in powers of two, in this order. A wide one needs fewer trials, a short one misses nothing. */
const STEPS_DOWN: readonly number[] = [2, 4, 1];
const NEAR = 2;

/** What a batch of this size may cost, from sizes that were seen so often each; 0 where nobody can tell. */
export type Expected = (size: number, seen: number) => number;

interface Trial {
  readonly contest: SizeContest;
  readonly begunAt: number;
  /** The batch before it. */
  readonly size: number;
  readonly ms: number;
  /** Milliseconds per record; NaN until its batch has come back. */
  seen: number;
}

export class SizeTrials {
  /** Class of the best size while that is not the largest, else -1. */
  bestClass = -1;
  #contests: SizeContest[] = [];
  #trial: Trial | undefined;
  #batchCount = 0;
  // Of the batch that came back last.
  #lastSize = 0;
  #lastClass = 0;
  #lastMs = 0;
  readonly #noise: Noise = { share: PRIOR_NOISE };
  #noiseCount = PRIOR_COUNT;
  /** Number of the batch before which there is no trial. */
  #restUntil = 0;
  /** So much waits that to learn soon costs nobody anything. */
  #isUrgent = false;

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
    const index = classOf(size);
    if (this.#lastSize > 0 && index === this.#lastClass) this.#hear(unlike(size, ms, this.#lastSize, this.#lastMs));
    if (this.#trial !== undefined) this.#follow(this.#trial, index, size, ms);
    this.#lastClass = index;
    this.#lastSize = size;
    this.#lastMs = ms;
  }

  /**
   * A size to try now, where `count` records wait and the next batch would have `size` of them; 0 for none. None is larger
   * than `most`.
   */
  propose(count: number, size: number, most: number, expectedMs: Expected): number {
    if (count < COUNT_LEAST || this.#batchCount < FIRST_AT || this.#trial !== undefined) return 0;
    this.#isUrgent = count >= BACKLOG * size;
    if (this.#batchCount < this.#restUntil && !this.#isUrgent) return 0;
    const from = classOf(size);
    if (this.#lastSize === 0 || this.#lastClass !== from) return 0;
    const to = this.#next(from, count, most, expectedMs);
    if (to < 0) return 0;
    const contest = this.#contest(from, to) ?? this.#newContest(from, to, expectedMs);
    contest.lastAt = this.#batchCount;
    this.#trial = { contest, begunAt: this.#batchCount, size: this.#lastSize, ms: this.#lastMs, seen: NaN };
    return sizeOf(to);
  }

  /** The class to try against this one: what nobody has tried yet, else what promises most; -1 for none. */
  #next(from: number, count: number, most: number, expectedMs: Expected): number {
    let next = -1;
    let promise = -Infinity;
    if (this.bestClass === from && this.#fits(from + 1, count, most)) {
      promise = this.#promise(from, from + 1, expectedMs);
      if (promise > -Infinity) next = from + 1;
    }
    if ((expectedMs(sizeOf(from), 1) || this.#lastMs) < LONG_MS || this.#isBeaten(from)) return next;
    for (let i = 0; i < STEPS_DOWN.length; i++) {
      const step = STEPS_DOWN[i] as number;
      if (from < step || (step > NEAR && !this.#isUrgent) || this.#isBeyond(from, from - step)) continue;
      const own = this.#promise(from, from - step, expectedMs);
      if (own <= promise) continue;
      promise = own;
      next = from - step;
    }
    return next;
  }

  /**
   * What a trial is worth; -Infinity where none is due. First comes what looks hopeless and may have been odd, for guesses
   * build on it; then what nobody has tried.
   */
  #promise(from: number, to: number, expectedMs: Expected): number {
    if (!this.#isDue(from, to, expectedMs)) return -Infinity;
    const contest = this.#contest(from, to);
    if (contest === undefined || contest.count === 0) return UNTRIED;
    const loss = contest.mean + WORTH * (to - from);
    return this.#mayBeOdd(contest, loss) ? Infinity : contest.error - loss;
  }

  #mayBeOdd({ count, isForeseen }: SizeContest, loss: number): boolean {
    return count < SOME && loss >= HOPELESS && !isForeseen && this.#isUrgent;
  }

  /** Two batches of about the same size, one after the other, differ by this share. */
  #hear(share: number): void {
    const noise = this.#noise;
    if (this.#noiseCount < NOISE_MEMORY) this.#noiseCount++;
    noise.share += (Math.min(share, Math.max(ODD_NOISES * noise.share, NOISE_LEAST)) - noise.share) / this.#noiseCount;
  }

  /** One step of the trial: its own batch, then one of the usual size. */
  #follow(trial: Trial, index: number, size: number, ms: number): void {
    const { contest } = trial;
    if (Number.isNaN(trial.seen)) {
      if (index === contest.to) trial.seen = perRecord(size, ms);
    } else if (index === contest.from) {
      this.#trial = undefined;
      contest.lastAt = this.#batchCount;
      const before = perRecord(trial.size, trial.ms);
      const after = perRecord(size, ms);
      contest.add(trial.seen, before, after, unlike(size, ms, trial.size, trial.ms));
      const lostMs = (trial.seen - Math.min(before, after)) * sizeOf(contest.to);
      this.#restUntil = this.#batchCount + PACE * Math.min(1, lostMs / Math.min(ms, trial.ms));
      this.#judge(contest);
    }
    if (this.#batchCount - trial.begunAt > PATIENCE) this.#trial = undefined;
  }

  #fits(index: number, count: number, most: number): boolean {
    return sizeOf(index) <= Math.min(count, most);
  }

  #judge({ from, to, mean, count, error }: SizeContest): void {
    if (this.bestClass >= 0 && from !== this.bestClass) return;
    const gain = -(mean + WORTH * (to - from));
    if (count < SOME || gain <= Math.max(MARGIN, DOUBT * error)) return;
    this.bestClass = to;
    // What was learned against the old size is not worth much against the new one, but for the old size itself.
    const turned = this.#contest(from, to)?.turned(SOME);
    this.#contests = turned === undefined ? [] : [turned];
  }

  #isDue(from: number, to: number, expectedMs: Expected): boolean {
    const contest = this.#contest(from, to);
    if (contest === undefined) {
      // What looks hopeless has time.
      const loss = this.#guess(from, to, expectedMs);
      return loss < HOPELESS || this.#batchCount >= patienceFor(loss, GUESS_LATEST);
    }
    if (contest.count === 0) return true;
    const { mean, count, error } = contest;
    const loss = mean + WORTH * (to - from);
    if (count < ENOUGH && loss < Math.max(MARGIN, DOUBT * error)) return true;
    const since = this.#batchCount - contest.lastAt;
    if (contest.isDoubted && since >= (LOOK_AGAIN[0] as number)) return true;
    if (this.#mayBeOdd(contest, loss)) return since >= (LOOK_AGAIN[count - 1] as number);
    if (count < SOME && loss < HOPELESS) return true;
    const latest = to > from ? LARGER_AGAIN_LATEST : AGAIN_LATEST / 4 ** Math.max(0, SOME - count);
    if (since >= patienceFor(loss, latest)) return true;
    return contest.hope + WORTH * (to - from) < 0 && since >= TAIL_AGAIN_AFTER;
  }

  /** A smaller size between the two is hopeless: then what is smaller still is, too. */
  #isBeyond(from: number, to: number): boolean {
    const contests = this.#contests;
    for (let i = 0; i < contests.length; i++) {
      const one = contests[i] as SizeContest;
      if (one.from !== from || one.to <= to || one.to >= from || one.count === 0) continue;
      const loss = one.mean + WORTH * (one.to - from);
      if (loss >= HOPELESS && !this.#mayBeOdd(one, loss)) return true;
    }
    return false;
  }

  /** What batches of other sizes tell of this one; 0 where they tell nothing. */
  #guess(from: number, to: number, expectedMs: Expected): number {
    const seen = this.#isUrgent ? SURELY_SEEN : 1;
    const usual = expectedMs(sizeOf(from), seen);
    const other = expectedMs(sizeOf(to), seen);
    return usual === 0 || other === 0 ? 0 : Math.log(perRecord(sizeOf(to), other) / perRecord(sizeOf(from), usual));
  }

  /** This size, or one above it, is known to be worse than a larger one: then still smaller ones are, too. */
  #isBeaten(index: number): boolean {
    const contests = this.#contests;
    for (let i = 0; i < contests.length; i++) {
      const { from, to, mean, count, error } = contests[i] as SizeContest;
      if (to < index || to > from || count === 0) continue;
      if (mean + WORTH * (to - from) > Math.max(MARGIN, DOUBT * error)) return true;
    }
    return false;
  }

  #contest(from: number, to: number): SizeContest | undefined {
    const contests = this.#contests;
    for (let i = 0; i < contests.length; i++) {
      const contest = contests[i] as SizeContest;
      if (contest.from === from && contest.to === to) return contest;
    }
    return undefined;
  }

  #newContest(from: number, to: number, expectedMs: Expected): SizeContest {
    const contest = new SizeContest(from, to, this.#noise);
    contest.isForeseen = this.#guess(from, to, expectedMs) >= HOPELESS;
    this.#contests.push(contest);
    return contest;
  }
}

/** Batches until a loss is looked at again: doubled by every tenth of it. */
function patienceFor(loss: number, latest: number): number {
  return Math.min(latest, AGAIN_AFTER * 2 ** (10 * Math.max(0, loss)));
}

function perRecord(size: number, ms: number): number {
  return (ms + HOST_MS) / size;
}

/** By what share costs of two batches differ that no cost of so much per batch and so much per record explains. */
function unlike(size: number, ms: number, otherSize: number, otherMs: number): number {
  const log = Math.log((ms + HOST_MS) / (otherMs + HOST_MS));
  const perRecord = size === otherSize ? log : log - Math.log(size / otherSize);
  return log > 0 === perRecord > 0 ? Math.min(Math.abs(log), Math.abs(perRecord)) : 0;
}
