import test from 'ava';
import { embeddingsBody } from '../../src/serve/openai-answer.js';

const head = { id: 'e', created: 0, model: 'm', version: undefined };

test('an embedding that float32 cannot hold is refused where it is asked for as base64, and told as numbers', (t) => {
  t.like(embeddingsBody(head, [[1e300]], false), { data: [{ embedding: [1e300] }] });
  t.throws(() => embeddingsBody(head, [[1, 1e300]], true), { code: 'PROTOCOL_VIOLATION', message: /within float32/ });
});
