import test from 'ava';
import { fromIterable, type Pipeline, stream, TroupeError } from 'troupe';
import { ShufflingTarget } from './hand-target.js';

interface Review {
  readonly text: string;
  readonly user: string;
}

interface Scored extends Review {
  readonly score: number;
}

const failing = () =>
  new ShufflingTarget<string, number>(
    8,
    () => 0,
    () => new TroupeError('PREDICT_FAILED', 'no'),
  );

test('the types of records, inputs, results and fallbacks follow from the functions given', async (t) => {
  const reviews = stream(fromIterable<Review>([{ text: 'four', user: 'u' }]));
  const cheap = new ShufflingTarget<number, { readonly stars: number }>(
    8,
    () => 0,
    (length) => ({ stars: length }),
  );
  const same = new ShufflingTarget<string, number>(
    8,
    () => 0,
    (text) => text.length * 2,
  );
  const scored: Pipeline<Scored>[] = [
    reviews.infer(failing(), {
      input: ({ text }) => text,
      output: (review, score) => ({ ...review, score }),
      fallback: ({ user, text }, { code }, { seq }) => ({ user, text, score: code.length + seq }),
      order: 'keyed',
      key: ({ user }, { id }) => `${user}${id.length}`,
      timeout: { ms: 1000, mode: 'batch' },
      retry: { attempts: 2, backoffMs: 0, rules: { PREDICT_FAILED: { attempts: 2 }, ACTOR_OOM: 'never' } },
      breaker: { minCalls: 100 },
    }),
    reviews.infer(failing(), {
      input: ({ text }) => text,
      output: (review, score) => ({ ...review, score }),
      fallback: { value: { text: '', user: '', score: 0 } },
    }),
    reviews.infer(failing(), {
      input: ({ text }) => text,
      output: (review, score) => ({ ...review, score }),
      fallback: same,
    }),
    reviews.infer(failing(), {
      input: ({ text }) => text,
      output: (review, score) => ({ ...review, score }),
      fallback: {
        pool: cheap,
        input: ({ text }) => text.length,
        output: (review, result: { stars: number }) => ({ ...review, score: result.stars }),
      },
    }),
  ];
  const scores = await Promise.all(scored.map(async (pipeline) => (await pipeline.toArray())[0]?.score));
  t.deepEqual(scores, ['PREDICT_FAILED'.length, 0, 8, 4]);
  // @ts-expect-error: the fallback gives what goes on, and a string is no Scored
  const wrong: Pipeline<Scored> = reviews.infer(failing(), { input: ({ text }) => text, fallback: () => 'none' });
  t.truthy(wrong);
});
