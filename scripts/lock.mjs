// Completes package-lock.json after `npm install`: entries for optional platform packages that npm left out.
//
// npm writes no entry for an optional package that the registry in use does not serve (a mirror may hold one platform
// only), and then `npm ci` refuses its own lockfile: "Missing: @scope/name@ from lock file". An entry with os and cpu is
// enough to mend it; npm reads the rest when it installs on that platform. Also removes `resolved`, so that the lockfile
// names no registry.
import { readFileSync, writeFileSync } from 'node:fs';

const OS = ['linux', 'darwin', 'win32', 'freebsd', 'android', 'openharmony'];
const CPU = ['x64', 'arm64', 'arm', 'ia32', 'ppc64', 'riscv64', 's390x'];

const file = 'package-lock.json';
const lock = JSON.parse(readFileSync(file, 'utf8'));
const added = [];

for (const [where, entry] of Object.entries(lock.packages)) {
  delete entry.resolved;
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const place = `node_modules/${name}`;
    if (lock.packages[place] !== undefined || lock.packages[`${where}/${place}`] !== undefined) continue;
    if (!/^\d+\.\d+\.\d+/.test(version)) continue;
    lock.packages[place] = {
      version,
      ...platformOf(name),
      ...(entry.dev ? { dev: true } : {}),
      ...(entry.license === undefined ? {} : { license: entry.license }),
      optional: true,
      ...(entry.engines === undefined ? {} : { engines: entry.engines }),
    };
    added.push(`${name}@${version}`);
  }
}

const byName = ([a], [b]) => (a < b ? -1 : 1);
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(byName));
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
process.stdout.write(added.length === 0 ? 'package-lock.json is complete\n' : `added ${added.join(', ')}\n`);

/** `binding-linux-arm64-musl` -> linux, arm64, musl. Names of platform packages follow this in every project we use. */
function platformOf(name) {
  const words = name.split('/').at(-1).split('-');
  const os = words.find((word) => OS.includes(word));
  const cpu = words.find((word) => CPU.includes(word));
  if (os === undefined || cpu === undefined) throw new Error(`${name}: no platform can be read from this name`);
  const libc = words.includes('musl') || words.includes('musleabihf') ? { libc: ['musl'] } : {};
  const glibc = words.some((word) => word === 'gnu' || word === 'gnueabihf') ? { libc: ['glibc'] } : {};
  return { cpu: [cpu], os: [os], ...libc, ...glibc };
}
