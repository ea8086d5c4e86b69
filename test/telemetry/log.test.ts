import test from 'ava';
import { jsonLog } from 'troupe';
import { VirtualClock } from 'troupe/testing';

test('a JSON log has one line for each entry, whatever its message holds', (t) => {
  const lines: string[] = [];
  const log = jsonLog((line) => lines.push(line), new VirtualClock({ wallMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678) }));
  log({ level: 'warn', message: 'a\nb\u001b[31m\u009b "c"', pool: 'p', replica: 1, version: '2', code: 'X' });
  log({ level: 'info', message: 'x'.repeat(5000) });
  t.is(
    lines[0],
    '{"time":"2026-01-02T03:04:05.678Z","level":"warn","message":"a b [31m  \\"c\\"","pool":"p","replica":1,"version":"2","code":"X"}\n',
  );
  t.is((JSON.parse(lines[1] ?? '') as { message: string }).message.length, 2000);
  t.is(lines.length, 2);
});
