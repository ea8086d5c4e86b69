/** Flags that would clash with the host's (a debugger port), or that belong to the host's own main script. */
const DROPPED =
  /^--(inspect|debug|eval|print|check|interactive|input-type|watch|test|title|cpu-prof|heap-prof|max-old-space-size|max_old_space_size)/;
/** Short forms of the above, and whether an argument follows. */
const DROPPED_SHORT = new Set(['-e', '-p', '-pe', '-c', '-i']);
/** Long forms whose argument stands in the next place. */
const WITH_ARGUMENT = new Set(['-e', '-p', '-pe', '--eval', '--print']);

/** Node flags for a child: the host's own without those that must not be inherited, and the heap limit. */
export function childExecArgv(execArgv: readonly string[], memoryLimitBytes: number | undefined): string[] {
  const kept: string[] = [];
  for (let i = 0; i < execArgv.length; i++) {
    const flag = execArgv[i] as string;
    if (!DROPPED.test(flag) && !DROPPED_SHORT.has(flag)) kept.push(flag);
    else if (WITH_ARGUMENT.has(flag)) i++;
  }
  if (memoryLimitBytes !== undefined) {
    kept.push(`--max-old-space-size=${Math.max(16, Math.floor(memoryLimitBytes / 2 ** 20))}`);
  }
  return kept;
}

/** The environment of a child: the host's, with the same flags taken out of NODE_OPTIONS. */
export function childEnv(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const options = env['NODE_OPTIONS'];
  if (options === undefined || !/--(inspect|debug)/.test(options)) return env;
  const kept = options.split(/\s+/).filter((flag) => !/^--(inspect|debug)/.test(flag));
  return { ...env, NODE_OPTIONS: kept.join(' ') };
}
