import { parseArgs } from 'node:util';
import { benchAsk } from './ask.js';
import { benchCheckpoint } from './checkpoint.js';
import { benchMemory } from './memory.js';
import { benchOperator } from './operator.js';
import { reportOf, type Row, tableOf } from './report.js';

/**
 * npm run bench -- [ask] [memory] [operator] [checkpoint] [--json] [--rounds n] [--ms n] [--only piscina,comlink] [--records n]
 * Progress goes to stderr, the result to stdout. Exit code 1 when a target is not met.
 */
const PARTS = ['ask', 'memory', 'operator', 'checkpoint'] as const;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '30' },
    ms: { type: 'string', default: '150' },
    only: { type: 'string' },
    records: { type: 'string', default: '1000000' },
  },
});

for (const part of positionals) {
  if (!(PARTS as readonly string[]).includes(part))
    throw new TypeError(`bench: unknown part "${part}"; expected one of ${PARTS.join(', ')}`);
}
const parts = positionals.length === 0 ? PARTS : PARTS.filter((part) => positionals.includes(part));
const progress = (line: string): void => void process.stderr.write(`${line}\n`);

const rows: Row[] = [];
for (const part of parts) {
  switch (part) {
    case 'ask':
      rows.push(
        ...(await benchAsk({
          rounds: countOf('rounds', values.rounds),
          laneMs: countOf('ms', values.ms),
          only: values.only?.split(','),
          progress,
        })),
      );
      break;
    case 'memory':
      rows.push(...(await benchMemory({ records: countOf('records', values.records), progress })));
      break;
    case 'operator':
      rows.push(...(await benchOperator({ rounds: countOf('rounds', values.rounds), records: 20_000, progress })));
      break;
    case 'checkpoint':
      rows.push(...(await benchCheckpoint({ rounds: Math.ceil(countOf('rounds', values.rounds) / 5), progress })));
      break;
  }
}

const report = reportOf(rows);
process.stdout.write(values.json ? `${JSON.stringify(report, null, 2)}\n` : `${tableOf(report)}\n`);
for (const row of rows) {
  if (row.met === false) progress(`not met: ${row.id}: ${row.ratio ?? row.ours}, target ${row.target}`);
}
process.exitCode = rows.some((row) => row.met === false) ? 1 : 0;

function countOf(name: string, text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1)
    throw new TypeError(`bench: --${name} must be a whole number, got ${text}`);
  return count;
}
