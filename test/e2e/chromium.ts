/**
 * A real Chromium for tests, driven over the pipe of its DevTools protocol: no port, no driver, no package. It keeps what
 * the console, the security policy and uncaught errors say; a test that wants a page without trouble looks there.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { findServer, serverEnvironment, UNPACKED } from './servers.js';

/** Nothing of it reaches for the network, and it ends with its parent's pipe. */
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run',
  '--hide-scrollbars',
  // A name of somebody else's that leads here, as after DNS rebinding.
  '--host-resolver-rules=MAP rebound.example 127.0.0.1',
  '--remote-debugging-pipe',
];

const PATIENCE_MS = 60_000;

interface Pending {
  resolve(result: any): void; // any: each command has an answer of its own
  reject(error: Error): void;
}

export function findChromium(): string | undefined {
  return findServer('chromium-headless-shell') ?? findServer('chromium');
}

export class Chromium {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #pending = new Map<number, Pending>();
  readonly #hearers = new Map<string, (method: string, params: any) => void>(); // any: as the protocol has it
  #lastId = 0;
  #held = '';
  #end: Error | undefined;

  private constructor(child: ChildProcess, folder: string) {
    this.#child = child;
    this.#folder = folder;
    const output = child.stdio[4] as Readable;
    output.setEncoding('utf8').on('data', (chunk: string) => this.#take(chunk));
    // A browser that ends takes its pipes with it; what matters is that it ended.
    for (const pipe of [output, child.stdio[3] as Writable]) pipe.on('error', () => undefined);
    child.once('error', (error) => this.#over(error));
    child.once('exit', (code) => this.#over(new Error(`the browser ended with ${code}`)));
  }

  /** `findChromium` must have found one. */
  static launch(): Chromium {
    const folder = mkdtempSync(path.join(tmpdir(), 'troupe-chromium-'));
    const child = spawn(findChromium() as string, [...FLAGS, `--user-data-dir=${folder}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      // A group of its own, so that its processes can be ended together.
      detached: true,
      // Fonts that were unpacked are found beside those of the system.
      env: { ...serverEnvironment(), HOME: folder, XDG_DATA_HOME: path.join(UNPACKED, 'usr/share') },
    });
    return new Chromium(child, folder);
  }

  async open(size: Size): Promise<BrowserPage> {
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new BrowserPage(this, sessionId as string);
    this.#hearers.set(sessionId, (method, params) => page.hear(method, params));
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.send(`${domain}.enable`);
    await page.resize(size);
    return page;
  }

  send(method: string, params: object = {}, sessionId?: string): Promise<any> {
    const id = ++this.#lastId;
    const session = sessionId === undefined ? {} : { sessionId };
    (this.#child.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, ...session })}\0`);
    return new Promise((resolve, reject) => {
      if (this.#end === undefined) this.#pending.set(id, { resolve, reject });
      else reject(this.#end);
    });
  }

  async close(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      process.kill(-(this.#child.pid as number), 'SIGKILL');
      await ended;
    }
    for (const pipe of this.#child.stdio) pipe?.destroy();
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5 });
  }

  #take(chunk: string): void {
    const parts = (this.#held + chunk).split('\0');
    this.#held = parts.pop() ?? '';
    for (const part of parts) {
      const { id, result, error, method, params, sessionId } = JSON.parse(part) as Record<string, any>;
      if (method !== undefined) this.#hearers.get(sessionId)?.(method, params);
      const pending = this.#pending.get(id);
      this.#pending.delete(id);
      if (error === undefined) pending?.resolve(result);
      else pending?.reject(new Error(error.message));
    }
  }

  #over(error: Error): void {
    this.#end = error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

export class BrowserPage {
  /** What a user would see in the console as an error or a warning, and every uncaught error. */
  readonly problems: string[] = [];
  /** Addresses of everything it asked for. */
  readonly requests: string[] = [];

  constructor(
    private readonly browser: Chromium,
    private readonly sessionId: string,
  ) {}

  send(method: string, params: object = {}): Promise<any> {
    return this.browser.send(method, params, this.sessionId);
  }

  hear(method: string, params: any): void {
    if (method === 'Runtime.exceptionThrown') this.problems.push(JSON.stringify(params.exceptionDetails));
    if (method === 'Runtime.consoleAPICalled' && /error|warn|assert/.test(params.type))
      this.problems.push(JSON.stringify(params.args));
    if (method === 'Log.entryAdded' && /error|warning/.test(params.entry.level))
      this.problems.push(`${params.entry.source}: ${params.entry.text} ${params.entry.url ?? ''}`);
    if (method === 'Network.requestWillBeSent') this.requests.push(params.request.url);
    if (method === 'Page.javascriptDialogOpening') {
      this.problems.push(`a dialog: ${params.message}`);
      void this.send('Page.handleJavaScriptDialog', { accept: false });
    }
  }

  async goto(url: string): Promise<void> {
    await this.send('Page.navigate', { url });
    await this.until(`document.readyState === 'complete' && location.href !== 'about:blank'`);
  }

  resize({ width, height }: Size): Promise<unknown> {
    return this.send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
  }

  scheme(value: 'light' | 'dark'): Promise<unknown> {
    return this.send('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value }] });
  }

  /** The value of an expression in the page. */
  async evaluate(expression: string): Promise<any> {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression,
      returnByValue: true,
      awaitPromise: true,
    });
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  }

  /** Resolves to the value when it is true; fails with the text of the page where it never is. */
  async until(expression: string): Promise<any> {
    const endsAt = performance.now() + PATIENCE_MS;
    for (;;) {
      const value = await this.evaluate(expression);
      if (value) return value;
      if (performance.now() > endsAt) throw new Error(`never ${expression}; the page says: ${await this.text('body')}`);
      await wait(50);
    }
  }

  text(selector: string): Promise<string> {
    return this.evaluate(`document.querySelector(${JSON.stringify(selector)})?.innerText ?? ''`) as Promise<string>;
  }

  /** Clicks with the mouse at the first visible element whose text is this. */
  async click(selector: string, text = ''): Promise<void> {
    const words = JSON.stringify(text);
    const found = `[...document.querySelectorAll(${JSON.stringify(selector)})].find((node) => node.checkVisibility() && node.innerText.includes(${words}))`;
    await this.until(`${found} !== undefined`);
    const { x, y } = await this.evaluate(`(() => {
      const node = ${found};
      node.scrollIntoView({ block: 'center' });
      const { left, top, width, height } = node.getBoundingClientRect();
      return { x: left + width / 2, y: top + height / 2 };
    })()`);
    const at = { x, y, button: 'left', clickCount: 1 };
    await this.send('Input.dispatchMouseEvent', { ...at, type: 'mousePressed' });
    await this.send('Input.dispatchMouseEvent', { ...at, type: 'mouseReleased' });
  }

  /** Into what has the focus. */
  type(text: string): Promise<unknown> {
    return this.send('Input.insertText', { text });
  }

  async press(key: 'Enter' | 'Tab' | 'Escape'): Promise<void> {
    const codes = { Enter: 13, Tab: 9, Escape: 27 };
    const event = { key, code: key, windowsVirtualKeyCode: codes[key], ...(key === 'Enter' ? { text: '\r' } : {}) };
    await this.send('Input.dispatchKeyEvent', { ...event, type: 'keyDown' });
    await this.send('Input.dispatchKeyEvent', { ...event, type: 'keyUp' });
  }

  async screenshot(): Promise<Buffer> {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png' });
    return Buffer.from(data as string, 'base64');
  }
}
