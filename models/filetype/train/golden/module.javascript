import { readFile } from 'node:fs/promises';
import path from 'node:path';

export async function load(file) {
  const text = await readFile(path.resolve(file), 'utf8');
  const lines = text.split('\n').filter((line) => line && !line.startsWith('#'));
  return Object.fromEntries(lines.map((line) => line.split('=', 2).map((s) => s.trim())));
}

export const defaults = Object.freeze({ host: 'localhost', port: 8080, retries: 3 });

export default async function main(argv = process.argv.slice(2)) {
  const settings = { ...defaults, ...(await load(argv[0] ?? 'settings.env')) };
  console.log(settings);
}
