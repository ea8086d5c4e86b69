import { existsSync } from 'node:fs';
import { totalmem } from 'node:os';
import test from 'ava';
import { MachineWatch } from '../../src/telemetry/machine.js';
import { MetricsRegistry } from '../../src/telemetry/registry.js';

const MEMORY = 'MemTotal:        1000 kB\nMemFree:          100 kB\nMemAvailable:     400 kB\n';

function watchOf(stats: readonly string[], memory = ''): MachineWatch {
  const left = [...stats];
  return new MachineWatch((name) => (name === 'stat' ? (left.shift() ?? '') : memory));
}

test('the share of the CPUs is of the time since the call before, without what was idle or waited for disks', (t) => {
  //            user nice system idle iowait irq softirq steal guest guest_nice
  const first = 'cpu  100 10 20 500 30 5 5 10 50 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n';
  const later = 'cpu  130 10 30 550 40 5 5 10 60 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n';
  const watch = watchOf([first, later, later, first]);
  t.is(watch.cpuShare(), 150 / 680, 'since the machine began');
  t.is(watch.cpuShare(), 0.4, '40 of 100');
  t.is(watch.cpuShare(), 0.4, 'no tick later it is still so');
  t.is(watch.cpuShare(), 0.4, 'what runs backwards says nothing');
});

test('memory that is used is what is not available, as the system says', (t) => {
  t.deepEqual(watchOf([], MEMORY).memory(), { totalBytes: 1_024_000, usedBytes: 614_400 });
  t.is(watchOf([], 'MemTotal: 1000 kB\n').memory(), undefined);
  t.is(watchOf([], MEMORY.replace('400', '2000')).memory(), undefined);
  t.is(watchOf([]).memory(), undefined);
  t.is(watchOf(['', 'cpu  1 2 3\n', 'cpu  a b c d e f g h\n']).cpuShare(), undefined);
});

test('the machine is in a scrape under the names of Triton where its system tells of it, and left out elsewhere', (t) => {
  const registry = new MetricsRegistry();
  t.teardown(() => registry.close());
  const text = registry.text();
  const valueOf = (name: string): number | undefined => {
    const value = new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1];
    return value === undefined ? undefined : Number(value);
  };
  const [total, used] = [valueOf('nv_cpu_memory_total_bytes'), valueOf('nv_cpu_memory_used_bytes')];
  if (existsSync('/proc/meminfo')) {
    t.is(total, totalmem());
    t.true(used !== undefined && used > 0 && used <= totalmem());
    const busy = valueOf('nv_cpu_utilization');
    t.true(busy !== undefined && busy >= 0 && busy <= 1);
  } else t.deepEqual([total, used, valueOf('nv_cpu_utilization')], [undefined, undefined, undefined]);
});
