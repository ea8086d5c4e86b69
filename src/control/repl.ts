/**
 * Node's REPL with the verbs of the control plane in it: `swap('filetype', 2)` and `swap filetype 2` are the same. What is
 * typed runs here, in the process of whoever types it; only verbs reach the system.
 *
 * The door to node:repl. The built-in evaluation is kept, for top-level await and lines that go on; ours goes around it:
 * a line that is a verb is awaited, and what it rejects with is shown in one line, without a stack. Lines that do not come
 * from a terminal are handed over one at a time, each when the one before it is done.
 */
import { createInterface } from 'node:readline';
import type { REPLServer } from 'node:repl';
import { PassThrough } from 'node:stream';
import { callbackify, inspect, promisify } from 'node:util';
import { deferred } from '../kernel/deferred.js';
import { isTroupeError } from '../kernel/errors.js';
import type { Calls, TailOptions } from './calls.js';
import { type Access, VERB_NAMES, VERBS, type VerbName } from './grammar.js';
import { type Completions, completionsFor } from './repl-completion.js';
import { helpText, verbHelp } from './repl-help.js';
import { shownAnswer, shownError, shownEvent, shownValue } from './shown.js';
import { runTop, type TopOutput } from './top.js';
import { paramsOf, wordsOf } from './words.js';

export interface ReplParts {
  readonly calls: Calls;
  /** Of the system; the prompt. */
  readonly name: string;
  readonly access: Access;
  readonly input: NodeJS.ReadableStream;
  readonly output: NodeJS.WritableStream & { readonly isTTY?: boolean };
  /** Where lines are remembered; only of a terminal. */
  readonly historyFile?: string | undefined;
  /** Aborted: the session ends. */
  readonly stop?: AbortSignal | undefined;
  /** Further names that can be used in it. */
  readonly context?: Readonly<Record<string, unknown>>;
}

/** Hands a line over when the prompt stands after the one before it. */
class OneByOne {
  readonly input = new PassThrough();
  readonly #lines: AsyncIterator<string>;

  constructor(input: NodeJS.ReadableStream) {
    this.#lines = createInterface({ input, terminal: false })[Symbol.asyncIterator]();
  }

  attach(server: REPLServer): void {
    const display = server.displayPrompt.bind(server);
    server.displayPrompt = (preserveCursor) => {
      display(preserveCursor);
      void this.#next();
    };
    void this.#next();
  }

  async #next(): Promise<void> {
    try {
      const { done, value } = await this.#lines.next();
      if (done === true) this.input.end();
      else this.input.write(`${value}\n`);
    } catch {
      this.input.end(); // It cannot be read any more: that is its end.
    }
  }
}

/** Text instead of a value, for the writer. */
class Shown {
  constructor(readonly text: string) {}
}

/** Runs until its input ends or `.exit`. Never rejects for what is typed. */
export async function runRepl(parts: ReplParts): Promise<void> {
  const { calls, name, access, input, output } = parts;
  // With it comes node:domain, which makes every event of a process dearer: only who types has it.
  const { start } = await import('node:repl');
  const isTerminal = output.isTTY === true;
  const session = new Session(calls, access, output);
  const lines = isTerminal ? undefined : new OneByOne(input);
  const server = start({
    prompt: access === 'write' ? `${name} (write)> ` : `${name}> `,
    input: lines?.input ?? input,
    output,
    terminal: isTerminal,
    useGlobal: false,
    ignoreUndefined: true,
    preview: false,
    breakEvalOnSigint: true,
    writer: session.writer,
  });
  for (const [key, value] of Object.entries({ ...session.functions, ...parts.context, control: calls })) {
    Object.defineProperty(server.context, key, { value, enumerable: true, configurable: true });
  }
  session.attach(server);
  lines?.attach(server);
  server.defineCommand('help', {
    help: 'What there is',
    action() {
      output.write(`${helpText(access)}\n`);
      this.displayPrompt();
    },
  });
  if (isTerminal && parts.historyFile !== undefined) {
    // A file that cannot be used costs the memory of the lines, nothing else; Node says so itself.
    server.setupHistory(parts.historyFile, () => undefined);
  }
  const closed = deferred<void>();
  server.once('exit', () => closed.resolve());
  const stopped = (): void => {
    session.end();
    server.close();
  };
  if (parts.stop?.aborted === true) stopped();
  else parts.stop?.addEventListener('abort', stopped);
  await closed.promise;
  parts.stop?.removeEventListener('abort', stopped);
  session.end();
}

type Evaluate = (
  code: string,
  context: unknown,
  file: string,
  done: (error: Error | null, value?: unknown) => void,
) => void;

class Session {
  readonly functions: Readonly<Record<string, unknown>>;
  readonly #calls: Calls;
  readonly #access: Access;
  readonly #output: ReplParts['output'];
  /** What was given by a verb, so that it is shown as such wherever it comes from. */
  readonly #answers = new WeakMap<object, VerbName>();
  readonly #verbs = new Map<unknown, VerbName>();
  #interrupt = new AbortController();

  constructor(calls: Calls, access: Access, output: ReplParts['output']) {
    this.#calls = calls;
    this.#access = access;
    this.#output = output;
    const functions: Record<string, unknown> = {
      help: (verb?: unknown) => new Shown(this.#help(verb)),
      top: () => this.#top(),
      [SHOWN]: (call: () => Promise<unknown>) => this.#shown(call),
    };
    for (const verb of VERB_NAMES) {
      const run = (...args: readonly unknown[]): Promise<unknown> => this.#run(verb, args);
      functions[verb] = run;
      this.#verbs.set(run, verb);
    }
    this.functions = functions;
  }

  attach(server: REPLServer): void {
    const inner = server.eval as Evaluate;
    const around: Evaluate = (code, context, file, done) => {
      if (EXIT_LINE.test(code)) {
        server.close(); // Not `done`, which would ask for the next line.
        return;
      }
      let line: string;
      try {
        line = lineOf(code);
      } catch (error) {
        done(null, new Shown(shownError(error)));
        return;
      }
      this.#interrupt = new AbortController();
      inner.call(server, line, context, file, done);
    };
    Object.assign(server, { eval: around });
    const builtIn = promisify((server.completer as (line: string, done: Completed) => void).bind(server));
    const complete = async (line: string): Promise<Completions> => {
      // A system that does not answer any more has nothing to complete; the next line will say so.
      const found = await completionsFor(line, this.#calls).catch((): Completions => [[], line]);
      return found ?? (await builtIn(line)) ?? [[], line];
    };
    Object.assign(server, { completer: callbackify(complete) });
    server.on('SIGINT', () => this.#interrupt.abort());
  }

  end(): void {
    this.#interrupt.abort();
  }

  /** Called by the REPL with everything it shows. */
  readonly writer = Object.assign(
    (value: unknown): string => {
      if (value instanceof Shown) return value.text;
      if (typeof value === 'function' && value === this.functions['help']) return this.#help(undefined);
      const named = this.#verbs.get(value);
      if (named !== undefined) return verbHelp(named);
      const verb = typeof value === 'object' && value !== null ? this.#answers.get(value) : undefined;
      if (verb !== undefined) return shownAnswer(verb, value);
      return value instanceof Error ? shownError(value) : shownValue(value);
    },
    // The REPL reads its width from here.
    { options: { ...inspect.defaultOptions, colors: false } },
  );

  /** The line of a verb: what it rejects with is an answer too. */
  async #shown(call: () => Promise<unknown>): Promise<unknown> {
    try {
      return await call();
    } catch (error) {
      return new Shown(errorText(error));
    }
  }

  #help(verb: unknown): string {
    const name = typeof verb === 'function' ? this.#verbs.get(verb) : verb;
    return VERB_NAMES.includes(name as VerbName) ? verbHelp(name as VerbName) : helpText(this.#access);
  }

  async #run(verb: VerbName, args: readonly unknown[]): Promise<unknown> {
    const params = paramsByPlace(verb, args);
    if (verb === 'tail') return this.#tail(params);
    const answer = await this.#calls.call(verb, params);
    if (typeof answer === 'object' && answer !== null) this.#answers.set(answer, verb);
    return answer;
  }

  /** On a terminal until it is interrupted, elsewhere once. */
  #top(): Promise<void> {
    const count = this.#output.isTTY === true ? Infinity : 1;
    const output: TopOutput = this.#output;
    return runTop(this.#calls, { output, stop: this.#interrupt.signal, everyMs: TOP_EVERY_MS, count });
  }

  async #tail({ pool, last }: { readonly pool?: unknown; readonly last?: unknown }): Promise<void> {
    const options: TailOptions = {
      signal: this.#interrupt.signal,
      ...(last === undefined ? {} : { last: last as number }),
    };
    for await (const event of this.#calls.tail(pool as string | undefined, options)) {
      this.#output.write(`${shownEvent(event)}\n`);
    }
  }
}

type Completed = (error: Error | null, found?: Completions) => void;

/** A name that nobody types. */
const SHOWN = '$troupeShown';

const VERB_LINE = new RegExp(`^\\s*(${VERB_NAMES.join('|')})(?![\\w$])\\s*([\\s\\S]*?);?\\s*$`);

/** As `troupe top`. */
const TOP_EVERY_MS = 1000;
const TOP_LINE = /^\s*top\s*(?:\(\s*\))?\s*;?\s*$/;
/** As in other shells. */
const EXIT_LINE = /^\s*(?:exit|quit)\s*;?\s*$/;
/** `help swap`, as in other shells. */
const HELP_LINE = /^\s*help\s+(\w+)\s*;?\s*$/;

/**
 * What is evaluated for a line: a verb is awaited, and words after it become its arguments; everything else is left as it
 * is. Throws a TypeError for words that the verb does not take.
 */
function lineOf(code: string): string {
  const topic = HELP_LINE.exec(code)?.[1];
  if (topic !== undefined) return `help(${JSON.stringify(topic)})\n`;
  if (TOP_LINE.test(code)) return awaited('top()');
  const [, verb, rest = ''] = VERB_LINE.exec(code) ?? [];
  if (verb === undefined) return code;
  if (isOneCall(rest)) return awaited(`${verb}${rest}`);
  if (rest.startsWith('(')) return code;
  const name = verb as VerbName;
  if (rest === '') return VERBS[name].places.some((place) => !('isOptional' in place)) ? code : awaited(`${name}()`);
  // `scale = 3`, `ps.name`: JavaScript.
  if (/^[=.,?:[\]{}`+*/%&|<>!^)-]/.test(rest) && !rest.startsWith('--')) return code;
  const params = paramsOf(name, wordsOf(rest));
  return awaited(`${name}(${argumentsOf(name, params)})`);
}

/** `(…)` and nothing after it: what follows a call, such as `.then`, is JavaScript. */
function isOneCall(text: string): boolean {
  let depth = 0;
  let quote: string | undefined;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at] as string;
    if (quote !== undefined) {
      if (char === '\\') at += 1;
      else if (char === quote) quote = undefined;
    } else if (char === "'" || char === '"' || char === '`') quote = char;
    else if (char === '(') depth += 1;
    else if (char === ')') {
      depth -= 1;
      if (depth === 0) return at === text.length - 1;
    } else if (depth === 0) return false;
  }
  return false;
}

function awaited(call: string): string {
  return `await ${SHOWN}(() => ${call})\n`;
}

/** Parameters as the arguments of a call. JSON is JavaScript, but for two separators. */
function argumentsOf(verb: VerbName, params: Readonly<Record<string, unknown>>): string {
  const { places } = VERBS[verb];
  const names: readonly string[] = places.map(({ name }) => name);
  const options = Object.fromEntries(Object.entries(params).filter(([name]) => !names.includes(name)));
  const values = [...names.map((name) => params[name]), options];
  return values.map((value) => JSON.stringify(value)?.replace(/[\u2028\u2029]/g, '') ?? 'undefined').join(', ');
}

function paramsByPlace(verb: VerbName, args: readonly unknown[]): Record<string, unknown> {
  const places: readonly { readonly name: string }[] = VERBS[verb].places;
  const params: Record<string, unknown> = {};
  for (const [index, { name }] of places.entries()) if (args[index] !== undefined) params[name] = args[index];
  const options = args[places.length];
  if (args.length > places.length + 1 || (options !== undefined && (typeof options !== 'object' || options === null))) {
    throw new TypeError(`${verb}: too many arguments; as in ${VERBS[verb].example}`);
  }
  return { ...(options as object | undefined), ...params };
}

function errorText(error: unknown): string {
  const text = shownError(error);
  const mayOnlyRead =
    isTroupeError(error) && error.code === 'CONTROL_REFUSED' && error.message.includes('may only read');
  return mayOnlyRead ? `${text}; start the REPL with --write` : text;
}
