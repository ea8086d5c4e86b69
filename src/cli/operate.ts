import { homedir } from 'node:os';
import { join } from 'node:path';
import { type ControlClient } from '../control/client.js';
import type { VerbName } from '../control/grammar.js';
import { runRepl } from '../control/repl.js';
import { shownAnswer, shownError, shownEvent } from '../control/shown.js';
import { commandOf, usageOf } from '../control/words.js';
import { isTroupeError } from '../kernel/errors.js';
import { toFault } from '../wire/fault.js';
import type { ExitCode, Surroundings } from './command.js';
import { findControl } from './find-control.js';
import { plainText } from '../control/text.js';
import { runTop } from './top.js';

/** `troupe ps`, `troupe swap …`, `troupe repl`, `troupe top`: what is said to a system that runs. */

export type OperateInvocation =
  | {
      readonly kind: 'verb';
      readonly verb: VerbName;
      readonly params: Readonly<Record<string, unknown>>;
      readonly socket: string | undefined;
      readonly isJson: boolean;
    }
  | { readonly kind: 'repl'; readonly socket: string | undefined; readonly mayWrite: boolean }
  | {
      readonly kind: 'top';
      readonly socket: string | undefined;
      readonly everyMs: number;
      /** Ends after so many tables; Infinity for none. */
      readonly count: number;
    };

/** The file is made by Node, for its owner alone. */
const HISTORY_FILE = '.troupe_history';

export async function operate(invocation: OperateInvocation, around: Surroundings): Promise<ExitCode> {
  const { stdout, stderr, env, stop } = around;
  const isJson = invocation.kind === 'verb' && invocation.isJson;
  try {
    switch (invocation.kind) {
      case 'verb': {
        const client = `troupe ${commandOf(invocation.verb)}`;
        await using control = await findControl(invocation.socket, env, { access: 'write', client });
        await say(control, invocation, around);
        return 0;
      }
      case 'repl': {
        const access = invocation.mayWrite ? 'write' : 'read';
        await using control = await findControl(invocation.socket, env, { access, client: 'troupe repl' });
        const rights = invocation.mayWrite ? 'may change it' : 'read-only: --write to change it';
        stderr.write(
          `Connected to ${plainText(control.system)} (pid ${control.pid}); ${rights}. Type help for help.\n`,
        );
        void control.closed.then((error) => {
          if (error !== undefined) stderr.write(`\n${shownError(error)}\n`);
        });
        await runRepl({
          calls: control,
          name: plainText(control.system),
          access,
          input: around.stdin,
          output: stdout as typeof process.stdout,
          stop,
          historyFile: join(homedir(), HISTORY_FILE),
        });
        return 0;
      }
      case 'top': {
        await using control = await findControl(invocation.socket, env, { client: 'troupe top' });
        await runTop(control, { ...invocation, output: stdout, stop });
        return 0;
      }
    }
  } catch (error) {
    if (!isTroupeError(error) && !(error instanceof TypeError)) throw error;
    stderr.write(`troupe: ${shownError(error)}\n`);
    if (error instanceof TypeError && invocation.kind === 'verb')
      stderr.write(`usage: troupe ${usageOf(invocation.verb)}\n`);
    if (isJson) {
      const { name, code, message } = toFault(error);
      stdout.write(`${JSON.stringify({ error: { name, ...(code === undefined ? {} : { code }), message } })}\n`);
    }
    return error instanceof TypeError ? 2 : 1;
  }
}

async function say(
  control: ControlClient,
  { verb, params, isJson }: OperateInvocation & { kind: 'verb' },
  { stdout, stop }: Surroundings,
): Promise<void> {
  if (verb === 'tail') {
    const { pool, last } = params as { readonly pool?: string; readonly last?: number };
    const options = { signal: stop, ...(last === undefined ? {} : { last }) };
    for await (const event of control.tail(pool, options)) {
      stdout.write(`${isJson ? JSON.stringify(event) : shownEvent(event)}\n`);
    }
    return;
  }
  const answer = await control.call(verb, params);
  stdout.write(`${isJson ? JSON.stringify(answer) : shownAnswer(verb, answer)}\n`);
}
