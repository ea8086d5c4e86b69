import { Agent } from 'node:http';
import type { ExecutionContext } from 'ava';
import { pairs, send } from '../serve/oip-stand.js';
import { quantile } from './row-report.js';

/** Callers of a server that do nothing wrong, four at once: what strange peers cost them. */
export interface OtherCallers {
  /** How long each of so many requests took. Rejects where one is not answered with 200. */
  round(requests: number): Promise<readonly number[]>;
  /** The best p99 of three rounds, after one that is not counted: of what else runs on the machine it says least. */
  p99(requests: number): Promise<number>;
}

export function otherCallers(t: ExecutionContext, port: number): OtherCallers {
  const agent = new Agent({ keepAlive: true, maxSockets: 4 });
  t.teardown(() => agent.destroy());
  const infer = { port, path: '/v2/models/double/infer', method: 'POST', agent };
  const body = JSON.stringify(pairs([1, 2]));
  const round = async (requests: number): Promise<readonly number[]> => {
    const took: number[] = [];
    const caller = async (): Promise<void> => {
      for (let index = 0; index < requests / 4; index++) {
        const startedAt = performance.now();
        const { status } = await send(infer, body);
        took.push(performance.now() - startedAt);
        if (status !== 200) throw new Error(`status ${status}`);
      }
    };
    await Promise.all(Array.from({ length: 4 }, caller));
    return took;
  };
  return {
    round,
    p99: async (requests) => {
      await round(requests);
      const rounds: number[] = [];
      for (let index = 0; index < 3; index++) rounds.push(quantile(await round(requests), 0.99));
      return Math.min(...rounds);
    },
  };
}
