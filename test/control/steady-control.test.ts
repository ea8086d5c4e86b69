import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { connectControl, createSystem, silentLog, type System, TroupeError } from 'troupe';
import { SteadyControl } from '../../src/control/steady-control.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { echo, privateFolder } from './stand.js';

async function systemAt(t: ExecutionContext, socket: string): Promise<System> {
  const system = createSystem({ name: 'steady', log: silentLog });
  t.teardown(() => system.stop({ timeoutMs: 0 }));
  await system.openControl({ socket });
  await system.spawn('echo', { actor: echo });
  return system;
}

interface Rig {
  readonly socket: string;
  readonly system: System;
  readonly control: SteadyControl;
  readonly clock: VirtualClock;
  readonly attempts: { count: number };
  /** Resolves to the next thing that is told. */
  next(): Promise<string>;
  /** Lets this much time pass and the attempts that fall due in it end. */
  pass(ms: number): Promise<void>;
}

/** A steady connection whose waits are moved by hand; chance always says the longest. */
async function rig(t: ExecutionContext): Promise<Rig> {
  const socket = join(privateFolder(t), 'c.sock');
  const system = await systemAt(t, socket);
  const clock = new VirtualClock();
  const told: string[] = [];
  let wake = (): void => undefined;
  const attempts = { count: 0 };
  let attempt: Promise<unknown> = Promise.resolve();
  const first = await connectControl(socket, { access: 'write' });
  const control = new SteadyControl({
    first,
    connect: () => {
      attempts.count += 1;
      const connecting = connectControl(socket, { access: 'write' });
      attempt = connecting.catch(() => undefined);
      return connecting;
    },
    told: (words) => {
      told.push(words);
      wake();
    },
    clock,
    random: () => 1,
  });
  t.teardown(() => control.close());
  const next = async (): Promise<string> => {
    for (;;) {
      const words = told.shift();
      if (words !== undefined) return words;
      await new Promise<void>((resolve) => (wake = resolve));
    }
  };
  const pass = async (ms: number): Promise<void> => {
    clock.advance(ms);
    await new Promise((resolve) => setImmediate(resolve));
    await attempt;
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { socket, system, control, clock, attempts, next, pass };
}

test('a system that is started again is found again, and what is said meanwhile is refused at once', async (t) => {
  const { socket, system, control, attempts, next, pass } = await rig(t);
  t.is((await control.ps()).system, 'steady');
  await system.stop();
  t.regex(await next(), /the system ended the connection\. Trying to get back to steady; nothing is sent meanwhile\.$/);
  const error = await t.throwsAsync(control.scale('echo', 2), { instanceOf: TroupeError });
  t.like(error, { code: 'CONTROL_UNREACHABLE', ran: 'not-started' });
  t.regex(error.message, /^There is no connection to steady now, so scale was not sent: .*it is being tried again$/);
  t.throws(() => control.tail('echo'), { message: /tail was not sent/ });
  await pass(199);
  t.is(attempts.count, 0, 'not before its time');
  await pass(1);
  t.is(attempts.count, 1);
  await systemAt(t, socket);
  await pass(400);
  t.regex(await next(), /^Connected to steady again \(pid \d+\)\.$/);
  t.is((await control.scale('echo', 2)).replicas, 2);
});

test('the waits between attempts grow to five seconds and are never shorter than half of that', async (t) => {
  const { system, control, clock, attempts, next } = await rig(t);
  await system.stop();
  await next();
  for (const waitMs of [200, 400, 800, 1600, 3200, 5000, 5000, 5000]) {
    const before = attempts.count;
    clock.advance(waitMs - 1);
    t.is(attempts.count, before);
    clock.advance(1);
    // The attempt has failed and the next wait has begun.
    while (clock.timerCount === 0) await new Promise((resolve) => setImmediate(resolve));
    t.is(attempts.count, before + 1);
  }
  await control.close();
  t.is(clock.timerCount, 0, 'a closed one tries no more');
});

test('who waits for the connection hears when it is back, or that it is given up', async (t) => {
  const { socket, system, control, next, pass } = await rig(t);
  const never = new AbortController();
  t.true(await control.connected(never.signal));
  await system.stop();
  await next();
  const impatient = new AbortController();
  const gaveUp = control.connected(impatient.signal);
  const patient = control.connected(never.signal);
  impatient.abort();
  t.false(await gaveUp);
  await systemAt(t, socket);
  await pass(200);
  t.true(await patient);
  await control.close();
  t.false(await control.connected(never.signal));
});
