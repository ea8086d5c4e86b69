import test from 'ava';
import fc from 'fast-check';
import { Deadlines } from '../../src/core/deadlines.js';
import type { Request } from '../../src/core/request.js';
import { requestMaker } from './make-request.js';

test('a record without a deadline takes no place', (t) => {
  const deadlines = new Deadlines();
  deadlines.add(requestMaker()({ deadlineAt: Infinity }));
  t.is(deadlines.count, 0);
  t.is(deadlines.nextAt, Infinity);
  t.is(deadlines.takeDue(1e12), undefined);
});

test('a deadline is due at its instant, not before', (t) => {
  const deadlines = new Deadlines();
  const request = requestMaker()({ deadlineAt: 100 });
  deadlines.add(request);
  t.is(deadlines.nextAt, 100);
  t.is(deadlines.takeDue(99.999), undefined);
  t.is(deadlines.takeDue(100), request);
  t.is(deadlines.count, 0);
});

test('removing a record twice, or one that was never there, does nothing', (t) => {
  const deadlines = new Deadlines();
  const make = requestMaker();
  const request = make({ deadlineAt: 5 });
  deadlines.add(request);
  deadlines.remove(request);
  deadlines.remove(request);
  deadlines.remove(make({ deadlineAt: 6 }));
  t.is(deadlines.count, 0);
  deadlines.add(request);
  t.throws(() => deadlines.add(request), { code: 'INTERNAL' }, 'a record has one deadline');
});

test('a record whose instant has come can wait for the same instant again', (t) => {
  const deadlines = new Deadlines();
  const request = requestMaker()({ deadlineAt: 5 });
  deadlines.add(request);
  t.is(deadlines.takeDue(5), request);
  deadlines.move(request, 5);
  t.is(deadlines.nextAt, 5);
  deadlines.move(request, 5);
  t.is(deadlines.count, 1);
});

test('no order of additions, removals and expiries loses a deadline or takes them out of order', (t) => {
  // Mostly additions, and few of them due: a heap of some depth is what there is to get wrong.
  const command = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('add' as const), at: fc.nat(1000) }) },
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('remove' as const), at: fc.nat(1000) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('due' as const), at: fc.nat(300) }) },
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 100, size: 'max' }), (commands) => {
      const deadlines = new Deadlines();
      const make = requestMaker();
      const model = new Set<Request>();
      const earliest = (): number => Math.min(Infinity, ...[...model].map((request) => request.deadlineAt));
      for (const { kind, at } of commands) {
        if (kind === 'add') {
          const request = make({ deadlineAt: at });
          model.add(request);
          deadlines.add(request);
        } else if (kind === 'remove') {
          const request = [...model][at % Math.max(1, model.size)];
          if (request === undefined) continue;
          model.delete(request);
          deadlines.remove(request);
        } else {
          for (let due = deadlines.takeDue(at); due !== undefined; due = deadlines.takeDue(at)) {
            if (due.deadlineAt !== earliest() || due.deadlineAt > at) throw new Error('out of order');
            if (!model.delete(due)) throw new Error('due twice');
          }
          if (earliest() <= at) throw new Error('a due deadline stayed');
        }
        if (deadlines.nextAt !== earliest() || deadlines.count !== model.size) throw new Error('miscounted');
      }
    }),
    { numRuns: 500 },
  );
  t.pass();
});

test('records due in the order they came leave from the front, the middle and the end', (t) => {
  const deadlines = new Deadlines();
  const make = requestMaker();
  const requests = [1, 2, 2, 3, 4].map((deadlineAt) => make({ deadlineAt }));
  for (const request of requests) deadlines.add(request);
  const early = make({ deadlineAt: 2.5 });
  deadlines.add(early);
  for (const index of [0, 2, 4]) deadlines.remove(requests[index] as Request);
  t.is(deadlines.count, 3);
  t.deepEqual([deadlines.takeDue(9), deadlines.takeDue(9), deadlines.takeDue(9)], [requests[1], early, requests[3]]);
  t.is(deadlines.nextAt, Infinity);
});
