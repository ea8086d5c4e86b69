import type { PageEvent, PageVerb, PoolState } from '../state.js';
import { Chart } from './chart.js';
import { element, setAttribute, setText } from './element.js';
import { moodOf } from './events-panel.js';
import { countText, numberText, percentText, plural } from './figures.js';
import { History } from './history.js';
import { ModelsPanel } from './models-panel.js';
import { RolloutPanel } from './rollout-panel.js';
import type { Session } from './session.js';
import { SwapForm } from './swap-form.js';
import { NO_VERSION, sharesOf, VersionColours } from './versions.js';
import { scalingWords } from './words.js';

export interface PoolCardParts {
  readonly session: Session;
  /** Asks for the token; resolves when somebody gave it or would not. Why not, where there is none to be asked for. */
  unlock(): Promise<string | undefined>;
}

const FIGURES = ['results', 'errors', 'refused', 'p50', 'p99', 'restarts'] as const;
const TOLD_MS = 5000;
let lastNumber = 0;

/** One pool: what it serves, how it fares, and what can be done with it. */
export class PoolCard {
  readonly node: HTMLDetailsElement;
  readonly #history = new History();
  readonly #colours = new VersionColours();
  readonly #state = element('span', { class: 'badge' });
  readonly #breaker = element('span', { class: 'badge bad' });
  readonly #version = element('span', { class: 'pool-version' });
  readonly #ready = element('span', { class: 'pool-ready' });
  readonly #scaling = element('p', { class: 'quiet scaling' });
  readonly #figures = FIGURES.map(() => element('dd'));
  readonly #bar = element('div', { class: 'traffic-bar', 'aria-hidden': 'true' });
  readonly #legend = element('ul', { class: 'legend' });
  readonly #replicas = element('ul', { class: 'replicas' });
  readonly #notice = element('p', { class: 'notice', role: 'status' });
  readonly #traffic = element(
    'div',
    { class: 'traffic', role: 'group', 'aria-label': 'Traffic by version' },
    this.#bar,
    this.#legend,
  );
  readonly #models = new ModelsPanel(this.#colours);
  readonly #rollout: RolloutPanel;
  readonly #form: SwapForm;
  readonly #throughput = new Chart('Results per second', 'areas');
  readonly #mailbox = new Chart('Mailbox', 'lines');
  readonly #batches = new Chart('Batch size', 'lines');
  readonly #latency = new Chart('Latency, mean', 'lines');
  readonly #parts: PoolCardParts;
  readonly #name: string;

  constructor(name: string, isOpen: boolean, parts: PoolCardParts) {
    this.#name = name;
    this.#parts = parts;
    const number = ++lastNumber;
    const rollBack = (): void => void this.#call('rollback', {}, 'Rolling back');
    this.#rollout = new RolloutPanel({
      promote: () => void this.#call('promote', {}, 'Promoting'),
      rollBack,
    });
    const actions = {
      swap: (version: string, model: string | undefined) => {
        const of = model === undefined ? '' : ` of ${model}`;
        const params = model === undefined ? { version } : { version, model };
        void this.#call('swap', params, `Swapping to version ${version}${of}`);
      },
      canary: (version: string, share: number) =>
        void this.#call('canary', { version, share }, `Trying version ${version} on ${percentText(share)}`),
      rollBack,
    };
    this.#form = new SwapForm(name, number, parts.session, actions, (message) => this.#say(message, 'bad'));
    const figures = FIGURES.map((figure, index) =>
      element('div', {}, element('dt', {}, figure), this.#figures[index] as HTMLElement),
    );
    const summary = element(
      'summary',
      { class: 'pool-head' },
      element('h2', {}, name),
      this.#state,
      this.#breaker,
      this.#version,
      this.#ready,
    );
    this.node = element(
      'details',
      { class: 'panel pool', ...(isOpen ? { open: '' } : {}) },
      summary,
      element('dl', { class: 'figures' }, ...figures),
      this.#scaling,
      this.#rollout.node,
      this.#traffic,
      this.#models.node,
      element(
        'div',
        { class: 'charts' },
        this.#throughput.node,
        this.#mailbox.node,
        this.#batches.node,
        this.#latency.node,
      ),
      element('div', { class: 'pool-foot' }, this.#replicas, this.#form.node),
      this.#notice,
    );
    this.node.addEventListener('toggle', () => this.#draw());
  }

  #latest: PoolState | undefined;
  #at = 0;
  #answeredAt = -Infinity;

  show(state: PoolState, at: number): void {
    this.#latest = state;
    this.#at = at;
    this.#history.add(state, at);
    setText(this.#state, state.state);
    setAttribute(
      this.#state,
      'class',
      `badge ${state.state === 'running' ? 'good' : state.state === 'failed' ? 'bad' : 'plain'}`,
    );
    this.#breaker.hidden = state.breaker === null || state.breaker === 'closed';
    setText(this.#breaker, `breaker ${state.breaker ?? ''}`);
    const none = state.models === null ? 'no version' : 'many models';
    setText(this.#version, state.version === null ? none : `version ${state.version}`);
    const isAsleep = state.scaling?.asleep === true && state.replicaCount === 0;
    setText(this.#ready, isAsleep ? 'asleep' : `${state.readyCount} of ${plural(state.replicaCount, 'replica')} ready`);
    this.#draw();
  }

  hear(event: PageEvent): void {
    const mood = moodOf(event);
    if (event.kind === 'rollout' || event.kind === 'died') this.#history.mark({ at: Date.parse(event.at), kind: mood });
    // Whoever asked for it here has been told already.
    const isTold = performance.now() - this.#answeredAt < TOLD_MS;
    if (event.kind === 'rollout' && mood !== 'plain' && !isTold) this.#say(event.message, mood);
  }

  /** What is folded up is not drawn. */
  #draw(): void {
    const state = this.#latest;
    if (state === undefined || !this.node.open) return;
    const { results, errors, refused, latency, restarts } = state;
    const texts = [
      countText(results),
      countText(errors),
      countText(refused),
      `${numberText(latency.p50Ms)} ms`,
      `${numberText(latency.p99Ms)} ms`,
      countText(restarts),
    ];
    for (const [index, text] of texts.entries()) setText(this.#figures[index] as HTMLElement, text);
    this.#rollout.show(state);
    this.#form.show(state.previous, state.rollout !== null, state.models !== null);
    this.#scaling.hidden = state.scaling === null;
    setText(this.#scaling, scalingWords(state.scaling));
    this.#traffic.hidden = state.models !== null;
    this.#models.show(state.models);
    this.#drawTraffic(state);
    this.#drawReplicas(state);
    this.#drawCharts(state);
  }

  #drawTraffic(state: PoolState): void {
    const shares = sharesOf(state);
    this.#bar.replaceChildren(
      ...shares.map(({ version, share }) => {
        const part = element('span', { class: `traffic-part ${this.#colours.of(version)}` });
        part.style.flexGrow = String(share);
        return part;
      }),
    );
    this.#legend.replaceChildren(
      ...shares.map(({ version, share, wanted }) => {
        const asked = wanted === undefined ? '' : ` (asked for ${percentText(wanted)})`;
        const swatch = element('span', { class: `swatch ${this.#colours.of(version)}`, 'aria-hidden': 'true' });
        return element('li', {}, swatch, `version ${version}: ${percentText(share)} of the records${asked}`);
      }),
    );
  }

  #drawReplicas({ replicas, replicaCount }: PoolState): void {
    const shown = replicas.map(({ replica, state, version, starts, inFlight }) => {
      const swatch = element('span', {
        class: `swatch ${this.#colours.of(version ?? NO_VERSION)}`,
        'aria-hidden': 'true',
      });
      const words = [`replica ${replica}`, state, version === null ? '' : `version ${version}`];
      if (starts > 1) words.push(`start ${starts}`);
      if (inFlight > 0) words.push('busy');
      return element('li', { class: `replica ${state}` }, swatch, words.filter((word) => word !== '').join(' · '));
    });
    if (replicaCount > replicas.length) shown.push(element('li', {}, `and ${replicaCount - replicas.length} more`));
    this.#replicas.replaceChildren(...shown);
  }

  #drawCharts(state: PoolState): void {
    const { points, marks, latest } = this.#history;
    const times = points.map(({ at }) => at);
    const common = { times, marks, until: this.#at };
    const versions = [...new Set(points.flatMap(({ byVersion }) => [...byVersion.keys()]))];
    const errors = latest?.errorsPerSecond ?? 0;
    const total = [...(latest?.byVersion.values() ?? [])].reduce((sum, rate) => sum + rate, 0);
    this.#throughput.draw({
      ...common,
      series: [
        ...versions.map((version) => ({
          colour: this.#colours.of(version),
          values: points.map(({ byVersion }) => byVersion.get(version)),
        })),
        { colour: 'failures', values: points.map(({ errorsPerSecond }) => errorsPerSecond) },
      ],
      now: `${numberText(total)}${errors > 0 ? `, ${numberText(errors)} errors` : ''}`,
    });
    const line = (
      values: readonly (number | undefined)[],
      colour = 'ink',
    ): { colour: string; values: typeof values }[] => [{ colour, values }];
    this.#mailbox.draw({
      ...common,
      series: line(points.map(({ waiting }) => waiting)),
      now: `${countText(state.mailbox.held)} of ${countText(state.mailbox.capacity)}`,
    });
    this.#batches.draw({
      ...common,
      series: line(points.map(({ batchSize }) => batchSize)),
      now: `${latest?.batchSize === undefined ? '–' : numberText(latest.batchSize)} of ${countText(state.batchMax)}`,
    });
    this.#latency.draw({
      ...common,
      series: line(points.map(({ latencyMs }) => latencyMs)),
      now: latest?.latencyMs === undefined ? '–' : `${numberText(latest.latencyMs)} ms`,
    });
  }

  async #call(verb: PageVerb, params: Readonly<Record<string, unknown>>, words: string): Promise<void> {
    const { session, unlock } = this.#parts;
    if (!session.isUnlocked) {
      this.#say('Refused: to change something, unlock changes with the token first.', 'bad');
      const why = await unlock();
      if (why !== undefined) this.#say(why, 'bad');
      if (!session.isUnlocked) return;
    }
    this.#say(`${words} …`, 'plain');
    const fault = await session.call(verb, { pool: this.#name, ...params });
    this.#answeredAt = performance.now();
    if (fault === undefined) this.#say(`${words}: done`, 'good');
    else this.#say(fault.code === undefined ? fault.message : `${fault.code}: ${fault.message}`, 'bad');
  }

  #say(message: string, mood: 'good' | 'bad' | 'plain'): void {
    setText(this.#notice, message);
    setAttribute(this.#notice, 'class', `notice ${mood}`);
  }
}
