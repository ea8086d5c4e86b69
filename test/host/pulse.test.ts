import test from 'ava';
import type { Clock } from '../../src/kernel/clock.js';
import { Pulse } from '../../src/host/pulse.js';

/** Hand-driven time: `advance` runs what has come due, each at its own instant unless the host was `late`. */
function handClock() {
  let now = 0;
  let due: { at: number; fn: () => void }[] = [];
  const clock: Clock = {
    now: () => now,
    wallNow: () => now,
    at: (at, fn) => {
      const entry = { at, fn };
      due.push(entry);
      return {
        cancel: () => {
          due = due.filter((other) => other !== entry);
        },
      };
    },
  };
  const advance = async (to: number): Promise<void> => {
    now = to;
    const ready = due.filter((entry) => entry.at <= now);
    due = due.filter((entry) => entry.at > now);
    for (const entry of ready) entry.fn();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { clock, advance };
}

const isLoading = false;

test('two missed beats mean silence, told once', async (t) => {
  const { clock, advance } = handClock();
  const silences: number[] = [];
  const pulse = new Pulse(
    100,
    (ms) => silences.push(ms),
    () => isLoading,
    clock,
  );
  await advance(1000);
  t.deepEqual(silences, [], 'nothing is judged before the first beat');
  pulse.beat();
  await advance(1100);
  pulse.beat();
  await advance(1200);
  t.deepEqual(silences, []);
  await advance(1300);
  await advance(1500);
  t.deepEqual(silences, [200]);
});

test('a host that was busy itself does not blame the child', async (t) => {
  const { clock, advance } = handClock();
  const silences: number[] = [];
  const pulse = new Pulse(
    100,
    (ms) => silences.push(ms),
    () => isLoading,
    clock,
  );
  pulse.beat();
  await advance(5000);
  t.deepEqual(silences, []);
  pulse.beat();
  await advance(5200);
  t.deepEqual(silences, [200]);
});

test('a stopped pulse tells nothing', async (t) => {
  const { clock, advance } = handClock();
  const silences: number[] = [];
  const pulse = new Pulse(
    100,
    (ms) => silences.push(ms),
    () => isLoading,
    clock,
  );
  pulse.beat();
  pulse.stop();
  await advance(200);
  pulse.beat();
  await advance(500);
  t.deepEqual(silences, []);
});

test('a replica that loads is not judged by its beats, and is from the moment it is ready', async (t) => {
  const { clock, advance } = handClock();
  const silences: number[] = [];
  let loads = true;
  const pulse = new Pulse(
    100,
    (ms) => silences.push(ms),
    () => loads,
    clock,
  );
  pulse.beat();
  for (let at = 200; at <= 1000; at += 200) await advance(at);
  t.deepEqual(silences, []);
  loads = false;
  await advance(1200);
  t.deepEqual(silences, [200]);
});
