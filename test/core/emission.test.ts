import test from 'ava';
import fc from 'fast-check';
import { emissionOf, EmissionSlot, type Order } from '../../src/core/emission.js';

/** Defects named B5 and B12 are those of the sheet of operators: watermarks that overtake, failures that lose their slot. */

class Slot extends EmissionSlot {
  constructor(
    readonly seq: number,
    readonly key: string,
    readonly isControl: boolean,
  ) {
    super();
    this.isFence = isControl;
    this.isSettled = isControl;
  }
}

/** What may leave next, by the words of the manual: slow and plain. `held` is in the order of entry. */
function mayLeave(order: Order, held: readonly Slot[]): Slot[] {
  return held.filter((slot, at) => {
    if (!slot.isSettled) return false;
    const earlier = held.slice(0, at);
    if (order === 'ordered' || slot.isFence) return at === 0;
    if (earlier.some((other) => other.isFence)) return false;
    return order === 'unordered' || !earlier.some((other) => other.key === slot.key);
  });
}

type Step = { readonly kind: 'add' | 'control' | 'settle' | 'take'; readonly pick: number };

const steps = fc.array(
  fc.record<Step>({
    kind: fc.constantFrom('add', 'add', 'add', 'control', 'settle', 'settle', 'settle', 'take', 'take'),
    pick: fc.nat(1000),
  }),
  { minLength: 20, maxLength: 80 },
);

for (const order of ['ordered', 'unordered', 'keyed'] as const) {
  test(`${order}: no interleaving of entries, settlements and takes loses, doubles, delays or wrongly moves a slot (B5)`, (t) => {
    let crossings = 0;
    fc.assert(
      fc.property(steps, (script) => {
        const emission = emissionOf<Slot>(order);
        const held: Slot[] = [];
        const taken: Slot[] = [];
        const settledAt = new Map<Slot, number>();
        let entered = 0;
        const settle = (slot: Slot): void => {
          slot.isSettled = true;
          settledAt.set(slot, settledAt.size);
          emission.settled(slot);
        };
        const take = (): boolean => {
          const allowed = mayLeave(order, held);
          if (emission.hasReady() !== allowed.length > 0) throw new Error('ready, though nothing may leave, or not');
          const slot = emission.tryTake();
          if (slot === undefined) {
            if (allowed.length > 0) throw new Error(`${allowed[0]?.seq} could leave`);
            return false;
          }
          if (!allowed.includes(slot)) throw new Error(`${slot.seq} must not leave yet`);
          if (order === 'unordered' && !slot.isFence) {
            const first = allowed.reduce((a, b) => ((settledAt.get(a) ?? 0) < (settledAt.get(b) ?? 0) ? a : b));
            if (first !== slot) throw new Error(`${first.seq} settled before ${slot.seq}`);
          }
          if (held[0] !== slot) crossings += 1;
          held.splice(held.indexOf(slot), 1);
          taken.push(slot);
          return true;
        };
        const run = ({ kind, pick }: Step): void => {
          const open = held.filter((slot) => !slot.isSettled);
          if (kind === 'settle' && open.length > 0) settle(open[pick % open.length] as Slot);
          else if (kind === 'take') take();
          else if (kind === 'add' || kind === 'control') {
            const slot = new Slot(entered, `k${pick % 4}`, kind === 'control');
            entered += 1;
            emission.add(slot, slot.key);
            if (slot.isSettled) settle(slot);
            held.push(slot);
          }
          if ([...emission.held()].some((slot, at) => slot !== held[at]) || emission.size !== held.length) {
            throw new Error('what is held differs');
          }
        };
        for (const step of script) run(step);
        for (let pick = 0; held.length > 0; pick += 7) {
          if (!take()) run({ kind: 'settle', pick });
        }
        return new Set(taken).size === entered && taken.length === entered && !emission.hasReady();
      }),
      { numRuns: 2000, seed: 38825 },
    );
    // Anti-vacuity: where the order is free, slots did leave before older ones.
    t.is(crossings > 1000, order !== 'ordered', `${crossings} slots left before an older one`);
  });
}

test('keyed: a slow slot holds back its own key and nothing else', (t) => {
  const emission = emissionOf<Slot>('keyed');
  const slots = ['a', 'b', 'a', 'b'].map((key, seq) => new Slot(seq, key, false));
  for (const slot of slots) emission.add(slot, slot.key);
  for (const slot of slots.slice(1)) {
    slot.isSettled = true;
    emission.settled(slot);
  }
  t.deepEqual([emission.tryTake()?.seq, emission.tryTake()?.seq, emission.tryTake()?.seq], [1, 3, undefined]);
  const [slow] = slots as [Slot];
  slow.isSettled = true;
  emission.settled(slow);
  t.deepEqual([emission.tryTake()?.seq, emission.tryTake()?.seq], [0, 2]);
});
