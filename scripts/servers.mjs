// Makes sure that the tests find redis-server, postgres, prometheus, strace, faketime, h2load, slowhttptest and a browser. What is
// not installed is fetched as Debian packages and unpacked below node_modules/.cache: nothing is installed, nothing runs as a
// daemon, and no privileges are needed.
// Needs a build. `node scripts/servers.mjs` says what there is; the tests that need a missing one say why they do not run.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { UNPACKED, findServer, serverEnvironment } from '../dist/test/e2e/servers.js';

const PACKAGES = {
  'redis-server': 'redis-server',
  postgres: 'postgresql',
  prometheus: 'prometheus',
  strace: 'strace',
  faketime: 'faketime',
  h2load: 'nghttp2-client',
  slowhttptest: 'slowhttptest',
  'chromium-headless-shell': 'chromium-headless-shell',
};

/** Gives the environment for the tests: for every server that cannot be had, why. */
export function provideServers(say) {
  const reasons = {};
  for (const [name, pack] of Object.entries(PACKAGES)) {
    const reason = findServer(name) === undefined ? unpack(name, pack, say) : undefined;
    if (reason !== undefined) reasons[`TROUPE_NO_${name.toUpperCase().replaceAll('-', '_')}`] = reason;
  }
  return reasons;
}

/** For a picture that looks the same everywhere. */
export function provideFonts() {
  const archives = path.join(UNPACKED, 'archives');
  if (existsSync(path.join(UNPACKED, 'usr/share/fonts/opentype/inter'))) return;
  mkdirSync(archives, { recursive: true });
  run('apt-get', ['-q', 'download', 'fonts-inter'], { cwd: archives });
  for (const file of readdirSync(archives)) run('dpkg-deb', ['-x', file, UNPACKED], { cwd: archives });
  rmSync(archives, { recursive: true });
}

function unpack(name, pack, say) {
  if (process.platform !== 'linux' || run('apt-get', ['--version']).status !== 0) {
    return `${name} is not installed, and there is no apt-get to fetch it with`;
  }
  say(`fetching ${pack} for the tests`);
  let wanted = simulate(pack);
  if (wanted === undefined && process.getuid() === 0) {
    run('apt-get', ['update']);
    wanted = simulate(pack);
  }
  if (wanted === undefined) return `${name} is not installed, and apt-get knows no package ${pack}`;
  const archives = path.join(UNPACKED, 'archives');
  mkdirSync(archives, { recursive: true });
  const fetched = run('apt-get', ['-q', 'download', ...wanted], { cwd: archives });
  if (fetched.status !== 0)
    return `${name} is not installed, and apt-get could not fetch it: ${lastLine(fetched.stderr)}`;
  for (const file of readdirSync(archives).filter((entry) => entry.endsWith('.deb'))) {
    const unpacked = run('dpkg-deb', ['-x', file, UNPACKED], { cwd: archives });
    if (unpacked.status !== 0) return `${name} is not installed, and ${file} could not be unpacked`;
  }
  rmSync(archives, { recursive: true });
  const binary = findServer(name);
  const tried = binary === undefined ? undefined : run(binary, ['--version'], { env: serverEnvironment() });
  // Without one of its libraries it ends with 127; slowhttptest does not know the option and ends with 255.
  const starts = tried !== undefined && tried.error === undefined && tried.status !== 127;
  return starts ? undefined : `${name} was unpacked and does not start: ${lastLine(tried?.stderr)}`;
}

/** What an installation would add to this system; without what is of no use here: PostgreSQL's compiler, Prometheus' pages. */
function simulate(pack) {
  const { status, stdout } = run('apt-get', ['install', '-s', '--no-install-recommends', pack]);
  if (status !== 0) return undefined;
  const names = [...stdout.matchAll(/^Inst (\S+)/gm)].map((match) => match[1]);
  return names.filter((name) => !/^(libllvm|libjs-|fonts-)/.test(name));
}

function run(command, args, options = {}) {
  return spawnSync(command, args, { encoding: 'utf8', timeout: 120_000, ...options });
}

function lastLine(text = '') {
  return text.trim().split('\n').at(-1);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const reasons = provideServers((line) => process.stdout.write(`${line}\n`));
  for (const name of Object.keys(PACKAGES)) process.stdout.write(`${name}: ${findServer(name) ?? 'none'}\n`);
  for (const reason of Object.values(reasons)) process.stdout.write(`${reason}\n`);
}
