import test from 'ava';
import { parseInvocation } from '../../src/cli/arguments.js';

test('run, check and explain take a config file, ./troupe.yaml without one', (t) => {
  t.deepEqual(parseInvocation(['run']), {
    kind: 'run',
    config: 'troupe.yaml',
    isJson: false,
    isQuiet: false,
    pipelines: [],
    resume: false,
    servesOnly: false,
    logFormat: 'text',
  });
  t.deepEqual(
    parseInvocation(['run', 'a.yaml', '--json', '--pipeline', 'x', '--pipeline', 'y', '--quiet', '--resume']),
    {
      kind: 'run',
      config: 'a.yaml',
      isJson: true,
      isQuiet: true,
      pipelines: ['x', 'y'],
      resume: true,
      servesOnly: false,
      logFormat: 'text',
    },
  );
  t.deepEqual(parseInvocation(['check', 'b.yaml']), { kind: 'check', config: 'b.yaml' });
  t.deepEqual(parseInvocation(['explain', '--json']), { kind: 'explain', config: 'troupe.yaml', isJson: true });
});

test('help and version win over everything else', (t) => {
  t.is(parseInvocation(['run', '--help']).kind, 'help');
  t.is(parseInvocation(['-v']).kind, 'version');
});

test('wrong use says what was wrong and what would be right', (t) => {
  const message = (...words: string[]): string => {
    const answer = parseInvocation(words);
    return answer.kind === 'wrong' ? answer.message : `not wrong: ${answer.kind}`;
  };
  t.is(
    message(),
    'expected a command: run, serve, check, explain, hash, dead-letters, repl, top, ps, stats, versions, tail, plan, ask, apply, swap, canary, shadow, promote, rollback, scale, restart, preload, unload, drain',
  );
  t.is(message('rnu'), 'there is no command "rnu"; did you mean run?');
  t.is(
    message('constructor'),
    'there is no command "constructor"; the commands are run, serve, check, explain, hash, dead-letters, repl, top, ps, stats, versions, tail, plan, ask, apply, swap, canary, shadow, promote, rollback, scale, restart, preload, unload, drain',
  );
  t.is(message('run', 'a', 'b'), 'run takes one config file; found also b');
  t.is(message('check', '--json'), 'check has no option --json');
  t.regex(message('run', '--jsno'), /Unknown option '--jsno'/);
  t.regex(message('run', '--pipeline'), /--pipeline/);
});
