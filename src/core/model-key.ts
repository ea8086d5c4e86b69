/**
 * How the core names one version of one model: `fr@3`, or `fr` where the model has no versions. Neither part can hold an
 * `@`, so the key says both.
 */

export function modelKey(model: string, version: string | undefined): string {
  return version === undefined ? model : `${model}@${version}`;
}

export function modelOf(key: string): string {
  const at = key.indexOf('@');
  return at < 0 ? key : key.slice(0, at);
}

export function versionOf(key: string): string | undefined {
  const at = key.indexOf('@');
  return at < 0 ? undefined : key.slice(at + 1);
}
