import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { createSystem, defineActor, type Pool, serveMetrics, silentLog, type System } from 'troupe';
import { type BrowserPage, Chromium, findChromium } from './chromium.js';
import { notRun } from './servers.js';

/** The page in a real browser: what a user sees and presses, and what a browser makes of hostile text. */

const HOSTILE = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>\u001b[31m\u202e`;

/** Version 3 does not load; version 4 loads and fails every record. */
const answers = defineActor<number, string, string | undefined>({
  load: ({ version }) => {
    if (version === '3') throw new Error(`this model is broken: ${HOSTILE}`);
    return version;
  },
  predict: (batch, { state }) => batch.map((record) => (state === '4' ? new Error('no') : `${record} by ${state}`)),
});

interface Stage {
  readonly system: System;
  readonly pool: Pool<number, string>;
  readonly url: string;
  readonly tokenFile: string;
  readonly page: BrowserPage;
}

async function stage(t: ExecutionContext, name = 'shop'): Promise<Stage> {
  const folder = mkdtempSync(path.join(tmpdir(), 'td-'));
  const system = createSystem({ name, log: silentLog });
  const browser = Chromium.launch();
  t.teardown(async () => {
    await browser.close();
    await system.stop({ timeoutMs: 0 });
    rmSync(folder, { recursive: true, force: true });
  });
  const { tokenFile } = await system.openControl({ socket: path.join(folder, 'c.sock') });
  const { address } = await serveMetrics(system, { port: 0, page: true });
  const pool = await system.spawn<number, string>('answers', { actor: answers, version: 1, replicas: 2 });
  const url = new URL('/', address.url).href;
  const page = await browser.open({ width: 1280, height: 900 });
  await page.goto(url);
  return { system, pool, url, tokenFile, page };
}

/** Asks without a pause until it is ended; gives how many got which answer. */
function load(t: ExecutionContext, pool: Pool<number, string>): { end(): Promise<{ asked: number; failed: number }> } {
  let isOver = false;
  t.teardown(() => (isOver = true));
  const counts = { asked: 0, failed: 0 };
  const caller = async (): Promise<void> => {
    while (!isOver) {
      const outcomes = await pool.askMany(Array.from({ length: 20 }, (_, index) => index));
      counts.asked += outcomes.length;
      counts.failed += outcomes.filter(({ ok }) => !ok).length;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  };
  const callers = [caller(), caller()];
  return {
    end: async () => {
      isOver = true;
      await Promise.all(callers);
      return counts;
    },
  };
}

const says = (words: string, selector = 'body'): string =>
  `document.querySelector(${JSON.stringify(selector)})?.innerText.includes(${JSON.stringify(words)})`;

test.serial('a swap is watched, tried, promoted and rolled back from the page, and only with the token', async (t) => {
  t.timeout(240_000);
  if (findChromium() === undefined) return notRun(t, 'chromium-headless-shell');
  const { system, pool, url, tokenFile, page } = await stage(t);
  const running = load(t, pool);

  await page.until(says('live', '.status'));
  t.is(await page.text('h1'), 'shop');
  await page.until(says('2 of 2 replicas ready', '.pool'));
  t.regex(await page.text('.legend'), /^version 1: 100 % of the records$/);
  await page.until(`document.querySelectorAll('.chart path[d^="M"]').length >= 4`);

  // Whoever has no token changes nothing.
  await page.click('.version-input');
  await page.type('2');
  await page.click('.button', 'Canary');
  await page.until(says('Refused', '.notice'));
  await page.until(`document.querySelector('dialog').open`);
  t.true((await page.text('dialog')).includes(tokenFile));
  await page.type('0'.repeat(64));
  await page.press('Enter');
  await page.until(says('The token is wrong', 'dialog'));
  t.is(pool.version, '1');
  t.deepEqual(pool.versions(), { current: '1' });
  t.regex(system.metrics(), /troupe_refused_requests_total\{listener="metrics",reason="token"\} 1/);
  await page.until(says('its token is wrong', '.events'));
  // What the browser says of the answer 401 is no trouble of the page's.
  t.is(page.problems.splice(0).filter((problem) => !/401/.test(problem)).length, 0);

  // With it: a tenth of the records for version 2.
  await page.evaluate(`document.querySelector('#token').select()`);
  await page.type(readFileSync(tokenFile, 'utf8').trim());
  await page.press('Enter');
  await page.until(says('Lock changes', 'header'));
  await page.until(says('Version 2 in the place of 1', '.rollout'));
  await page.until(says('asked for 10 %', '.legend'));
  const share = `Number(/version 2: ([\\d.]+) %/.exec(document.querySelector('.legend').innerText)?.[1])`;
  t.true((await page.until(`${share} > 5 && ${share} < 15 && ${share}`)) > 0);
  await page.until(`document.querySelectorAll('.chart .area.version-1[d^="M"]').length === 1`);
  t.is(await page.evaluate(`document.querySelectorAll('.steps .now').length`), 1);

  await page.click('.rollout .button', 'Promote version 2');
  await page.until(says('Promoting: done', '.notice'));
  await page.until(says('version 2: 100 % of the records', '.legend'));
  t.is(pool.version, '2');

  // A version that does not load: nothing changes, and the page says why, as text.
  await page.evaluate(`document.querySelector('.version-input').select()`);
  await page.click('.version-input');
  await page.evaluate(`document.querySelector('.version-input').select()`);
  await page.type('3');
  await page.click('.button', 'Swap');
  await page.until(says('SWAP_ROLLED_BACK', '.notice'));
  await page.until(says('version 2 -> 3 rolled-back', '.events'));
  t.true(await page.evaluate(`document.querySelectorAll('.event.bad').length >= 3`));
  t.regex(await page.text('.events'), /this model is broken: <img src=x onerror=/);
  t.is(pool.version, '2');

  await page.click('.swap-form .button', 'Back to 1');
  await page.until(says('version 1: 100 % of the records', '.legend'));
  const { asked, failed } = await running.end();
  t.true(asked > 100);
  t.is(failed, 0);

  t.is(await page.evaluate('document.title'), 'shop · Troupe');
  t.is(await page.evaluate(`document.querySelectorAll('img, iframe, object, body script').length`), 0);
  t.deepEqual(
    page.requests.filter((request) => !request.startsWith(url)),
    [],
    'everything comes from here',
  );
  // What the browser says of the swap that failed is no trouble of the page's.
  t.deepEqual(
    page.problems.filter((problem) => !/status of 409/.test(problem)),
    [],
  );
});

test.serial(
  'a shadow, a pool of many models and one that scales are shown, and the shadow is promoted there',
  async (t) => {
    t.timeout(240_000);
    if (findChromium() === undefined) return notRun(t, 'chromium-headless-shell');
    const { system, pool, tokenFile, page } = await stage(t);
    await system.spawn('elastic', { actor: answers, version: 1, replicas: { min: 1, max: 3 } });
    const greeter = defineActor<string, string, string>({
      load: ({ model, usesBytes }) => {
        usesBytes(400e6);
        return String(model);
      },
      predict: (batch, { state }) => batch.map((name) => `${name} ${state}`),
    });
    const models = { list: ['fr', 'de', 'it'], maxBytes: 1e9, pin: ['fr'] };
    const many = await system.spawn<string, string>('greeter', { actor: greeter, models });
    for (const model of models.list) await many.ask('Ada', { model });
    await page.until(says('Scales by itself between 1 and 3: 1 replica wanted; not changed yet'));
    await page.until(says('Models: 3 loads, 1 eviction', '.models:not([hidden])'));
    t.is(await page.text('.models:not([hidden]) .shelves p'), 'replica 0 holds 2 models, 800 MB of 1 GB');
    t.deepEqual((await page.text('.models:not([hidden]) .legend')).split('\n'), [
      'it · 400 MB',
      'fr · 400 MB · pinned',
    ]);

    const running = load(t, pool);
    const swap = pool.swap(2, { shadow: 0.5, bakeMs: 600_000 });
    await page.until(says('It is shown 50 % of the records and answers nobody', '.rollout'));
    await page.until(
      `/ [1-9][\\d,]* of [1-9][\\d,]* compared answers differ \\(0 % agree\\)/.test(document.querySelector('.rollout').innerText)`,
    );
    t.regex(await page.text('.legend'), /^version 1: 100 % of the records/);
    await page.click('.rollout .button', 'Promote version 2');
    await page.until(`document.querySelector('dialog').open`);
    t.is(pool.version, '1', 'not without the token');
    await page.type(readFileSync(tokenFile, 'utf8').trim());
    await page.press('Enter');
    await page.until(says('Promoting: done', '.notice'));
    await swap;
    t.is(pool.version, '2');
    t.is((await running.end()).failed, 0);
    t.deepEqual(page.problems, []);
  },
);

test.serial('names, events and tokens from anywhere are text, and lists have an end', async (t) => {
  t.timeout(240_000);
  if (findChromium() === undefined) return notRun(t, 'chromium-headless-shell');
  const { system, pool, page } = await stage(t);
  const count = 100_000;
  const runs = Array.from(
    { length: count },
    (_, index) => `${index === 0 ? HOSTILE : 'javascript:alert(1)//'}${index}`,
  );
  for (const name of runs) {
    const counts = { name, records: 1, results: 1, failed: 0, deadLetters: 0, held: 0 };
    system.registry.add({
      collect: (into) => into.add('troupe_pipelines_running', { pipeline: name }, 1),
      run: () => counts,
    });
  }
  await page.until(says('and 99,900 pipelines more'));
  t.is(await page.evaluate(`document.querySelectorAll('tbody tr').length`), 100);
  t.true((await page.text('tbody')).includes('<img src=x'));
  t.false(await page.evaluate(`/[\\u001b\\u202e]/.test(document.body.textContent)`));
  const failing = pool.swap(4, { canary: 0.5, bakeMs: 60_000 });
  const refused = t.throwsAsync(failing, { code: 'SWAP_ROLLED_BACK' });
  await pool.askMany(Array.from({ length: 400 }, (_, index) => index));
  await refused;
  await page.until(says('1 -> 4 rolled-back', '.events'));
  // What comes in one update is cut too, and on a busy machine 300 swaps are one: so until the list is full, and on.
  const events = `document.querySelector('.events').children.length`;
  let index = 0;
  const swaps = async (): Promise<void> => {
    for (const end = index + 20; index < end; index++) await pool.swap(index % 2 === 0 ? 1 : 2);
  };
  while (Number(await page.evaluate(events)) < 200) await swaps();
  const last = `version ${index % 2 === 0 ? '2 -> 1' : '1 -> 2'}`;
  for (let round = 0; round < 5; round++) await swaps();
  await page.until(says(last, '.events'));
  t.is(await page.evaluate(events), 200);
  t.is(await page.evaluate('document.title'), 'shop · Troupe');
  t.deepEqual(page.problems, []);
});

test.serial(
  'what a page of another site sends does not arrive, and the policy of ours stops what is not ours',
  async (t) => {
    t.timeout(240_000);
    if (findChromium() === undefined) return notRun(t, 'chromium-headless-shell');
    const { system, pool, page, url, tokenFile } = await stage(t);
    await page.until(says('live', '.status'));
    t.deepEqual(page.problems, []);
    // Inline code, markup and styles, and a script of somebody else: the browser itself refuses them all.
    t.is(
      await page.evaluate(
        `(() => { try { document.body.innerHTML = '<p>x'; return 'done'; } catch (error) { return error.name; } })()`,
      ),
      'TypeError',
    );
    await page.evaluate(`(() => {
    const script = document.createElement('style');
    script.textContent = 'body { display: none }';
    document.head.append(script);
  })()`);
    t.is(await page.evaluate(`getComputedStyle(document.body).display`), 'block');
    t.regex(page.problems.splice(0).join('\n'), /Content Security Policy/);

    // From another site: nothing is read, framed or changed, even with the right token.
    const elsewhere = createServer((_, response) => response.end('<h1>elsewhere</h1>'));
    elsewhere.listen(0, '127.0.0.1');
    await once(elsewhere, 'listening');
    t.teardown(() => elsewhere.close());
    const token = readFileSync(tokenFile, 'utf8').trim();
    await page.goto(`http://127.0.0.1:${(elsewhere.address() as AddressInfo).port}/`);
    const attempt = (path: string, options: object): Promise<string> =>
      page.evaluate(
        `fetch('${url}${path}', ${JSON.stringify(options)}).then((response) => response.type, (error) => error.name)`,
      );
    const body = JSON.stringify({ verb: 'swap', params: { pool: 'answers', version: 2 } });
    const headers = { 'x-troupe-page': '1', authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    t.is(await attempt('metrics', {}), 'TypeError');
    t.is(await attempt('page/feed', { headers }), 'TypeError');
    t.is(await attempt('page/call', { method: 'POST', body, headers }), 'TypeError');
    t.not(await attempt('page/call', { method: 'POST', mode: 'no-cors', body }), 'basic');
    await page.evaluate(`new Promise((resolve) => {
    const frame = document.createElement('iframe');
    frame.onload = resolve;
    frame.src = '${url}';
    document.body.append(frame);
  })`);
    t.is(await page.evaluate(`document.querySelector('iframe').contentDocument`), null);
    t.regex(page.problems.splice(0).join('\n'), /frame-ancestors/);
    const counted = (reason: string): number =>
      Number(new RegExp(`listener="metrics",reason="${reason}"\\} (\\d+)`).exec(system.metrics())?.[1]);
    t.true(counted('origin') >= 4, `${counted('origin')}`);

    // By a name that leads here since a moment ago.
    await page.goto(url.replace('127.0.0.1', 'rebound.example'));
    t.regex(await page.text('body'), /this host name is not served here/);
    t.true(counted('host') >= 1, `${counted('host')}`);
    t.is(pool.version, '1');
  },
);
