/** promtool and a real Prometheus for tests. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { findServer, freePort, lineOf, serverEnvironment, supervise } from './servers.js';

export interface Lint {
  readonly status: number | null;
  /** What it has against the text, line by line. */
  readonly complaints: readonly string[];
}

/** What `promtool check metrics` says of a scrape; undefined where there is no promtool. */
export function lint(text: string): Lint | undefined {
  const binary = findServer('promtool');
  if (binary === undefined) return undefined;
  const { status, stdout, stderr } = spawnSync(binary, ['check', 'metrics'], {
    input: text,
    env: serverEnvironment(),
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, complaints: `${stdout}${stderr}`.split('\n').filter((line) => line !== '') };
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Prometheus {
  /** An instant query. */
  query(promql: string): Promise<readonly Sample[]>;
  /** Asks until the answer is as wanted; fails after 20 s with the last answer. */
  until(promql: string, isWanted: (samples: readonly Sample[]) => boolean): Promise<readonly Sample[]>;
}

export interface Target {
  /** host:port. */
  readonly address: string;
  readonly token?: string;
}

/** A Prometheus that scrapes the targets four times a second; findServer('prometheus') must have found one. */
export async function startPrometheus(t: ExecutionContext, targets: readonly Target[]): Promise<Prometheus> {
  const binary = findServer('prometheus') as string;
  const folder = mkdtempSync(path.join(tmpdir(), 'troupe-prometheus-'));
  const jobs = targets.map(({ address, token }, index) => ({
    job_name: `troupe${index}`,
    static_configs: [{ targets: [address] }],
    ...(token === undefined ? {} : { authorization: { credentials: token } }),
  }));
  const config = { global: { scrape_interval: '250ms', scrape_timeout: '250ms' }, scrape_configs: jobs };
  // JSON is YAML too.
  writeFileSync(path.join(folder, 'prometheus.yml'), JSON.stringify(config));
  const port = await freePort();
  const args = [
    `--config.file=${path.join(folder, 'prometheus.yml')}`,
    `--storage.tsdb.path=${path.join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ];
  const start = async (): Promise<ChildProcess> => {
    const child = spawn(binary, args, { env: serverEnvironment(), cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    await lineOf(child, child.stderr, /Server is ready to receive web requests/);
    return child;
  };
  const { url } = await supervise(t, folder, `http://127.0.0.1:${port}`, start);
  const query = async (promql: string): Promise<readonly Sample[]> => {
    const response = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(promql)}`);
    const body = (await response.json()) as Reply;
    if (body.status !== 'success') throw new Error(`${promql}: ${body.error}`);
    return body.data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
  };
  return {
    query,
    until: async (promql, isWanted) => {
      let samples: readonly Sample[] = [];
      for (let tries = 0; tries < 200; tries++) {
        samples = await query(promql);
        if (isWanted(samples)) return samples;
        await wait(100);
      }
      throw new Error(`${promql} gave ${JSON.stringify(samples)}`);
    },
  };
}

type Reply =
  | { readonly status: 'error'; readonly error: string }
  | {
      readonly status: 'success';
      readonly data: { readonly result: { metric: Record<string, string>; value: [number, string] }[] };
    };
