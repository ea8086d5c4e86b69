import test from 'ava';
import { Departure } from '../../src/serve/gone.js';

test('a departure is told once, to those who listen then, with its first reason', (t) => {
  const gone = new Departure();
  const told: string[] = [];
  const second = (): void => void told.push('second');
  gone.addEventListener('abort', () => told.push(`first ${String(gone.aborted)} ${String(gone.reason)}`));
  gone.addEventListener('abort', second);
  gone.removeEventListener('abort', second);
  t.false(gone.aborted);
  gone.abort('closed');
  gone.abort('again');
  gone.addEventListener('abort', second);
  t.deepEqual(told, ['first true closed']);
  t.is(gone.reason, 'closed');
});
