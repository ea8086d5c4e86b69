import { join } from 'node:path';
import test from 'ava';
import { createSystem, silentLog } from 'troupe';
import { Convergence } from '../../src/control/convergence.js';
import { EventLog } from '../../src/control/event-log.js';
import { LIMITS } from '../../src/control/grammar.js';
import { Operations } from '../../src/control/operations.js';
import { FailureBoard } from '../../src/control/failure-board.js';
import { startControlServer } from '../../src/control/server.js';
import { VirtualClock } from '../../src/testing/virtual-clock.js';
import { admitted, privateFolder, RawPeer } from './stand.js';

test('a peer that says no hello, or falls silent later, is ended; one that pings stays', async (t) => {
  const clock = new VirtualClock();
  const system = createSystem({ name: 'quiet', log: silentLog });
  t.teardown(() => system.stop());
  const parts = { system, log: silentLog, clock };
  const operations = new Operations({
    ...parts,
    events: new EventLog(system),
    board: new FailureBoard(),
    convergence: new Convergence(system, undefined),
  });
  const server = await startControlServer({ ...parts, operations, socket: join(privateFolder(t), 'c.sock') });
  t.teardown(() => server.close());

  const mute = new RawPeer(server.socket);
  const silent = await admitted(server.socket);
  const alive = await admitted(server.socket);
  t.is(server.connectionCount, 3);

  clock.advance(LIMITS.helloMs);
  t.regex((await mute.until(9))[0]?.['refused'].message, /nothing was heard for 5000 ms/);
  for (let passed = LIMITS.helloMs; passed < LIMITS.idleMs; passed += LIMITS.helloMs) {
    alive.send({ ping: passed });
    await alive.until(1 + passed / LIMITS.helloMs);
    clock.advance(LIMITS.helloMs);
  }
  t.regex((await silent.until(9)).at(-1)?.['refused'].message, /nothing was heard for 60000 ms/);
  t.true(silent.isClosed);
  t.false(alive.isClosed);
  t.is(server.refusals.silent, 2);
  alive.socket.destroy();
});
