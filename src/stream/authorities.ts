import { readFileSync } from 'node:fs';
import { checkText } from './options.js';

/** The certificates of a file that an option names. Throws a TypeError naming the option where there are none. */
export function readAuthorities(option: string, path: unknown): Buffer {
  checkText(option, path);
  let bytes: Buffer;
  try {
    bytes = readFileSync(path as string);
  } catch (cause) {
    throw new TypeError(`${option} must be a file that can be read: ${(cause as Error).message}`, { cause });
  }
  // Of anything else TLS would take no notice, and then trust nobody.
  if (bytes.includes('-----BEGIN CERTIFICATE-----')) return bytes;
  throw new TypeError(`${option} must be a file with certificates in PEM, and ${JSON.stringify(path)} has none`);
}
