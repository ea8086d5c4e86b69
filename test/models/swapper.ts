import { renameSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';

/** Puts, as fast as it can, a plain file, a link to the secret, and a directory behind a link in each other's place. */
const { dir, stop } = workerData as { dir: string; stop: SharedArrayBuffer };
const flag = new Int32Array(stop);
const version = path.join(dir, 'root/net/1');
const file = path.join(version, 'm');
const aside = path.join(dir, 'aside');
parentPort?.postMessage('ready');
while (Atomics.load(flag, 0) === 0) {
  symlinkSync(path.join(dir, 'secret/m'), aside);
  renameSync(aside, file);
  writeFileSync(aside, 'plain');
  renameSync(aside, file);
  renameSync(version, aside);
  symlinkSync(path.join(dir, 'secret'), version);
  renameSync(version, path.join(dir, 'link'));
  renameSync(aside, version);
  Atomics.add(flag, 1, 1);
  Atomics.wait(flag, 2, 0, 0.1);
  renameSync(path.join(dir, 'link'), path.join(dir, 'old'));
}
