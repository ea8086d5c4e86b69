import { parseConfig } from '../../src/config/load.js';
import { isTroupeError } from '../../src/kernel/errors.js';

/** A config from its text, as if it stood in /x/troupe.yaml. */
export const load = (text: string, env: Record<string, string> = {}) =>
  parseConfig(text, { file: '/x/troupe.yaml', env });

/** What is wrong with it, in words; '' for nothing. */
export function problemsOf(text: string, env?: Record<string, string>): string {
  try {
    load(text, env);
  } catch (error) {
    if (isTroupeError(error) && error.code === 'CONFIG_INVALID') return error.message;
    throw error;
  }
  return '';
}
