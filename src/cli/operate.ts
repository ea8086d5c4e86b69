import { homedir } from 'node:os';
import { join } from 'node:path';
import { connectControl, type ConnectControlOptions } from '../control/client.js';
import type { Calls } from '../control/calls.js';
import type { ControlEvent } from '../control/event-log.js';
import { LIMITS, type VerbName } from '../control/grammar.js';
import { runRepl } from '../control/repl.js';
import { shownAnswer, shownError, shownEvent } from '../control/shown.js';
import { SteadyControl } from '../control/steady-control.js';
import { commandOf, usageOf } from '../control/words.js';
import { isTroupeError } from '../kernel/errors.js';
import { toFault } from '../wire/fault.js';
import type { ExitCode, Surroundings } from './command.js';
import { findControl } from './find-control.js';
import { plainText } from '../control/text.js';
import { runTop } from '../control/top.js';

/** `troupe ps`, `troupe swap …`, `troupe repl`, `troupe top`: what is said to a system that runs. */

export type OperateInvocation =
  | {
      readonly kind: 'verb';
      readonly verb: VerbName;
      readonly params: Readonly<Record<string, unknown>>;
      readonly socket: string | undefined;
      readonly isJson: boolean;
      /** Of a tail: it goes on when the system is started anew. */
      readonly follows: boolean;
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
        const options = { access: 'write', client: `troupe ${commandOf(invocation.verb)}` } as const;
        if (invocation.follows) {
          await using steady = await steadyControl(invocation.socket, around, options);
          await follow(steady, invocation, around);
          return 0;
        }
        await using control = await findControl(invocation.socket, env, options);
        await say(control, invocation, around);
        return 0;
      }
      case 'repl': {
        const access = invocation.mayWrite ? 'write' : 'read';
        await using control = await steadyControl(invocation.socket, around, { access, client: 'troupe repl' });
        const rights = invocation.mayWrite ? 'may change it' : 'read-only: --write to change it';
        stderr.write(
          `Connected to ${plainText(control.system)} (pid ${control.pid}); ${rights}. Type help for help.\n`,
        );
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
        const options = { client: 'troupe top' };
        // So many tables and no more are for a script, which wants to know that there are none.
        const isWatched = invocation.count === Infinity;
        await using control = isWatched
          ? await steadyControl(invocation.socket, around, options, () => undefined)
          : await findControl(invocation.socket, env, options);
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

/** To the system that is meant, and back to it when it is started anew. */
async function steadyControl(
  socket: string | undefined,
  { env, stderr }: Surroundings,
  options: ConnectControlOptions,
  told: (words: string) => void = (words) => void stderr.write(`\n${plainText(words)}\n`),
): Promise<SteadyControl> {
  const first = await findControl(socket, env, options);
  const { path } = first;
  return new SteadyControl({ first, connect: () => connectControl(path, options), told });
}

/** A tail across restarts: none of the events that the system still knows is left out or said twice. */
async function follow(
  control: SteadyControl,
  { params, isJson }: OperateInvocation & { kind: 'verb' },
  { stdout, stop }: Surroundings,
): Promise<void> {
  const { pool, last } = params as { readonly pool?: string; readonly last?: number };
  let seen: Pick<ControlEvent, 'seq' | 'at'> = { seq: 0, at: '' };
  let from = last;
  let isFirst = true;
  do {
    const options = { signal: stop, ...(from === undefined ? {} : { last: from }) };
    try {
      // The pool may be there only later in a system that has just been started.
      for await (const event of control.tail(isFirst ? pool : undefined, options)) {
        // One that is started anew counts from 1 again, and later.
        if (event.seq <= seen.seq && event.at <= seen.at) continue;
        seen = event;
        if (pool === undefined || event.pool === pool) stdout.write(`${eventLine(event, isJson)}\n`);
      }
      return;
    } catch (error) {
      if (!isTroupeError(error) || error.code !== 'CONTROL_UNREACHABLE') throw error;
    }
    isFirst = false;
    from = LIMITS.events;
  } while (await control.connected(stop));
}

function eventLine(event: ControlEvent, isJson: boolean): string {
  return isJson ? JSON.stringify(event) : shownEvent(event);
}

async function say(
  control: Calls,
  { verb, params, isJson }: OperateInvocation & { kind: 'verb' },
  { stdout, stop }: Surroundings,
): Promise<void> {
  if (verb === 'tail') {
    const { pool, last } = params as { readonly pool?: string; readonly last?: number };
    const options = { signal: stop, ...(last === undefined ? {} : { last }) };
    for await (const event of control.tail(pool, options)) {
      stdout.write(`${eventLine(event, isJson)}\n`);
    }
    return;
  }
  const answer = await control.call(verb, params);
  stdout.write(`${isJson ? JSON.stringify(answer) : shownAnswer(verb, answer)}\n`);
}
