import test from 'ava';
import fc from 'fast-check';
import { type Flight, Ledger } from '../../src/core/ledger.js';
import { requestMaker } from './make-request.js';

const make = requestMaker();

test('a batch is closed by the reply of the incarnation that was asked, once', (t) => {
  const ledger = new Ledger();
  const flight = ledger.open(1, 1, [make()], 'idle', 10);
  t.is(ledger.size, 1);
  t.is(ledger.close(1, 1, flight.batchId, 20), flight);
  t.is(ledger.size, 0);
  t.is(ledger.staleReplyCount, 0);
  t.is(ledger.close(1, 1, flight.batchId, 21), undefined, 'a repeated reply');
  t.is(ledger.staleReplyCount, 1);
});

test('replies of another incarnation, of another replica and to nothing ever asked are stale and counted', (t) => {
  const ledger = new Ledger();
  const flight = ledger.open(1, 2, [make()], 'idle', 0);
  t.is(ledger.close(1, 1, flight.batchId, 1), undefined, 'an earlier incarnation');
  t.is(ledger.close(1, 3, flight.batchId, 1), undefined, 'a later one');
  t.is(ledger.close(2, 2, flight.batchId, 1), undefined, 'another replica');
  t.is(ledger.close(1, 2, flight.batchId + 1, 1), undefined, 'an invented batch');
  t.is(ledger.staleReplyCount, 4);
  t.is(ledger.close(1, 2, flight.batchId, 1), flight, 'the true one still counts');
});

test('batches of a dead replica are handed back in the order sent, and late replies to them are stale', (t) => {
  const ledger = new Ledger();
  const first = ledger.open(1, 1, [make()], 'idle', 0);
  const second = ledger.open(1, 1, [make()], 'size', 1);
  const other = ledger.open(2, 1, [make()], 'size', 1);
  t.deepEqual(ledger.closeAll(1), [first, second]);
  t.deepEqual(ledger.closeAll(1), []);
  t.is(ledger.close(1, 1, first.batchId, 2), undefined);
  t.is(ledger.staleReplyCount, 1);
  t.deepEqual([...ledger.flights()], [other]);
});

test('the batch a replica runs is the first it was sent; the next begins when that is answered', (t) => {
  const ledger = new Ledger();
  const first = ledger.open(1, 1, [make()], 'idle', 0);
  const second = ledger.open(1, 1, [make()], 'size', 5);
  t.is(ledger.running(1), first);
  t.is(ledger.count(1), 2);
  ledger.close(1, 1, first.batchId, 40);
  t.is(ledger.running(1), second);
  t.is(second.startedAt, 40);
  t.is(second.sentAt, 5);
  ledger.close(1, 1, second.batchId, 50);
  t.is(ledger.running(1), undefined);
});

test('an answer out of order does not start the clock of the batch that still runs anew', (t) => {
  const ledger = new Ledger();
  const first = ledger.open(1, 1, [make()], 'idle', 0);
  const second = ledger.open(1, 1, [make()], 'size', 5);
  ledger.close(1, 1, second.batchId, 40);
  t.is(ledger.running(1), first);
  t.is(first.startedAt, 0);
});

test('no order of sends, replies, repeats and deaths lets a batch leave twice or stay for ever', (t) => {
  const cell = fc.integer({ min: 1, max: 3 });
  const command = fc.oneof(
    fc.record({ kind: fc.constant('open' as const), cell, pick: fc.nat() }),
    fc.record({ kind: fc.constant('reply' as const), cell, pick: fc.nat() }),
    fc.record({ kind: fc.constant('stale' as const), cell, pick: fc.nat() }),
    fc.record({ kind: fc.constant('die' as const), cell, pick: fc.nat() }),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 80, size: 'max' }), (commands) => {
      const ledger = new Ledger();
      const incarnations = [0, 1, 1, 1];
      const open: Flight[] = [];
      const gone: Flight[] = [];
      let stale = 0;
      for (const { kind, cell, pick } of commands) {
        const mine = open.filter((flight) => flight.cell === cell);
        if (kind === 'open') open.push(ledger.open(cell, incarnations[cell] as number, [make()], 'idle', 0));
        const from = kind === 'reply' ? mine : kind === 'stale' ? gone : [];
        const flight = from[pick % Math.max(1, from.length)];
        if (flight !== undefined) {
          const closed = ledger.close(flight.cell, flight.incarnation, flight.batchId, 0);
          if (kind === 'stale') stale += 1;
          if ((closed === flight) !== (kind === 'reply')) throw new Error(`${kind}: ${closed?.batchId}`);
          if (kind === 'reply') gone.push(...open.splice(open.indexOf(flight), 1));
        }
        if (kind === 'die') {
          const closed = ledger.closeAll(cell);
          if (closed.length !== mine.length || closed.some((one, at) => one !== mine[at]))
            throw new Error('wrong flights');
          for (const one of mine) gone.push(...open.splice(open.indexOf(one), 1));
          incarnations[cell] = (incarnations[cell] as number) + 1;
        }
        if (ledger.size !== open.length || ledger.staleReplyCount !== stale) throw new Error('miscounted');
        for (const at of [1, 2, 3]) {
          if (ledger.running(at) !== open.find((one) => one.cell === at)) throw new Error('wrong running batch');
        }
      }
    }),
    { numRuns: 500 },
  );
  t.pass();
});
