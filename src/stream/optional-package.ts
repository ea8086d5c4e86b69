import { createRequire } from 'node:module';
import { TroupeError } from '../kernel/errors.js';

const require = createRequire(import.meta.url);

/**
 * Loads a client that users install only where they need it. Rejects with PACKAGE_NOT_INSTALLED where it is missing, or
 * older than the major `version`: its calls would fail in ways that do not name the reason.
 */
export async function importOptional<T>(
  who: string,
  name: string,
  version: string,
  load: () => Promise<T>,
): Promise<T> {
  const command = `npm install ${name}@${version}`;
  let loaded: T;
  try {
    loaded = await load();
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ERR_MODULE_NOT_FOUND';
    // A package that is there and lacks one of its own is another trouble, with its own words.
    if (!isMissing || !cause.message.includes(`'${name}'`)) throw cause;
    throw new TroupeError('PACKAGE_NOT_INSTALLED', `${who} needs the package ${name}: ${command}`, { cause });
  }
  const found = versionOf(name);
  if (found === undefined || Number.parseInt(found, 10) >= Number(version)) return loaded;
  const words = `${who} needs the package ${name} from version ${version} on, and found ${found}: ${command}`;
  throw new TroupeError('PACKAGE_NOT_INSTALLED', words);
}

/** Undefined where the package does not tell, as when it is bundled. */
function versionOf(name: string): string | undefined {
  try {
    const { version } = require(`${name}/package.json`) as { version?: unknown };
    return typeof version === 'string' ? version : undefined;
  } catch {
    return undefined;
  }
}
