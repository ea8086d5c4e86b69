import test from 'ava';
import { RetryLane } from '../../src/core/retry-lane.js';
import { ids, requestMaker } from './make-request.js';

const make = requestMaker();

test('what must go again goes in the order put, ahead of what was put before', (t) => {
  const lane = new RetryLane();
  const [a, b, c] = [make(), make(), make()];
  lane.putFirst([[c]], 'retry');
  lane.putFirst([[a], [], [b]], 'split');
  t.deepEqual(
    [lane.take(true), lane.take(true), lane.take(true)].map(
      (group) => group && [group.trigger, ...ids(group.requests)],
    ),
    [
      ['split', a.id],
      ['split', b.id],
      ['retry', c.id],
    ],
  );
  t.is(lane.take(true), undefined);
  t.true(lane.isEmpty);
});

test('a suspect is given to an idle replica only, and nothing behind it passes', (t) => {
  const lane = new RetryLane();
  const [suspect, other] = [make(), make()];
  lane.putFirst([[other]], 'retry');
  lane.putFirst([[suspect]], 'quarantine');
  t.true(lane.suspectIsNext());
  t.is(lane.take(false), undefined);
  t.deepEqual(lane.take(true)?.requests, [suspect]);
  t.false(lane.suspectIsNext());
  t.deepEqual(lane.take(false)?.requests, [other]);
});

test('records that settled while they waited to go again are left out', (t) => {
  const lane = new RetryLane();
  const [a, b, c] = [make(), make(), make()];
  lane.putFirst([[a], [b, c]], 'retry');
  a.place = 'settled';
  b.place = 'settled';
  t.deepEqual(lane.take(true)?.requests, [c]);
  lane.putFirst([[b, c]], 'split');
  b.place = 'settled';
  t.deepEqual(lane.empty(), [c]);
  t.true(lane.isEmpty);
});
