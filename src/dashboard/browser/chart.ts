import { drawing, element, setAttribute, setText } from './element.js';
import { countText, durationText, roundTop } from './figures.js';
import type { Mark } from './history.js';

/** One line or area: a value for each instant, undefined where there was none. */
export interface Series {
  /** A class that gives it its colour. */
  readonly colour: string;
  readonly values: readonly (number | undefined)[];
}

export interface ChartData {
  readonly times: readonly number[];
  /** Areas stand on each other; lines do not. */
  readonly series: readonly Series[];
  readonly marks: readonly Mark[];
  readonly until: number;
  /** What it is now, for the caption. */
  readonly now: string;
}

const WIDTH = 300;
const HEIGHT = 72;
/** A chart that has just begun is not all to the right. */
const SPAN_LEAST_MS = 30_000;

/** A small chart of the last minutes, with its newest value in words. */
export class Chart {
  readonly node: HTMLElement;
  readonly #now = element('span', { class: 'chart-now' });
  readonly #since = element('span');
  readonly #top = element('span');
  readonly #lines = drawing('g');
  readonly #marks = drawing('g');
  readonly #picture: SVGElement;

  constructor(
    private readonly name: string,
    private readonly kind: 'areas' | 'lines',
  ) {
    const middle = drawing('line', {
      class: 'grid',
      x1: '0',
      x2: `${WIDTH}`,
      y1: `${HEIGHT / 2}`,
      y2: `${HEIGHT / 2}`,
    });
    this.#picture = drawing(
      'svg',
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': name },
      middle,
      this.#lines,
      this.#marks,
    );
    this.node = element(
      'figure',
      { class: 'chart' },
      element('figcaption', {}, element('span', {}, name), this.#now),
      this.#picture,
      element('div', { class: 'chart-scale', 'aria-hidden': 'true' }, this.#since, this.#top),
    );
  }

  draw({ times, series, marks, until, now }: ChartData): void {
    setText(this.#now, now);
    setAttribute(this.#picture, 'aria-label', `${this.name}: ${now}`);
    const heights = this.kind === 'areas' ? stacked(series) : series.map(({ values }) => values);
    const top = roundTop(Math.max(0, ...heights.flatMap((values) => values.map((value) => value ?? 0))));
    setText(this.#top, `top ${countText(top)}`);
    const spanMs = Math.max(SPAN_LEAST_MS, until - (times[0] ?? until));
    setText(this.#since, `${durationText(spanMs)} ago`);
    const x = (at: number): number => WIDTH * (1 - (until - at) / spanMs);
    const y = (value: number): number => HEIGHT - 1 - (HEIGHT - 3) * (value / top);
    const paths = series.map(({ colour }, index) => {
      const values = heights[index] ?? [];
      const below = index === 0 ? undefined : heights[index - 1];
      const shape = this.kind === 'areas' ? areaPath(times, values, below, x, y) : linePath(times, values, x, y);
      return drawing('path', { class: `${this.kind === 'areas' ? 'area' : 'line'} ${colour}`, d: shape });
    });
    this.#lines.replaceChildren(...paths);
    const shown = marks.filter(({ at }) => at > until - spanMs);
    this.#marks.replaceChildren(
      ...shown.map(({ at, kind }) => {
        const place = x(at).toFixed(1);
        return drawing('line', { class: `mark ${kind}`, x1: place, x2: place, y1: '0', y2: `${HEIGHT}` });
      }),
    );
  }
}

function stacked(series: readonly Series[]): readonly (readonly number[])[] {
  const heights: number[][] = [];
  for (const { values } of series) {
    const below = heights.at(-1);
    heights.push(values.map((value, index) => (value ?? 0) + (below?.[index] ?? 0)));
  }
  return heights;
}

type Scale = (value: number) => number;

function areaPath(
  times: readonly number[],
  values: readonly (number | undefined)[],
  below: readonly (number | undefined)[] | undefined,
  x: Scale,
  y: Scale,
): string {
  if (times.length < 2) return '';
  const upper = times.map((at, index) => `${x(at).toFixed(1)},${y(values[index] ?? 0).toFixed(1)}`);
  const lower = times.map((at, index) => `${x(at).toFixed(1)},${y(below?.[index] ?? 0).toFixed(1)}`).reverse();
  return `M${upper.join('L')}L${lower.join('L')}Z`;
}

/** Where there was nothing, the line goes on from where it was. */
function linePath(times: readonly number[], values: readonly (number | undefined)[], x: Scale, y: Scale): string {
  const points = times.flatMap((at, index) => {
    const value = values[index];
    return value === undefined ? [] : [`${x(at).toFixed(1)},${y(value).toFixed(1)}`];
  });
  return points.length < 2 ? '' : `M${points.join('L')}`;
}
