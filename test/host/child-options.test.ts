import test from 'ava';
import { childEnv, childExecArgv } from '../../src/host/child-options.js';

test('a child inherits the flags of its host, without debugger, script and heap', (t) => {
  const argv = [
    '--enable-source-maps',
    '--inspect=9229',
    '--inspect-brk',
    '-e',
    'code',
    '--max-old-space-size=9000',
    '--import',
    'x.js',
  ];
  t.deepEqual(childExecArgv(argv, undefined), ['--enable-source-maps', '--import', 'x.js']);
  t.deepEqual(childExecArgv(['--print', 'code', '--test'], 100 * 2 ** 20), ['--max-old-space-size=100']);
});

test('the debugger is taken out of NODE_OPTIONS, and the rest stays', (t) => {
  t.deepEqual(childEnv({ NODE_OPTIONS: '--inspect=0 --no-warnings', A: 'b' }), {
    NODE_OPTIONS: '--no-warnings',
    A: 'b',
  });
  const env = { A: 'b' };
  t.is(childEnv(env), env);
});
