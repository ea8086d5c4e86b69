/** promtool and a real Prometheus for tests. */
import { spawnSync } from 'node:child_process';
import { findServer, serverEnvironment } from './servers.js';

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
