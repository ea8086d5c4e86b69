import test from 'ava';
import { suggest } from '../../src/config/suggest.js';

const KEYS = ['actor', 'replicas', 'mailbox', 'maxSize', 'maxBytes'];

test('the nearest key is suggested for a slip: left out, doubled, swapped or in another case', (t) => {
  t.is(suggest('replcas', KEYS), 'replicas');
  t.is(suggest('replicass', KEYS), 'replicas');
  t.is(suggest('atcor', KEYS), 'actor');
  t.is(suggest('maxsize', KEYS), 'maxSize');
});

test('nothing is suggested for a word unlike every key, and an absurd word costs nothing', (t) => {
  t.is(suggest('zebra', KEYS), undefined);
  t.is(suggest('a'.repeat(1_000_000), KEYS), undefined);
});
