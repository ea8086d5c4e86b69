import type { Isolation } from '../wire/definition.js';

/**
 * Actors that come with Troupe, by name. Native engines live in processes: a busy native thread cannot be ended. Those that
 * ask a server wait most of the time, and need no place of their own for it.
 */
const READY_MADE: ReadonlyMap<string, { readonly file: string; readonly isolation: Isolation }> = new Map([
  ['onnx', { file: 'onnx.js', isolation: 'process' }],
  ['mock', { file: 'mock.js', isolation: 'thread' }],
  ['triton', { file: 'triton.js', isolation: 'inline' }],
  ['http', { file: 'http.js', isolation: 'inline' }],
  ['openai', { file: 'openai.js', isolation: 'inline' }],
] as const);

export interface ResolvedActor {
  readonly url: string;
  readonly isolation: Isolation;
}

/** Is no module: it asks other pools of its system, which makes it. */
export const ENSEMBLE = 'ensemble';

/** Names of the ready-made actors, for messages. */
export const readyMadeNames: readonly string[] = [...READY_MADE.keys(), ENSEMBLE];

/** Undefined where the name is not a ready-made actor. */
export function readyMade(name: string): ResolvedActor | undefined {
  const row = READY_MADE.get(name);
  return row === undefined
    ? undefined
    : { url: new URL(`../../actors/${row.file}`, import.meta.url).href, isolation: row.isolation };
}
