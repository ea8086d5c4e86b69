import type { LoadContext, TensorSpec } from 'troupe/actor';

/** What a fault does when its time has come. */
export const MISDEEDS = [
  'throw', // predict throws at once
  'reject', // predict rejects at once
  'reject-late', // predict rejects after afterMs
  'error-in-place', // the matching records are answered with an Error each, the others properly
  'too-few', // one output fewer than records
  'too-many', // one output more
  'no-outputs', // undefined in place of the outputs
  'unhandled-rejection', // answers; afterMs later a promise nobody holds rejects
  'exit', // process.exit(exitCode) without a reply
  'abort', // process.abort()
  'segfault', // SIGSEGV to the own process
  'sigkill', // SIGKILL to the own process
  'hang-loop', // an endless loop: the event loop stands still
  'hang-await', // a promise that never settles: the event loop goes on
  'oom-heap', // fills the JavaScript heap until it ends
  'oom-buffers', // fills memory outside the heap until a limit ends it, or limitBytes is reached
] as const;

export type Misdeed = (typeof MISDEEDS)[number];

/** One scripted fault. It happens in every batch that matches all the conditions given; with none, in every batch. */
export interface MockFault {
  readonly do: Misdeed;
  /** The number of the batch, from 1, counted anew by each incarnation of a replica. */
  readonly batch?: number;
  /** Every so many batches. */
  readonly every?: number;
  /** Only batches with a record that holds this text: a string itself, or the JSON of anything else. */
  readonly record?: string;
  /** Only this replica. */
  readonly replica?: number;
  /** Only this model version. */
  readonly version?: string;
  /** Only while this file does not exist; it is created before the deed. So a crash happens once, restarts or not. */
  readonly onceFile?: string;
  /** For reject-late and unhandled-rejection. Default 20. */
  readonly afterMs?: number;
  /** For exit. Default 1. */
  readonly exitCode?: number;
  /** For oom-buffers: gives up with an Error here, so that a missing limit does not take the machine. Default 2 GiB. */
  readonly limitBytes?: number;
  /** Text of the error that is thrown. */
  readonly message?: string;
}

/** `options` of a pool whose actor is `mock`. Unknown keys are refused. */
export interface MockOptions {
  /** Cost of a batch of n records: a + b * n milliseconds. Defaults 0 and 0. */
  readonly a?: number;
  readonly b?: number;
  /** `real`: the cost is waited for. `virtual`: nothing is waited for, the cost is only reported. Default `real`. */
  readonly time?: 'real' | 'virtual';
  /** How real cost is spent: `wait` leaves the event loop free, `spin` holds it as a native call does. Default `wait`. */
  readonly work?: 'wait' | 'spin';
  /**
   * `echo` answers the record itself. `sum` answers the sum of its numbers (of a text: its length). `report` answers
   * { batch, index, size, costMs, replica, version, pid }; rows only. Default `echo`.
   */
  readonly answer?: 'echo' | 'sum' | 'report';
  /** With it the actor takes columns with these inputs: `echo` has the same outputs, `sum` one float64 named `sum`. */
  readonly inputs?: readonly TensorSpec[];
  /** load() takes this long. Default 0. */
  readonly loadMs?: number;
  /** How load() ends, after loadMs. Default `ok`. */
  readonly load?: 'ok' | 'throw' | 'exit' | 'hang-loop' | 'hang-await';
  /** unload() takes this long. Default 0. */
  readonly unloadMs?: number;
  readonly faults?: readonly MockFault[];
}

export interface ResolvedMockOptions extends Required<Omit<MockOptions, 'inputs'>> {
  readonly inputs: readonly TensorSpec[] | undefined;
}

type Check = (value: unknown) => boolean;
type Rules = Readonly<Record<string, readonly [Check, string]>>;

const isDuration: Check = (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0;
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 1;
const isIndex: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isText: Check = (value) => typeof value === 'string';
const among = (names: readonly string[]): readonly [Check, string] => [
  (value) => names.includes(value as string),
  `one of ${names.join(', ')}`,
];
const duration = [isDuration, 'milliseconds from 0'] as const;
const text = [isText, 'a text'] as const;

const OPTION_RULES: Rules = {
  a: duration,
  b: duration,
  time: among(['real', 'virtual']),
  work: among(['wait', 'spin']),
  answer: among(['echo', 'sum', 'report']),
  inputs: [Array.isArray, 'a list of tensor specs'],
  loadMs: duration,
  load: among(['ok', 'throw', 'exit', 'hang-loop', 'hang-await']),
  unloadMs: duration,
  faults: [Array.isArray, 'a list of faults'],
};

const FAULT_RULES: Rules = {
  do: among(MISDEEDS),
  batch: [isCount, 'a whole number from 1'],
  every: [isCount, 'a whole number from 1'],
  record: text,
  replica: [isIndex, 'a whole number from 0'],
  version: text,
  onceFile: text,
  afterMs: duration,
  exitCode: [(value) => isIndex(value) && (value as number) <= 255, 'a whole number from 0 to 255'],
  limitBytes: [isCount, 'bytes from 1'],
  message: text,
};

/** Fills in the defaults. Throws TypeError naming pool, option, expectation and value. */
export function resolveMockOptions({ pool, options }: LoadContext): ResolvedMockOptions {
  check(options, OPTION_RULES, `Pool "${pool}": option`);
  const given = options as MockOptions;
  for (const [index, fault] of (given.faults ?? []).entries()) {
    const where = `Pool "${pool}": option faults[${index}]`;
    if (typeof fault !== 'object' || fault === null)
      throw new TypeError(`${where} must be an object, got ${show(fault)}`);
    check(fault, FAULT_RULES, `${where}.`);
    if (fault.do === 'error-in-place' && given.inputs !== undefined) {
      throw new TypeError(
        `${where}.do of actor mock must not be error-in-place where inputs are given: columns have no place for an Error`,
      );
    }
    if (fault.do === undefined)
      throw new TypeError(`${where}.do of actor mock must be one of ${MISDEEDS.join(', ')}, got nothing`);
  }
  if (given.inputs !== undefined && given.answer === 'report') {
    throw new TypeError(
      `Pool "${pool}": option answer of actor mock must be echo or sum where inputs are given, got "report"`,
    );
  }
  return {
    a: given.a ?? 0,
    b: given.b ?? 0,
    time: given.time ?? 'real',
    work: given.work ?? 'wait',
    answer: given.answer ?? 'echo',
    inputs: given.inputs,
    loadMs: given.loadMs ?? 0,
    load: given.load ?? 'ok',
    unloadMs: given.unloadMs ?? 0,
    faults: given.faults ?? [],
  };
}

function check(given: object, rules: Rules, where: string): void {
  for (const [key, value] of Object.entries(given)) {
    const name = where.endsWith('.') ? `${where}${key}` : `${where} ${key}`;
    const rule = Object.hasOwn(rules, key) ? rules[key] : undefined;
    if (rule === undefined)
      throw new TypeError(`${name} is unknown to actor mock; known are ${Object.keys(rules).join(', ')}`);
    const [isRight, expected] = rule;
    if (value !== undefined && !isRight(value))
      throw new TypeError(`${name} of actor mock must be ${expected}, got ${show(value)}`);
  }
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}
