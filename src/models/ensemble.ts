import type { ModelConfig } from './model-config-fields.js';

/**
 * The graph that `ensemble_scheduling` of a config.pbtxt draws: steps, each a model, and the tensors that lead from one to
 * the next. The rules are Triton's: every tensor comes from one place, an input of the ensemble or an output of a step, and
 * is used; no step waits for itself. What the models of the steps take and give is not known here.
 */

/** Names of a map of config.pbtxt: of the model's tensor, and of the ensemble's. */
export type TensorMap = readonly (readonly [model: string, ensemble: string])[];

export interface EnsembleStep {
  /** Its place in the file, from 0. */
  readonly index: number;
  /** As in `step 2 (classify)`, counted from 1. */
  readonly title: string;
  readonly model: string;
  /** The one version that may answer; undefined for whichever serves. */
  readonly version: string | undefined;
  readonly inputs: TensorMap;
  readonly outputs: TensorMap;
  /** Places of the steps whose tensors it takes. */
  readonly after: readonly number[];
}

/** The steps of a valid ensemble, each after those that it waits for. Empty where the model is none. */
export function stepsOf({ ensemble_scheduling: scheduling }: ModelConfig): readonly EnsembleStep[] {
  return inOrder(readSteps(scheduling)).steps;
}

export const ENSEMBLE_PLATFORM = 'ensemble';

/** Says what is wrong, and where: at the field, or at an entry of one of its lists or maps. */
export type Refuse = (field: string, problem: string, holder?: object, key?: string | number) => never;

const FORBIDDEN = ['instance_group', 'model_warmup', 'optimization'] as const;
const AT = 'ensemble_scheduling';

/** The rules for what stands in one file. */
export function checkEnsemble(config: ModelConfig, refuse: Refuse): void {
  const { platform, ensemble_scheduling: scheduling, input = [], output = [] } = config;
  if (scheduling === undefined) {
    if (platform === ENSEMBLE_PLATFORM) refuse('platform', `an ensemble needs ${AT} with its steps`);
    return;
  }
  if (platform !== ENSEMBLE_PLATFORM)
    refuse(AT, `expected platform: "${ENSEMBLE_PLATFORM}" beside it, found ${JSON.stringify(platform ?? '')}`);
  for (const field of FORBIDDEN)
    if (isThere(config[field])) refuse(field, 'an ensemble has none: the models of its steps have');
  if (input.length === 0) refuse(AT, 'an ensemble declares its input');
  if (output.length === 0) refuse(AT, 'an ensemble declares its output');
  for (const tensor of [...input, ...output])
    if (tensor.data_type === 'TYPE_BF16') refuse(AT, `${quoted(tensor.name)} is TYPE_BF16, which records cannot hold`);
  checkSteps(scheduling, refuse);
  checkTensors(config, readSteps(scheduling), refuse);
}

/** More than anybody draws; looking through them takes the square of it. */
const STEPS_MAX = 256;

function isThere(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : value !== undefined;
}

type Scheduling = NonNullable<ModelConfig['ensemble_scheduling']>;

function checkSteps({ step: steps = [] }: Scheduling, refuse: Refuse): void {
  if (steps.length === 0) refuse(AT, 'expected at least one step');
  if (steps.length > STEPS_MAX) refuse(AT, `expected at most ${STEPS_MAX} steps, found ${steps.length}`);
  steps.forEach((step, index) => {
    const { model_name: model = '', model_version: version = -1, model_namespace: namespace = '' } = step;
    const wrong = (problem: string): never => refuse(`${AT}.step`, `${titleOf(index, model)} ${problem}`, steps, index);
    if (model === '') wrong('has no model_name');
    if (version < -1) wrong(`has the model_version ${version}; expected a version, or -1 for the one that serves`);
    if (namespace !== '') wrong('has a model_namespace; repositories have no names here');
    for (const field of ['input_map', 'output_map'] as const) {
      const entries = Object.entries(step[field] ?? {});
      if (entries.length === 0) wrong(`has no ${field}`);
      if (entries.some(([key, value]) => key === '' || value === '')) wrong(`has a tensor without a name in ${field}`);
    }
  });
}

function checkTensors(config: ModelConfig, steps: readonly EnsembleStep[], refuse: Refuse): void {
  const { input = [], output = [], ensemble_scheduling: scheduling } = config;
  const raw = scheduling?.step ?? [];
  const givers = new Map<string, string>(input.map(({ name = '' }) => [name, 'an input of the ensemble']));
  const wanted = new Set<string>(output.map(({ name = '' }) => name));
  for (const { index, title, inputs, outputs } of steps) {
    for (const [, tensor] of inputs) wanted.add(tensor);
    for (const [key, tensor] of outputs) {
      const other = givers.get(tensor);
      const map = raw[index]?.output_map;
      if (other !== undefined)
        refuse(`${AT}.step.output_map`, `${title} gives ${quoted(tensor)}, which is ${other} already`, map, key);
      givers.set(tensor, `given by ${title}`);
    }
  }
  for (const { index, title, inputs } of steps)
    for (const [key, tensor] of inputs)
      if (!givers.has(tensor))
        refuse(
          `${AT}.step.input_map`,
          `${title} takes ${quoted(tensor)}, which is no input of the ensemble and which no step gives`,
          raw[index]?.input_map,
          key,
        );
  output.forEach(({ name = '' }, index) => {
    if (!givers.has(name)) refuse('output', `no step gives ${quoted(name)}`, output, index);
  });
  const { waiting } = inOrder(steps);
  const [first] = waiting;
  if (first !== undefined) {
    const all = waiting.map(({ title }) => title).join(', ');
    const problem = waiting.length === 1 ? `${all} waits for itself` : `${all} wait for each other`;
    refuse(`${AT}.step`, problem, raw, first.index);
  }
  input.forEach(({ name = '' }, index) => {
    if (!wanted.has(name)) refuse('input', `${quoted(name)} is not used by any step`, input, index);
  });
  for (const { index, title, outputs } of steps)
    for (const [key, tensor] of outputs)
      if (!wanted.has(tensor))
        refuse(
          `${AT}.step.output_map`,
          `${title} gives ${quoted(tensor)}, which nothing uses`,
          raw[index]?.output_map,
          key,
        );
}

function readSteps(scheduling: Scheduling | undefined): readonly EnsembleStep[] {
  const steps = scheduling?.step ?? [];
  const givers = new Map<string, number>();
  steps.forEach(({ output_map: outputs = {} }, index) => {
    for (const tensor of Object.values(outputs)) givers.set(tensor, index);
  });
  return steps.map((step, index) => {
    const {
      model_name: model = '',
      model_version: version = -1,
      input_map: inputs = {},
      output_map: outputs = {},
    } = step;
    const after = Object.values(inputs).flatMap((tensor) => givers.get(tensor) ?? []);
    return {
      index,
      title: titleOf(index, model),
      model,
      // What is not said is 0 in protobuf.
      version: version > 0 ? String(version) : undefined,
      inputs: Object.entries(inputs),
      outputs: Object.entries(outputs),
      after: [...new Set(after)],
    };
  });
}

/** Each after those that it waits for; and those whose turn never comes. */
function inOrder(steps: readonly EnsembleStep[]): {
  readonly steps: readonly EnsembleStep[];
  readonly waiting: readonly EnsembleStep[];
} {
  const done = new Set<number>();
  const ordered: EnsembleStep[] = [];
  let waiting = steps;
  for (;;) {
    const ready = waiting.filter(({ after }) => after.every((index) => done.has(index)));
    if (ready.length === 0) return { steps: ordered, waiting };
    for (const step of ready) {
      done.add(step.index);
      ordered.push(step);
    }
    waiting = waiting.filter(({ index }) => !done.has(index));
  }
}

function titleOf(index: number, model: string): string {
  return `step ${index + 1} (${model.slice(0, NAME_SHOWN)})`;
}

const NAME_SHOWN = 128;

function quoted(name = ''): string {
  return JSON.stringify(name.slice(0, NAME_SHOWN));
}
