// perf_analyzer of NVIDIA against our server: it reads metadata, configuration, statistics and metrics, and sends load.
import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { createSystem, defineActor, silentLog } from 'troupe';

const run = promisify(execFile);
const LIMIT_MS = 120_000;
const CALLS = ['-b 1 --concurrency-range 4', '-b 8 --concurrency-range 8 --async', '-b 1 --request-rate-range 50'];

/** What it was called with and printed; or why it was not run. `bin` is the Python whose packages hold it. */
export async function perfAnalyzer({ bin, versions }) {
  const folder = path.dirname(bin);
  const { stdout } = await run(bin, ['-c', 'import sysconfig; print(sysconfig.get_path("purelib"))']);
  // The program wants CUDA's library even where it uses no GPU.
  const env = { ...process.env, LD_LIBRARY_PATH: path.join(stdout.trim(), 'nvidia/cuda_runtime/lib') };
  const analyze = (...args) => run(path.join(folder, 'perf_analyzer'), args, { env, timeout: LIMIT_MS });
  try {
    await analyze('--version');
  } catch (error) {
    const missing = /lib[\w.]+(?=: cannot open)/.exec(error.stderr)?.[0];
    return {
      why: missing === undefined ? error.message : `perf_analyzer needs ${missing} (Debian: libb64-0d for libb64)`,
    };
  }
  const system = createSystem({ log: silentLog });
  try {
    const spec = { dtype: 'float32', shape: [64] };
    const signature = { inputs: [{ name: 'x', ...spec }], outputs: [{ name: 'y', ...spec }] };
    const actor = defineActor({ signature, predict: ({ count, columns }) => ({ count, columns: { y: columns.x } }) });
    await system.spawn('echo', { actor });
    const { addresses } = await system.serve({ port: 0 });
    const always = ['-m', 'echo', '-u', `127.0.0.1:${addresses[0].port}`, '-i', 'http'];
    // It need not settle: what is looked at is whether it gets through.
    const few = ['--measurement-mode', 'count_windows', '--measurement-request-count', '200', '-s', '999'];
    const lines = [];
    for (const call of CALLS) {
      const { stdout: said } = await analyze(...always, ...few, ...call.split(' '));
      const facts = ['Request count', 'Inference count', 'Execution count', 'Successful request count'];
      const found = facts.map((fact) => `${fact.toLowerCase()} ${new RegExp(`${fact}: (\\d+)`).exec(said)?.[1]}`);
      if (found.some((fact) => fact.endsWith('undefined'))) throw new Error(said);
      lines.push({ what: `perf_analyzer ${call}`, fact: found.join(', ') });
      process.stdout.write(`ok perf_analyzer ${call}: ${found.join(', ')}\n`);
    }
    return { versions: `${versions} (its perf_analyzer)`, lines };
  } finally {
    await system.stop();
  }
}
