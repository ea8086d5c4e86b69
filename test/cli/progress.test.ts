import test from 'ava';
import { createProgress, type ProgressOptions } from '../../src/cli/progress.js';
import type { Clock } from '../../src/kernel/clock.js';

/** A stream that keeps what it is given and a clock that is moved by hand. */
function bench(isTTY: boolean, options: ProgressOptions = {}) {
  const written: string[] = [];
  let now = 1000;
  const clock: Clock = {
    now: () => now,
    wallNow: () => now,
    at: () => {
      throw new Error('progress owns no timer');
    },
  };
  const output = { isTTY, columns: 80, write: (text: string) => written.push(text) };
  const progress = createProgress({ output, clock, ...options });
  return { written, progress, pass: (ms: number) => void (now += ms) };
}

test('on a terminal one line is drawn over itself, with bar, rate and time left', (t) => {
  const { written, progress, pass } = bench(true, { total: 200 });
  pass(1000);
  progress.update(50);
  t.deepEqual(written, ['\r[######------------------]  25%  50 of 200 records  50.0/s  3.0 s left\u001b[K']);
  pass(1000);
  progress.update(100);
  t.is(written.length, 2);
  t.false(written.some((text) => text.includes('\n')));
});

test('a terminal is drawn at most every 100 ms', (t) => {
  const { written, progress, pass } = bench(true);
  for (let done = 1; done <= 1000; done += 1) {
    pass(1);
    progress.update(done);
  }
  t.true(written.length <= 10);
  t.true(written.length >= 9);
});

test('a line is never longer than the terminal is wide', (t) => {
  const { written, progress } = bench(true, { label: 'x'.repeat(300), total: 10 });
  progress.update(1);
  t.is(written.length, 1);
  t.true((written[0] ?? '').replace('\r', '').replace('\u001b[K', '').length < 80);
});

test('elsewhere plain lines follow each other, at most one every two seconds', (t) => {
  const { written, progress, pass } = bench(false);
  for (let done = 1; done <= 50; done += 1) {
    pass(100);
    progress.update(done);
  }
  t.is(written.length, 2);
  for (const text of written) t.regex(text, /^\d+ records {2}[\d.]+\/s {2}[\d.]+ s\n$/);
  progress.finish();
  t.is(written.at(-1), '50 records  10.0/s  5.0 s\n');
});

test('the last line is about the whole: all records, over all the time', (t) => {
  const { written, progress, pass } = bench(true, { total: 10 });
  pass(2000);
  progress.update(10);
  progress.finish();
  t.deepEqual(written.slice(-2), ['\r[########################] 100%  10 of 10 records  5.00/s\u001b[K', '\n']);
});

test('a quiet progress writes nothing', (t) => {
  const { written, progress, pass } = bench(true, { isQuiet: true, total: 3 });
  pass(5000);
  progress.update(3);
  progress.clear();
  progress.finish();
  t.deepEqual(written, []);
});

test('clear takes the line away once, and the next update draws it again', (t) => {
  const { written, progress, pass } = bench(true);
  progress.update(1);
  progress.clear();
  progress.clear();
  pass(1);
  progress.update(2);
  t.is(written.filter((text) => text === '\r\u001b[K').length, 1);
  t.regex(written.at(-1) ?? '', /^\r2 records/);
});

test('control characters in a label do not reach the terminal', (t) => {
  const { written, progress } = bench(true, { label: 'a\u001b[2Jb\u0007\u202e' });
  progress.update(1);
  t.is((written[0] ?? '').slice(1, -3).replace(/[ -~]/g, ''), '');
});

test('a total that becomes known on the way gives the bar its end', (t) => {
  const { written, progress, pass } = bench(true);
  pass(1000);
  progress.update(50);
  t.false(written.at(-1)?.includes('[#') ?? true);
  progress.expect(100);
  pass(1000);
  progress.update(75);
  t.regex(written.at(-1) ?? '', /75%.*75 of 100 records.*left/);
});
