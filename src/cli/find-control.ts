import { loadConfig } from '../config/load.js';
import { type ControlClient, connectControl, type ConnectControlOptions } from '../control/client.js';
import { defaultSocketDirectory, defaultSocketPath, defaultSockets } from '../control/private-path.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';

const CONFIG = 'troupe.yaml';

/**
 * Connects to the system that is meant: the one of `socket`; without it that of ./troupe.yaml, if it has control and runs;
 * else the only one that runs at a default place. Rejects with CONTROL_UNREACHABLE where there is none or more than one.
 */
export async function findControl(
  socket: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
  options: ConnectControlOptions,
): Promise<ControlClient> {
  if (socket !== undefined) return connectControl(socket, options);
  const here = await socketOfConfig(env);
  if (here !== undefined) {
    try {
      return await connectControl(here, options);
    } catch (error) {
      if (!isUnreachable(error)) throw error;
    }
  }
  const alive: ControlClient[] = [];
  for (const path of defaultSockets()) {
    try {
      alive.push(await connectControl(path, options));
    } catch (error) {
      if (!isUnreachable(error)) throw error;
    }
  }
  const [only, ...more] = alive;
  if (only !== undefined && more.length === 0) return only;
  await Promise.all(alive.map((client) => client.close()));
  throw new TroupeError('CONTROL_UNREACHABLE', only === undefined ? nobody(here) : several(alive), {
    ran: 'not-started',
  });
}

/** undefined where there is no such file, or none that tells: then the default places are looked at. */
async function socketOfConfig(env: Readonly<Record<string, string | undefined>>): Promise<string | undefined> {
  try {
    const { name, control } = (await loadConfig(CONFIG, { env })).config;
    return control === undefined ? undefined : (control.socket ?? defaultSocketPath(name));
  } catch (error) {
    if (isTroupeError(error) && error.code === 'CONFIG_INVALID') return undefined;
    throw error;
  }
}

function nobody(here: string | undefined): string {
  const places = [...(here === undefined ? [] : [here]), `${defaultSocketDirectory()}/*.sock`];
  return (
    `no running system found at ${places.join(' or ')}; start one whose config has "control: {}", ` +
    'or name its socket with --socket'
  );
}

function several(alive: readonly ControlClient[]): string {
  const all = alive.map(({ system, path }) => `${system}: --socket ${path}`);
  return `${alive.length} systems run here; say which is meant: ${all.join(', ')}`;
}

function isUnreachable(error: unknown): boolean {
  return isTroupeError(error) && error.code === 'CONTROL_UNREACHABLE';
}
