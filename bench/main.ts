import { inspect, parseArgs } from 'node:util';
import { benchAdaptive } from './adaptive.js';
import { benchAsk } from './ask.js';
import { benchBulk } from './bulk.js';
import { benchCheckpoint } from './checkpoint.js';
import { benchEngines } from './engines.js';
import { benchGrowth } from './growth.js';
import { benchLane } from './lane.js';
import { benchMemory } from './memory.js';
import { benchOne } from './one.js';
import { benchOperator } from './operator.js';
import { benchOverload } from './overload.js';
import { benchPipeline } from './pipeline.js';
import { benchOverlap } from './overlap.js';
import { writePage } from './page.js';
import { reportOf, type Row, tableOf } from './report.js';
import { benchServe } from './serve.js';
import { benchServers } from './servers.js';
import { benchSwap } from './swap.js';
import { benchTensor } from './tensor.js';
import { benchTelemetry } from './telemetry.js';

/**
 * npm run bench -- [PART ...] [--json] [--page] [--rounds n] [--ms n] [--only piscina,comlink] [--records n] [--seconds n] [--swaps n]
 * Progress goes to stderr, the result to stdout; --page also writes it into docs/benchmarks.md. Exit code 1 when a target
 * is not met.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    page: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '30' },
    ms: { type: 'string', default: '150' },
    only: { type: 'string' },
    records: { type: 'string', default: '1000000' },
    seconds: { type: 'string', default: '60' },
    swaps: { type: 'string', default: '1000' },
  },
});

const rounds = countOf('rounds', values.rounds);
const laneMs = countOf('ms', values.ms);
const records = countOf('records', values.records);
const seconds = countOf('seconds', values.seconds);
const swaps = countOf('swaps', values.swaps);
const progress = (line: string): void => void process.stderr.write(`${line}\n`);

const PARTS: Readonly<Record<string, () => Promise<Row[]>>> = {
  ask: () => benchAsk({ rounds, laneMs, only: values.only?.split(','), progress }),
  one: () => benchOne({ rounds, laneMs, progress }),
  bulk: () => benchBulk({ rounds, laneMs, progress }),
  pipeline: () => benchPipeline({ rounds, laneMs, progress }),
  memory: () => benchMemory({ records, progress }),
  operator: () => benchOperator({ rounds, records: 20_000, progress }),
  checkpoint: () => benchCheckpoint({ rounds: Math.ceil(rounds / 5), progress }),
  growth: () => benchGrowth({ rounds: Math.ceil(rounds / 3), records: 64_000, progress }),
  adaptive: async () => benchAdaptive({ seeds: Math.ceil(rounds / 6), progress }),
  engines: () => benchEngines({ rounds, laneMs: 4 * laneMs, progress }),
  telemetry: () => benchTelemetry({ rounds, laneMs, progress }),
  tensor: () => benchTensor({ rounds, laneMs, progress }),
  overlap: () => benchOverlap({ rounds, laneMs: 2 * laneMs, progress }),
  overload: () => benchOverload({ seconds, progress }),
  serve: () => benchServe({ rounds: Math.ceil(rounds / 3), laneMs, progress }),
  lane: () => benchLane({ rounds, laneMs, progress }),
  servers: () => benchServers({ rounds: Math.ceil(rounds / 5), laneMs: 5 * laneMs, progress }),
  swap: () => benchSwap({ swaps, childSwaps: Math.ceil(swaps / 50), progress }),
};

for (const part of positionals) {
  if (!Object.hasOwn(PARTS, part))
    throw new TypeError(`bench: unknown part "${part}"; expected one of ${Object.keys(PARTS).join(', ')}`);
}

const rows: Row[] = [];
let isBroken = false;
for (const [part, run] of Object.entries(PARTS)) {
  if (positionals.length > 0 && !positionals.includes(part)) continue;
  try {
    rows.push(...(await run()));
  } catch (error) {
    // What the others measured is worth having.
    isBroken = true;
    progress(`${part} failed: ${inspect(error)}`);
  }
}

const report = reportOf(rows);
if (values.page) writePage(report);
process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : `${tableOf(report)}\n`);
for (const row of rows) {
  if (row.met === false) progress(`not met: ${row.id}: ${row.ratio ?? row.ours}, target ${row.target}`);
}
process.exitCode = isBroken || rows.some((row) => row.met === false) ? 1 : 0;

function countOf(name: string, text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1)
    throw new TypeError(`bench: --${name} must be a whole number, got ${text}`);
  return count;
}
