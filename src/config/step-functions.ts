import type { LoadedConfig } from './load.js';
import { configError, pathText, type Problem } from './problem.js';
import { INFER_FUNCTIONS, isReference, stepOf } from './schema.js';
import { nodeAt } from './yaml-tree.js';

/** A function of a user's module; what it takes and gives is between the steps of the pipeline. */
export type StepFunction = (...values: unknown[]) => unknown;

/** By resolved reference, `file:///…/steps.js#parse`. */
export type StepFunctions = ReadonlyMap<string, StepFunction>;

/**
 * Imports every module the pipelines name and finds the functions, before anything starts. Rejects with CONFIG_INVALID
 * that names each module that cannot be imported and each export that is no function.
 */
export async function importStepFunctions(loaded: LoadedConfig, pipelines?: readonly string[]): Promise<StepFunctions> {
  const functions = new Map<string, StepFunction>();
  const problems: Problem[] = [];
  for (const { at, reference } of referencesOf(loaded, pipelines)) {
    if (functions.has(reference)) continue;
    const found = await importFunction(reference);
    if (typeof found === 'function') functions.set(reference, found);
    else problems.push({ at: nodeAt(loaded.tree, at).node.at, path: pathText(at), text: found });
  }
  if (problems.length > 0) throw configError(loaded.file, problems);
  return functions;
}

interface Reference {
  readonly at: readonly PropertyKey[];
  readonly reference: string;
}

function referencesOf({ config }: LoadedConfig, pipelines: readonly string[] | undefined): readonly Reference[] {
  const references: Reference[] = [];
  for (const [name, pipeline] of Object.entries(config.pipelines)) {
    if (pipelines !== undefined && !pipelines.includes(name)) continue;
    pipeline.steps.forEach((entry, index) => {
      const step = stepOf(entry);
      const at = ['pipelines', name, 'steps', index, step.kind];
      if (step.kind !== 'infer') {
        references.push({ at, reference: step.reference });
        return;
      }
      for (const key of INFER_FUNCTIONS) {
        const reference = step.options[key];
        if (reference !== undefined) references.push({ at: [...at, key], reference });
      }
      const { model } = step.options;
      if (model !== undefined && isReference(model)) references.push({ at: [...at, 'model'], reference: model });
      const fallback = step.options.fallback?.function;
      if (fallback !== undefined) references.push({ at: [...at, 'fallback', 'function'], reference: fallback });
    });
  }
  return references;
}

async function importFunction(reference: string): Promise<StepFunction | string> {
  const hash = reference.lastIndexOf('#');
  const name = reference.slice(hash + 1);
  const url = reference.slice(0, hash);
  let module: Record<string, unknown>;
  try {
    module = (await import(url)) as Record<string, unknown>;
  } catch (error) {
    return `${url} cannot be imported: ${error instanceof Error ? error.message : String(error)}`;
  }
  const found = module[name];
  if (typeof found === 'function') return found as StepFunction;
  const there = Object.keys(module).filter((key) => typeof module[key] === 'function');
  return `expected an exported function ${name}; ${url} exports ${there.length === 0 ? 'no function' : there.join(', ')}`;
}
