/**
 * One scrape: samples by family and labels, and their text in Prometheus' format 0.0.4. Made anew for every scrape.
 *
 * The format is twenty lines of text, and what we count is counted already: a client library would want every value a
 * second time, in instruments of its own, and cannot be given a finished histogram. promtool and a Prometheus check it.
 *
 * X1 one series for each family and label set; what is added twice adds up. X2 never more than SERIES_MAX series,
 * whatever names there are: label sets beyond it share one whose values are all `_other`, without tags. X3 names come from
 * FAMILIES, but those of tags.
 */
import { FAMILY_TABLE, type FamilyName, type LabelsOf, type TaggedName } from './families.js';
import type { Distribution } from './latency.js';

export const SERIES_MAX = 10_000;
export const OTHER = '_other';
const VALUE_LENGTH_MAX = 128;

type Sample = { kind: 'value'; value: number } | { kind: 'distribution'; distribution: Distribution };

const NAMES = Object.keys(FAMILY_TABLE) as FamilyName[];

/** So that every family can overflow. */
const RESERVED = NAMES.reduce((total, name) => total + weightOf(name), 0);

export class Exposition {
  readonly #families = new Map<FamilyName, Map<string, Sample>>();
  #seriesCount = 0;
  #overflowCount = 0;

  add<Name extends FamilyName>(name: Name, labels: LabelsOf<Name>, value: number): void {
    this.#put(name, labelText(name, labels), { kind: 'value', value });
  }

  /** As `add`, with the tags of the model behind the labels: what `tagText` made of them. */
  addTagged<Name extends TaggedName>(name: Name, labels: LabelsOf<Name>, tags: string, value: number): void {
    this.#put(name, joined(labelText(name, labels), tags), { kind: 'value', value });
  }

  addDistribution<Name extends FamilyName>(name: Name, labels: LabelsOf<Name>, distribution: Distribution): void {
    this.#put(name, labelText(name, labels), { kind: 'distribution', distribution });
  }

  /** Counters and histograms of the other one: what stays true when who counted is gone. */
  addCumulative(other: Exposition): void {
    this.#overflowCount += other.#overflowCount;
    for (const [name, samples] of other.#families) {
      if (FAMILY_TABLE[name].type === 'gauge') continue;
      for (const [labels, sample] of samples) this.#put(name, labels, sample);
    }
  }

  text(): string {
    this.add('troupe_series_overflow', {}, this.#overflowCount);
    const lines: string[] = [];
    for (const name of NAMES) {
      const samples = this.#families.get(name);
      if (samples === undefined) continue;
      const { help, type } = FAMILY_TABLE[name];
      lines.push(`# HELP ${name} ${help.replace(/[\\\n]/g, (char) => (char === '\n' ? '\\n' : '\\\\'))}`);
      lines.push(`# TYPE ${name} ${type}`);
      for (const [labels, sample] of samples) {
        if (sample.kind === 'value') lines.push(`${name}${braced(labels)} ${numberText(sample.value)}`);
        else pushDistribution(lines, name, labels, sample.distribution);
      }
    }
    return `${lines.join('\n')}\n`;
  }

  #put(name: FamilyName, labels: string, sample: Sample): void {
    let samples = this.#families.get(name);
    if (samples === undefined) this.#families.set(name, (samples = new Map()));
    const there = samples.get(labels);
    if (there !== undefined) {
      samples.set(labels, sum(there, sample));
      return;
    }
    const weight = weightOf(name);
    if (this.#seriesCount + weight <= SERIES_MAX - RESERVED) {
      this.#seriesCount += weight;
      samples.set(labels, sample);
      return;
    }
    this.#overflowCount++;
    const key = OVERFLOW_LABELS.get(name) as string;
    const others = samples.get(key);
    samples.set(key, others === undefined ? sample : sum(others, sample));
  }
}

function sum(a: Sample, b: Sample): Sample {
  if (a.kind === 'value' && b.kind === 'value') return { kind: 'value', value: a.value + b.value };
  if (a.kind !== 'distribution' || b.kind !== 'distribution') throw new TypeError('a family has samples of one kind');
  const [one, other] = [a.distribution, b.distribution];
  return {
    kind: 'distribution',
    distribution: {
      bounds: one.bounds,
      cumulative: one.cumulative.map((count, index) => count + (other.cumulative[index] as number)),
      count: one.count + other.count,
      sum: one.sum + other.sum,
    },
  };
}

/** How many series one label set has. */
function weightOf(name: FamilyName): number {
  const { bounds } = FAMILY_TABLE[name];
  return bounds === undefined ? 1 : bounds.length + 3;
}

const OVERFLOW_LABELS = new Map(
  NAMES.map((name) => [name, FAMILY_TABLE[name].labels.map((label) => `${label}="${OTHER}"`).join(',')]),
);

function labelText<Name extends FamilyName>(name: Name, labels: LabelsOf<Name>): string {
  const values: Readonly<Record<string, string>> = labels;
  let text = '';
  for (const label of FAMILY_TABLE[name].labels) {
    const value = values[label] as string;
    if (value !== '') text += `${text === '' ? '' : ','}${label}="${escaped(value)}"`;
  }
  return text;
}

/** `metric_tags` of a model as labels, each with an underscore before its name, as Triton writes them. Without a value none. */
export function tagText(tags: Readonly<Record<string, string>>): string {
  const valued = Object.entries(tags).filter(([, value]) => value !== '');
  return valued.map(([name, value]) => `_${name}="${quotable(value)}"`).join(',');
}

function joined(labels: string, tags: string): string {
  return labels === '' || tags === '' ? `${labels}${tags}` : `${labels},${tags}`;
}

const PLAIN = /^[\w.:/ -]{1,128}$/;

/** A pipeline may have any name, a path of 4,096 characters too; nearly all are plain. */
function escaped(value: string): string {
  if (PLAIN.test(value)) return value;
  const short = value.length > VALUE_LENGTH_MAX ? `${value.slice(0, VALUE_LENGTH_MAX - 1)}…` : value;
  return quotable(short);
}

function quotable(value: string): string {
  return value.replace(/[\p{Cc}\p{Surrogate}]/gu, ' ').replace(/["\\]/g, '\\$&');
}

function braced(labels: string): string {
  return labels === '' ? '' : `{${labels}}`;
}

/** Times are counted in milliseconds; Prometheus wants seconds, and so does every name that says so. */
function pushDistribution(lines: string[], name: FamilyName, labels: string, distribution: Distribution): void {
  const { bounds, cumulative, count, sum: total } = distribution;
  const unit = name.endsWith('_seconds') ? 1000 : 1;
  const start = `${name}_bucket{${labels === '' ? '' : `${labels},`}`;
  const ends = endsOf(name, bounds);
  for (let index = 0; index < ends.length; index++) lines.push(`${start}${ends[index]}${cumulative[index]}`);
  lines.push(`${start}le="+Inf"} ${count}`);
  lines.push(`${name}_sum${braced(labels)} ${numberText(total / unit)}`);
  lines.push(`${name}_count${braced(labels)} ${count}`);
}

/** Ends of the buckets as text, by their bounds in milliseconds or in what they are: the same in every scrape. */
const ENDS_IN_SECONDS = new WeakMap<readonly number[], readonly string[]>();
const ENDS = new WeakMap<readonly number[], readonly string[]>();

function endsOf(name: string, bounds: readonly number[]): readonly string[] {
  const isTime = name.endsWith('_seconds');
  const known = isTime ? ENDS_IN_SECONDS : ENDS;
  let ends = known.get(bounds);
  if (ends === undefined) {
    ends = bounds.map((bound) => `le="${numberText(isTime ? bound / 1000 : bound)}"} `);
    known.set(bounds, ends);
  }
  return ends;
}

function numberText(value: number): string {
  if (value === Infinity) return '+Inf';
  return value === -Infinity ? '-Inf' : String(value);
}
