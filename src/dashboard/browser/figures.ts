/** Figures for people. */

export function countText(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

/** Three digits: `0.42`, `7.1`, `1,234`. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (value === 0 || Math.abs(value) >= 100) return countText(value);
  return value.toPrecision(Math.abs(value) >= 1 ? 3 : 2);
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** `812 MB`, in powers of a thousand. */
export function bytesText(bytes: number): string {
  const power = bytes < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value < 100 ? Number(value.toPrecision(3)) : countText(value)} ${UNITS[power]}`;
}

export function percentText(share: number): string {
  return `${Math.round(share * 1000) / 10} %`;
}

export function durationText(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const two = (part: number): string => String(part).padStart(2, '0');
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor(seconds / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)} h` : `${minutes}:${two(seconds % 60)} min`;
}

/** `1 replica`, `2 replicas`. */
export function plural(count: number, word: string): string {
  return `${countText(count)} ${word}${count === 1 ? '' : 's'}`;
}

const STEPS = [1, 2, 3, 4, 5, 6, 8, 10];

/** The least round number that holds the value. */
export function roundTop(value: number): number {
  if (value <= 1) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return (STEPS.find((step) => step * power >= value) ?? 10) * power;
}
