import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { type Handler, HttpListener, type ListenWays } from '../../src/stream/http-listener.js';
import { type Late, late, standStill } from './late-stand.js';

const TIMES = { headersMs: 100, receiveMs: 200 };
/** So long that both times have passed, and every timer that looks at them is due. */
const STALL_MS = 600;
const HEAD = 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n';

/** Answers each request when its body is there. */
const answers: Handler = (request, response) => {
  request.resume();
  request.on('end', () => response.end('taken'));
};

async function stand(t: ExecutionContext, handler = answers, ways: ListenWays = TIMES): Promise<Late> {
  const made = await late(t);
  const listener = new HttpListener({ port: 0 }, 'POST', handler, { ...ways, bind: made.bind });
  await listener.open();
  t.teardown(() => listener.close(0));
  return made;
}

async function write({ client }: Late, text: string): Promise<void> {
  await new Promise((resolve) => client.write(text, resolve));
}

test('a request whose bytes came while the process stood still is served, however long that was', async (t) => {
  const made = await stand(t);
  await write(made, `${HEAD}abc`);
  made.enter();
  standStill(STALL_MS);
  t.regex(await made.said(/taken/), /^HTTP\/1\.1 200 OK\r\n/);
  await write(made, `${HEAD}abc`);
  t.regex(await made.said(/taken.*taken/s), /taken.*200 OK.*taken/s, 'and so is the next on its connection');
});

test('a body whose rest came while the process stood still is served', async (t) => {
  const made = await stand(t, (request, response, route) => {
    answers(request, response, route);
    made.client.write('bc');
    standStill(STALL_MS);
  });
  await write(made, `${HEAD}a`);
  made.enter();
  t.regex(await made.said(/taken/), /^HTTP\/1\.1 200 OK\r\n/);
});

test('a request on a connection that rested is served where it came while the process stood still', async (t) => {
  let count = 0;
  const ways = { headersMs: 60_000, receiveMs: 60_000, keepAliveMs: 100 };
  const made = await stand(
    t,
    (request, response, route) => {
      answers(request, response, route);
      if (count++ > 0) return;
      response.on('finish', () => {
        made.client.write(`${HEAD}abc`);
        standStill(3 * STALL_MS); // Newer Node gives it a second more than was asked for.
      });
    },
    ways,
  );
  await write(made, `${HEAD}abc`);
  made.enter();
  t.regex(await made.said(/taken.*taken/s), /taken.*200 OK.*taken/s);
  t.is(count, 2);
  const closed = once(made.client, 'close');
  await closed;
  t.pass('and rests no longer than it may');
});

test('headers that are not there in time are refused, whatever of them came while the process stood still', async (t) => {
  const made = await stand(t);
  await write(made, HEAD.slice(0, -2));
  made.enter();
  standStill(STALL_MS);
  t.regex(await made.said(/\}$/), /^HTTP\/1\.1 408 .*did not arrive in time/s);
  const slow = await stand(t);
  slow.enter();
  t.regex(await slow.said(/\}$/), /^HTTP\/1\.1 408 /, 'and so is who says nothing');
});

test('a body that does not come has its time even where its headers were late', async (t) => {
  const made = await stand(t);
  await write(made, `${HEAD}a`);
  made.enter();
  standStill(STALL_MS);
  t.regex(await made.said(/\}$/), /^HTTP\/1\.1 408 .*did not arrive in time/s);
});
