// Takes docs/dashboard.png: the page of a system in which version 2 of a model is on trial while records flow. Real models in real
// processes, a real browser; nothing in the picture is made up. Needs a build, a browser (node scripts/servers.mjs) and a minute.
// `--out FILE` puts it elsewhere, `--seconds N` waits longer, `--dark` and `--width N` show what else there is.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createSystem, fromIterable, serveMetrics, silentLog, stream, forEach } from 'troupe';
import { Chromium, findChromium } from '../dist/test/e2e/chromium.js';
import { provideFonts, provideServers } from './servers.mjs';

const { values } = parseArgs({
  options: {
    out: { type: 'string', default: fileURLToPath(new URL('../docs/dashboard.png', import.meta.url)) },
    seconds: { type: 'string', default: '50' },
    width: { type: 'string', default: '1280' },
    height: { type: 'string', default: '940' },
    dark: { type: 'boolean', default: false },
  },
});
const BYTES_MAX = 300_000;
const seconds = Number(values.seconds);

provideServers((line) => process.stderr.write(`${line}\n`));
provideFonts();
if (findChromium() === undefined) throw new Error('there is no browser: node scripts/servers.mjs says why');

const folder = mkdtempSync(path.join(tmpdir(), 'troupe-'));
const system = createSystem({ name: 'filetypes', log: silentLog });
const browser = Chromium.launch();
const stop = new AbortController();
try {
  await system.openControl({ socket: path.join(folder, 'filetypes.sock') });
  const { address } = await serveMetrics(system, { port: 0, page: true });
  const filetype = await system.spawn('filetype', {
    actor: 'onnx',
    model: fileURLToPath(new URL('../models/filetype', import.meta.url)),
    version: 1,
    replicas: 2,
    batching: { maxSize: 32 },
  });
  const language = await system.spawn('language', { actor: 'mock', version: 7, options: { a: 4, b: 0.4 } });
  const page = await browser.open({ width: Number(values.width), height: Number(values.height) });
  await page.scheme(values.dark ? 'dark' : 'light');
  await page.goto(new URL('/', address.url).href);

  const running = stream(fromIterable(records()), { name: 'uploads' })
    .infer(filetype, { input: (record) => record.sample, capacity: 512 })
    .infer(language, { input: () => 'text', capacity: 64 })
    .to(
      forEach(() => undefined),
      { stop: stop.signal },
    );
  await wait(seconds * 600);
  const swap = filetype.swap(2, { canary: 0.2, bakeMs: 600_000, rollbackOn: { latencyFactor: 50 } });
  await wait(seconds * 400);
  const image = await page.screenshot();
  if (image.length > BYTES_MAX) throw new Error(`${image.length} bytes are more than ${BYTES_MAX}`);
  if (page.problems.length > 0) throw new Error(page.problems.join('\n'));
  writeFileSync(values.out, image);
  process.stderr.write(`wrote ${values.out}, ${image.length} bytes\n`);
  await filetype.promote();
  await swap;
  stop.abort();
  await running;
} finally {
  await browser.close();
  await system.stop({ timeoutMs: 0 });
  rmSync(folder, { recursive: true, force: true });
}

/** Some hundred each second, more and fewer of them by turns. */
async function* records() {
  const sample = { bytes: new Uint8Array(2048).fill(7) };
  for (let turn = 0; ; turn++) {
    const burst = turn % 150 === 149 ? 400 : 0;
    const count = burst + Math.round(18 + 8 * Math.sin(turn / 90) + 6 * Math.random());
    for (let n = 0; n < count; n++) yield { sample };
    await wait(40);
  }
}
