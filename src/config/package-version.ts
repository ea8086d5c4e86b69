import { readFileSync } from 'node:fs';

/** Of this package. */
export function packageVersion(): string {
  // From dist/src/config to the package's own folder.
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
