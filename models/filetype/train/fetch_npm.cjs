// Download npm tarballs named in packages/npm.txt (no install, no scripts), with the pacote that npm itself ships.
// Usage: node fetch_npm.cjs packages/npm.txt OUT_DIR
const { execSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const root = execSync('npm root -g').toString().trim();
const pacote = require(path.join(root, 'npm/node_modules/pacote'));
const [list, out] = process.argv.slice(2);
const names = fs.readFileSync(list, 'utf8').split(/\s+/).filter(Boolean);
const registry = execSync('npm config get registry').toString().trim();
fs.mkdirSync(out, { recursive: true });
async function worker() {
  for (let name = names.shift(); name; name = names.shift()) {
    const file = path.join(out, name.replace('/', '+').replace(/(?!^)@.*$/, '') + '.tgz');
    if (fs.existsSync(file)) continue;
    try {
      const done = await pacote.tarball.file(name, file, { registry, cache: path.join(out, '.cache') });
      console.log(name, done.resolved.split('/').pop());
    } catch (error) {
      console.log('missing', name, String(error.message).slice(0, 80));
    }
  }
}
Promise.all(Array.from({ length: 8 }, worker));
