import test from 'ava';
import fc from 'fast-check';
import { KeyGate } from '../../src/core/key-gate.js';
import type { Request } from '../../src/core/request.js';
import { requestMaker } from './make-request.js';

test('no order of arrivals and endings lets two of a key go, lets one overtake, or forgets one', (t) => {
  const step = fc.record({ enters: fc.boolean(), key: fc.constantFrom('a', 'b', 'c'), pick: fc.nat(100) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 100 }), (script) => {
      const gate = new KeyGate();
      const make = requestMaker();
      const byKey = new Map<string, Request[]>([
        ['a', []],
        ['b', []],
        ['c', []],
      ]);
      for (const { enters, key, pick } of script) {
        const queue = byKey.get(key) as Request[];
        if (enters) {
          const request = make({ key });
          if (gate.enter(request, key) !== (queue.length === 0)) return false;
          queue.push(request);
        } else if (queue.length > 0) {
          const at = pick % queue.length;
          const [request] = queue.splice(at, 1);
          if (gate.leave(request as Request, key) !== (at === 0 ? queue[0] : undefined)) return false;
        }
        if (gate.keyCount !== [...byKey.values()].filter((one) => one.length > 0).length) return false;
      }
      return true;
    }),
  );
  t.pass();
});

test('a record that never came in may settle: nothing changes', (t) => {
  const gate = new KeyGate();
  const make = requestMaker();
  const first = make({ key: 'k' });
  t.true(gate.enter(first, 'k'));
  t.is(gate.leave(make({ key: 'k' }), 'k'), undefined);
  t.false(gate.enter(make({ key: 'k' }), 'k'));
});
