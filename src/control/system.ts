import { type StopOptions, stopTimeoutOf } from '../actor/pool-life.js';
import { System as PoolSystem, type SystemOptions, type SystemStopReport } from '../actor/system.js';
import type { LoadedConfig } from '../config/load.js';
import { packageVersion } from '../config/package-version.js';
import { listenForInference, type Serving } from '../serve/oip-listener.js';
import type { ServeOptions } from '../serve/serve-options.js';
import { type Log, stderrLog } from '../telemetry/log.js';
import { Convergence } from './convergence.js';
import { EventLog } from './event-log.js';
import { LocalControl } from './local-control.js';
import { ModelFollower } from './model-follower.js';
import { Operations } from './operations.js';
import { FailureBoard } from './failure-board.js';
import { runRepl } from './repl.js';
import { type ControlAddress, type ControlServer, startControlServer } from './server.js';
import { bindServer } from './unix-socket.js';

/** Where the control of a system listens. */
export interface ControlOptions {
  /**
   * Path of a Unix socket, in a directory that nobody else can enter (mode 700); the last directory is made where it is
   * missing. Default: `<name of the system>.sock` in a private directory of the user.
   */
  readonly socket?: string | undefined;
}

export interface ReplOptions {
  /** True: verbs that change something are allowed. Default false. */
  readonly write?: boolean;
  /** Default process.stdin. */
  readonly input?: NodeJS.ReadableStream;
  /** Default process.stdout. */
  readonly output?: NodeJS.WritableStream & { readonly isTTY?: boolean };
  /** Where the lines typed at a terminal are remembered. Default: nowhere. */
  readonly historyFile?: string;
  /** Further names that can be used in it. */
  readonly context?: Readonly<Record<string, unknown>>;
}

/** What the page of a system goes by. */
export interface ControlParts {
  readonly operations: Operations;
  /** Undefined while the control is not open. */
  readonly server: ControlServer | undefined;
}

/** The parts of a system that are none of its users' business, for other rooms. */
export let controlParts: (system: System) => ControlParts;

/** What a system knows of itself beside its pools. */
export interface SystemOrigin {
  readonly loaded?: LoadedConfig;
  readonly board?: FailureBoard;
}

/** A system of pools that can be looked at and changed while it runs: over a control socket, or from a REPL of its own process. */
export class System extends PoolSystem {
  readonly #operations: Operations;
  readonly #convergence: Convergence;
  readonly #controlLog: Log;
  readonly #follower: ModelFollower | undefined;
  #control: Promise<ControlServer> | undefined;
  #server: ControlServer | undefined;
  #address: ControlAddress | undefined;
  readonly #servings = new Set<Serving>();

  static {
    controlParts = (system) => ({ operations: system.#operations, server: system.#server });
  }

  constructor(options: SystemOptions = {}, origin: SystemOrigin = {}) {
    super(options);
    const log = options.log ?? stderrLog;
    this.#controlLog = log;
    const { loaded, board = new FailureBoard() } = origin;
    this.#convergence = new Convergence(this, loaded);
    const [events, convergence] = [new EventLog(this), this.#convergence];
    const operations = new Operations({ system: this, events, board, log, convergence });
    this.#operations = operations;
    const watch = options.models?.watch ?? false;
    if (watch !== false) {
      const looks = this.models.watch(watch === true ? {} : watch);
      this.#follower = new ModelFollower({ system: this, watch: looks, operations, convergence, log });
    }
  }

  /** Where its control listens; undefined while it does not. */
  get control(): ControlAddress | undefined {
    return this.#address;
  }

  /** The pools its config file asks for; `apply` changes them. */
  configuredPools(): readonly string[] {
    return this.#convergence.poolNames();
  }

  /**
   * Opens the control socket, which `troupe repl`, `connectControl` and the others connect to, until the system has
   * stopped. Rejects with CONTROL_PATH_REFUSED where the path is not private, CONTROL_IN_USE where another system listens
   * there. Whoever may connect can change models, and so run code: only the user of this process.
   */
  async openControl(options: ControlOptions = {}): Promise<ControlAddress> {
    const { socket, ...strange } = options;
    const [unknown] = Object.keys(strange);
    if (unknown !== undefined) throw new TypeError(`openControl: unknown option "${unknown}"; expected socket`);
    if (socket !== undefined && (typeof socket !== 'string' || socket === ''))
      throw new TypeError(
        `openControl: socket must be a path, got ${socket === '' ? 'an empty string' : typeof socket}`,
      );
    if (this.#control !== undefined) throw new TypeError('openControl: the control of this system is open already');
    const opening = startControlServer({ system: this, operations: this.#operations, log: this.#controlLog, socket });
    this.#control = opening;
    try {
      const server = await opening;
      const { socket: path, tokenFile, refusals } = server;
      this.#server = server;
      this.registry.add({
        collect: (into) => {
          for (const [reason, count] of Object.entries(refusals))
            into.add('troupe_refused_requests_total', { listener: 'control', reason }, count);
        },
        refusals: () => ['control', Object.entries(refusals)],
      });
      this.#address = { socket: path, tokenFile };
      return this.#address;
    } catch (error) {
      this.#control = undefined;
      throw error;
    }
  }

  /**
   * Serves every pool, also those spawned later, by the Open Inference Protocol v2 over HTTP, to the clients of Triton and
   * others: docs/serving.md. Ends with the system, whose stop first answers what is under way. Throws a TypeError for wrong
   * options (anything but loopback needs tls and tokens); rejects with LISTEN_FAILED where port or socket cannot be had.
   */
  async serve(options: ServeOptions = {}): Promise<Serving> {
    const serving = await listenForInference(this, options, {
      version: packageVersion(),
      pools: () => this.configuredPools(),
      bindAt: (path) => (server) => bindServer(path, server),
    });
    this.#servings.add(serving);
    return serving;
  }

  /**
   * A REPL in this process, with the verbs of the control plane in it: see `help` in it, or docs/operating.md. Resolves when
   * its input ends or `.exit` is typed; the system goes on. Read-only unless `write`.
   */
  async repl(options: ReplOptions = {}): Promise<void> {
    const { write = false, input = process.stdin, output = process.stdout, historyFile, context, ...strange } = options;
    const [unknown] = Object.keys(strange);
    if (unknown !== undefined)
      throw new TypeError(`repl: unknown option "${unknown}"; expected write, input, output, historyFile or context`);
    if (typeof write !== 'boolean') throw new TypeError(`repl: write must be true or false, got ${typeof write}`);
    const access = write ? 'write' : 'read';
    const calls = new LocalControl(this.#operations, access);
    await runRepl({ calls, name: this.name, access, input, output, historyFile, ...(context && { context }) });
  }

  /** As of the pools; who is served gets an answer first, and the control goes last, so that a drain can be watched. */
  override async stop(options: StopOptions = {}): Promise<SystemStopReport> {
    const graceMs = stopTimeoutOf(options);
    await this.#follower?.close();
    await Promise.all([...this.#servings].map((serving) => serving.close(graceMs)));
    const report = await super.stop(options);
    const control = await this.#control?.catch(() => undefined);
    control?.close();
    this.#server = undefined;
    this.#address = undefined;
    return report;
  }
}
