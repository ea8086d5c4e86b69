import test from 'ava';
import { VirtualClock } from '../../src/testing/index.js';

test('timers run in the order of their instants, those set meanwhile included', (t) => {
  const clock = new VirtualClock();
  const ran: string[] = [];
  clock.at(20, () => ran.push('later'));
  clock.at(10, () => {
    ran.push(`first at ${clock.now()}`);
    clock.at(15, () => ran.push(`nested at ${clock.now()}`));
  });
  clock.advance(30);
  t.deepEqual(ran, ['first at 10', 'nested at 15', 'later']);
  t.is(clock.now(), 30);
});

test('a cancelled timer never runs and is not counted', (t) => {
  const clock = new VirtualClock();
  const timer = clock.at(10, () => t.fail());
  t.is(clock.timerCount, 1);
  timer.cancel();
  timer.cancel();
  clock.advance(100);
  t.is(clock.timerCount, 0);
});

test('a jump of the wall clock moves no timer', (t) => {
  const clock = new VirtualClock({ wallMs: 1_000_000 });
  let ranAt = -1;
  clock.at(50, () => (ranAt = clock.now()));
  clock.jumpWall(-3_600_000);
  clock.advance(49);
  t.is(ranAt, -1);
  clock.advance(1);
  t.is(ranAt, 50);
  t.is(clock.wallNow(), 1_000_000 - 3_600_000 + 50);
});

test('time never goes back', (t) => {
  const clock = new VirtualClock();
  clock.advance(10);
  t.throws(() => clock.advance(-1), { instanceOf: TypeError });
  clock.advanceTo(5);
  t.is(clock.now(), 10);
});

test('a timer that sets itself at once is stopped with an error instead of spinning', (t) => {
  const clock = new VirtualClock();
  const again = (): void => void clock.at(clock.now(), again);
  again();
  t.throws(() => clock.advance(1), { message: /one sets the next at once/ });
});
