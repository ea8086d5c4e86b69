import { TroupeError } from '../kernel/errors.js';

/** Loads a client that users install only where they need it. Rejects with PACKAGE_NOT_INSTALLED where it is missing. */
export async function importOptional<T>(
  who: string,
  name: string,
  version: string,
  load: () => Promise<T>,
): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ERR_MODULE_NOT_FOUND';
    // A package that is there and lacks one of its own is another trouble, with its own words.
    if (!isMissing || !cause.message.includes(`'${name}'`)) throw cause;
    const command = `npm install ${name}@${version}`;
    throw new TroupeError('PACKAGE_NOT_INSTALLED', `${who} needs the package ${name}: ${command}`, { cause });
  }
}
