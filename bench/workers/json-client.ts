import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { performance } from 'node:perf_hooks';
import { rounded } from '../statistics.js';

/**
 * Clients of servers that speak JSON, in a process of their own: so many connections, each with one request at a time.
 * Every answer is read and compared.
 */
export interface JsonOrder {
  readonly port: number;
  readonly path: string;
  /** Sent in turn. */
  readonly bodies: readonly string[];
  /** What each of them is answered with, at least to TOLERANCE. */
  readonly expected: readonly (readonly number[])[];
  /** Where in an answer the numbers stand. */
  readonly at: 'y' | 'outputs';
  readonly connections: number;
  /** Not counted: so long requests go before `ms` begins. */
  readonly warmMs: number;
  readonly ms: number;
}

export interface JsonOutcome {
  readonly answers: number;
  /** With those that do not count. */
  readonly all: number;
  readonly ms: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** What order of sums and vector units may change. */
const TOLERANCE = 1e-4;

process.on('message', (order: JsonOrder) => {
  carryOut(order).then(
    (outcome) => process.send?.(outcome),
    (error: Error) => process.send?.({ why: `${order.path}: ${error.message}` }),
  );
});
process.on('disconnect', () => process.exit());

async function carryOut({ connections, warmMs, ms, ...order }: JsonOrder): Promise<JsonOutcome> {
  const from = performance.now() + warmMs;
  const times: number[] = [];
  let last = from;
  let all = 0;
  await Promise.all(
    Array.from({ length: connections }, async (_, index) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      try {
        for (let n = index; performance.now() < from + ms; n++) {
          const sentAt = performance.now();
          await ask(agent, order, n % order.bodies.length);
          const now = performance.now();
          all++;
          if (sentAt < from || now > from + ms) continue;
          times.push(now - sentAt);
          last = now;
        }
      } finally {
        agent.destroy();
      }
    }),
  );
  times.sort((a, b) => a - b);
  const at = (share: number): number => rounded(times[Math.floor(share * (times.length - 1))] ?? NaN, 3);
  return { answers: times.length, all, ms: last - from, p50Ms: at(0.5), p99Ms: at(0.99) };
}

async function ask(
  agent: Agent,
  { port, path, bodies, expected, at }: Pick<JsonOrder, 'port' | 'path' | 'bodies' | 'expected' | 'at'>,
  which: number,
): Promise<void> {
  const body = bodies[which] as string;
  const headers = { 'content-type': 'application/json', 'content-length': body.length };
  const sent = request({ agent, host: '127.0.0.1', port, path, method: 'POST', headers });
  sent.end(body);
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  let text = '';
  response.setEncoding('latin1');
  response.on('data', (part: string) => (text += part));
  await once(response, 'end');
  if (response.statusCode !== 200) throw new Error(`status ${response.statusCode}: ${text.slice(0, 200)}`);
  compare(JSON.parse(text), at, expected[which] as readonly number[]);
}

function compare(answer: unknown, at: JsonOrder['at'], expected: readonly number[]): void {
  const { y, outputs } = answer as { y?: number[]; outputs?: { data: number[] }[] };
  const numbers = at === 'y' ? y : outputs?.[0]?.data;
  const isRight =
    numbers?.length === expected.length &&
    expected.every((value, index) => Math.abs(value - (numbers[index] as number)) <= TOLERANCE);
  if (!isRight) throw new Error(`expected [${expected.slice(0, 4).join(', ')}, …], got ${JSON.stringify(numbers)}`);
}
