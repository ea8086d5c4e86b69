import fc from 'fast-check';
import test from 'ava';
import { TroupeError } from 'troupe';
import { VERB_NAMES } from '../../src/control/grammar.js';
import { shownAnswer, shownError, shownEvent, shownValue } from '../../src/control/shown.js';

/** Everything a terminal would obey, but for the ends of lines. */
const OBEYED = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/;
const PAYLOADS = [
  '\u001b[2J\u001b[H',
  '\u001b]0;owned\u0007',
  '\u001b]8;;http://evil\u0007click\u001b]8;;\u0007',
  '\u009b31m',
  '\u001bP$q\u001b\\',
  'a\rb',
  'a\bb',
  '\u202ereversed',
  '\u0000',
];

const line = (text: string) => ({
  name: text,
  state: 'running',
  version: text,
  next: text,
  share: 0.1,
  ready: 1,
  replicas: 1,
  held: 0,
  capacity: 1,
  results: 1,
  errors: 0,
  meanBatchSize: 1,
  p50Ms: 1,
  p99Ms: 1,
  restarts: 0,
});
const run = (text: string) => ({ name: text, records: 1, results: 1, failed: 0, deadLetters: 0, held: 0 });
const letter = (text: string) => ({ at: text, pipeline: text, pool: text, version: text, code: text, message: text });

function answersWith(text: string): Readonly<Record<(typeof VERB_NAMES)[number], unknown>> {
  return {
    ps: {
      system: text,
      pid: 1,
      upMs: 1,
      pools: [line(text)],
      pipelines: [run(text)],
      refused: { [text]: { [text]: 1 } },
    },
    stats: { [text]: { [text]: text } },
    versions: {
      pool: text,
      current: text,
      previous: text,
      next: text,
      step: text,
      share: 0.1,
      replicas: { [text]: 1 },
      available: [text],
      aliases: { [text]: text },
    },
    canary: { pool: text, current: text, replicas: {}, available: [], aliases: {} },
    shadow: { pool: text, current: text, replicas: {}, available: [], aliases: {} },
    explain: { file: text, values: [{ path: text, value: text, from: text }] },
    deadLetters: { letters: [letter(text)], files: { [text]: text } },
    plan: {
      file: text,
      steps: [{ action: 'swap', pool: text, from: text, to: text, drift: true }],
      nextStart: [text],
    },
    apply: { file: text, steps: [], nextStart: [text], done: 0 },
    ask: { value: { [text]: [text, new Error(text)] }, version: text },
    swap: line(text),
    promote: line(text),
    rollback: line(text),
    scale: line(text),
    restart: line(text),
    preload: line(text),
    unload: line(text),
    drain: line(text),
    tail: undefined,
  };
}

test('nothing that a terminal obeys comes out of any answer, event, value or error', (t) => {
  for (const text of PAYLOADS) {
    for (const [verb, answer] of Object.entries(answersWith(text))) {
      t.notRegex(shownAnswer(verb as (typeof VERB_NAMES)[number], answer), OBEYED, `${verb} ${JSON.stringify(text)}`);
    }
    const event = { seq: 1, at: `2026-01-01T00:00:00.000${text}`, kind: text, pool: text, message: `a\n${text}` };
    t.notRegex(shownEvent(event), OBEYED);
    t.false(shownEvent(event).includes('\n'), 'an event is one line');
    t.notRegex(shownValue({ [text]: text, [Symbol(text)]: 1 }), OBEYED);
    t.notRegex(shownError(new TroupeError('PREDICT_FAILED', text, { cause: new Error(text) })), OBEYED);
    class Odd {
      get [Symbol.toStringTag](): string {
        return text;
      }
    }
    t.notRegex(shownValue(new Odd()), OBEYED);
  }
});

test('any text, in any place, comes out harmless and bounded', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), fc.constantFrom(...VERB_NAMES), (text, verb) => {
      t.notRegex(shownAnswer(verb, answersWith(text)[verb]), OBEYED);
    }),
    { numRuns: 500 },
  );
  const long = 'x'.repeat(1_000_000);
  for (const verb of VERB_NAMES) t.true(shownAnswer(verb, answersWith(long)[verb]).length < 70_000, verb);
  t.true(shownValue(Array.from({ length: 100_000 }, () => long)).length < 70_000);
  t.true(shownError(new Error(long)).length < 70_000);
});

test('an error is its code and message, and its causes as far as they say something new', (t) => {
  const error = new TroupeError('SWAP_ROLLED_BACK', 'Pool "a" stays on version 1', {
    cause: new TypeError('no such tensor', { cause: new Error('no such tensor') }),
  });
  t.is(shownError(error), 'SWAP_ROLLED_BACK: Pool "a" stays on version 1\n  cause: TypeError: no such tensor');
  t.is(shownError('a string'), 'a string');
});
