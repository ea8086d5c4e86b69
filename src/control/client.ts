/**
 * The client's side of the control socket: proves itself, sends calls, gives their answers, and notices when nobody is
 * there any more.
 *
 * N1 a call settles once: by its answer, or by the end of the connection.
 * N2 the token goes only into a socket that its owner alone could have made (private-path.ts).
 * N3 connected is not alive: a server that has not answered a ping by the next one counts as gone.
 */
import { type Clock, systemClock, type Timer } from '../kernel/clock.js';
import { type Deferred, deferred } from '../kernel/deferred.js';
import { isTroupeError, TroupeError } from '../kernel/errors.js';
import { z } from '../kernel/schema.js';
import { type Fault, fromFault } from '../wire/fault.js';
import { Calls, type TailOptions } from './calls.js';
import type { ControlEvent } from './event-log.js';
import { EventStream } from './event-stream.js';
import { FrameError, frameText, LineReader, parseFrame } from './frames.js';
import { type Access, LIMITS, PROTOCOL, type VerbName } from './grammar.js';
import { privateSocketPath, readToken, socketAt } from './private-path.js';
import { dial, type Socket } from './unix-socket.js';

export interface ConnectControlOptions {
  /** `write` may change the system. Default read. */
  readonly access?: Access;
  /** Who it is, for the audit of the system. Default: client. */
  readonly client?: string;
  /** How long connecting may take. Default 5000. */
  readonly timeoutMs?: number;
  /** A ping goes out this often; without an answer by the next one the connection counts as lost. Default 10,000. */
  readonly heartbeatMs?: number;
  /** The token, where it does not come from the file beside the socket. */
  readonly token?: string;
}

const OPTIONS = z.strictObject({
  access: z.enum(['read', 'write']).default('read'),
  client: z.string().max(128).default('client'),
  timeoutMs: z.number().positive().default(5000),
  heartbeatMs: z.number().positive().default(10_000),
  token: z.string().min(1).max(128).optional(),
});

const faultSchema = z.looseObject({ name: z.string(), message: z.string() });
const welcomeSchema = z.strictObject({
  welcome: z.strictObject({
    protocol: z.number(),
    system: z.string(),
    pid: z.number(),
    access: z.enum(['read', 'write']),
  }),
});
const refusedSchema = z.strictObject({ refused: faultSchema });
const eventSchema = z.strictObject({
  seq: z.number(),
  at: z.string(),
  kind: z.string(),
  pool: z.string().optional(),
  message: z.string(),
});
const replySchema = z.union([
  z.strictObject({ id: z.number(), value: z.unknown() }),
  z.strictObject({ id: z.number(), error: faultSchema }),
  z.strictObject({ id: z.number(), event: eventSchema }),
  z.strictObject({ pong: z.number() }),
  refusedSchema,
]);

/**
 * Connects to the control socket of a running system. Rejects with CONTROL_PATH_REFUSED where the path is not private,
 * CONTROL_UNREACHABLE where nobody answers, CONTROL_REFUSED where the system does not let it in.
 */
export async function connectControl(socket: string, options: ConnectControlOptions = {}): Promise<ControlClient> {
  const checked = OPTIONS.safeParse(options);
  if (typeof socket !== 'string' || socket === '') {
    throw new TypeError(
      `connectControl: expected the path of a socket, got ${socket === '' ? 'an empty string' : typeof socket}`,
    );
  }
  if (!checked.success) {
    const [issue] = checked.error.issues;
    throw new TypeError(`connectControl: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? ''}`);
  }
  const { timeoutMs, heartbeatMs, access, client } = checked.data;
  const path = privateSocketPath(socket, false);
  if (socketAt(path) === undefined) throw unreachable(path, 'there is no socket', undefined, 'not-started');
  const token = checked.data.token ?? readToken(path);
  let connection: Socket;
  try {
    connection = await dial(path, timeoutMs);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const words = code === 'ECONNREFUSED' ? 'nobody listens: the system that made it has ended' : String(code);
    throw unreachable(path, words, cause, 'not-started');
  }
  const control = new ControlClient(path, connection, { heartbeatMs });
  await control.open({ protocol: PROTOCOL, token, access, client }, timeoutMs);
  return control;
}

interface Pending {
  readonly answer: Deferred<unknown>;
  readonly stream: EventStream | undefined;
}

/** A connection to the control of a running system, see `connectControl`. */
export class ControlClient extends Calls implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #heartbeatMs: number;
  readonly #clock: Clock;
  readonly #lines = new LineReader(LIMITS.answerBytes + 1);
  readonly #pending = new Map<number, Pending>();
  readonly #welcome = deferred<void>();
  #identity = { system: '', pid: 0, access: 'read' as Access };
  #lastId = 0;
  #pingedId = 0;
  #pongedId = 0;
  #timer: Timer | undefined;
  #end: TroupeError | undefined;
  readonly #closed = deferred<TroupeError | undefined>();

  constructor(
    readonly path: string,
    socket: Socket,
    options: { readonly heartbeatMs: number; readonly clock?: Clock },
  ) {
    super();
    this.#socket = socket;
    this.#heartbeatMs = options.heartbeatMs;
    this.#clock = options.clock ?? systemClock;
    this.#welcome.promise.catch(() => undefined);
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('error', (cause) => this.#over(unreachable(path, 'the connection broke', cause)));
    socket.on('close', () => this.#over(unreachable(path, 'the system ended the connection')));
  }

  /** Name of the system at the other end. */
  get system(): string {
    return this.#identity.system;
  }

  /** Its process. */
  get pid(): number {
    return this.#identity.pid;
  }

  get access(): Access {
    return this.#identity.access;
  }

  /** Resolves when the connection has ended: with its error, or with nothing after `close`. */
  get closed(): Promise<TroupeError | undefined> {
    return this.#closed.promise;
  }

  /** The hello, for `connectControl`. */
  async open(hello: Readonly<Record<string, unknown>>, timeoutMs: number): Promise<void> {
    const timer = this.#clock.at(this.#clock.now() + timeoutMs, () => {
      this.#over(unreachable(this.path, `no answer within ${timeoutMs} ms`, undefined, 'not-started'));
    });
    this.#socket.write(frameText({ hello }, LIMITS.helloBytes) as string);
    try {
      await this.#welcome.promise;
    } finally {
      timer.cancel();
    }
    this.#beat();
  }

  call(verb: VerbName, params: Readonly<Record<string, unknown>>): Promise<unknown> {
    if (verb === 'tail') throw new TypeError('call: tail gives a stream of events; use tail()');
    return this.#begin(verb, params, undefined).answer;
  }

  tail(pool?: string, options: TailOptions = {}): AsyncIterableIterator<ControlEvent> {
    const { last, signal } = options;
    let id = 0;
    const cancel = (): void => {
      signal?.removeEventListener('abort', ended);
      if (this.#pending.has(id) && this.#end === undefined) this.#write({ cancel: id });
    };
    const stream = new EventStream(cancel);
    const ended = (): void => void stream.return();
    const params = { ...(pool === undefined ? {} : { pool }), ...(last === undefined ? {} : { last }) };
    const begun = this.#begin('tail', params, stream);
    ({ id } = begun);
    begun.answer.then(
      () => stream.end(),
      (error: unknown) => stream.end(error),
    );
    if (signal?.aborted === true) ended();
    else signal?.addEventListener('abort', ended);
    return stream;
  }

  /** Ends the connection; calls under way reject. May be called twice. */
  async close(): Promise<void> {
    this.#over(undefined);
    await this.#closed.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #begin(verb: string, params: object, stream: EventStream | undefined): { id: number; answer: Promise<unknown> } {
    const id = ++this.#lastId;
    const answer = deferred<unknown>();
    const text = frameText({ id, verb, params }, LIMITS.frameBytes);
    if (this.#end !== undefined) answer.reject(this.#end);
    else if (text === undefined) {
      const message = `Control: the call has more than ${LIMITS.frameBytes} bytes`;
      answer.reject(new TroupeError('RECORD_TOO_LARGE', message));
    } else {
      this.#pending.set(id, { answer, stream });
      this.#socket.write(text);
    }
    return { id, answer: answer.promise };
  }

  #write(frame: object): void {
    this.#socket.write(frameText(frame, LIMITS.frameBytes) as string);
  }

  #take(chunk: Buffer): void {
    try {
      for (const line of this.#lines.push(chunk)) {
        if (this.#end !== undefined) return;
        this.#hear(parseFrame(line));
      }
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      this.#over(unreachable(this.path, `what answers there does not speak the protocol: ${error.message}`, error));
    }
  }

  #hear(frame: unknown): void {
    if (this.#identity.pid === 0) return this.#greeted(frame);
    const result = replySchema.safeParse(frame);
    if (!result.success) throw new FrameError('a frame is no answer');
    const reply = result.data;
    if ('pong' in reply) this.#pongedId = reply.pong;
    else if ('refused' in reply) this.#over(refusedBy(reply.refused));
    else if ('event' in reply) this.#pending.get(reply.id)?.stream?.push(reply.event as ControlEvent);
    else {
      const pending = this.#pending.get(reply.id);
      this.#pending.delete(reply.id);
      if ('error' in reply) pending?.answer.reject(fromFault(reply.error as unknown as Fault));
      else pending?.answer.resolve(reply.value);
    }
  }

  #greeted(frame: unknown): void {
    const refused = refusedSchema.safeParse(frame);
    if (refused.success) return this.#over(refusedBy(refused.data.refused));
    const { success, data } = welcomeSchema.safeParse(frame);
    if (!success) throw new FrameError('it does not greet');
    this.#identity = data.welcome;
    this.#welcome.resolve();
  }

  /** N3. */
  #beat(): void {
    if (this.#end !== undefined) return;
    if (this.#pongedId !== this.#pingedId) {
      this.#over(unreachable(this.path, `no answer for ${this.#heartbeatMs} ms: the system hangs or was stopped`));
      return;
    }
    this.#pingedId += 1;
    this.#write({ ping: this.#pingedId });
    this.#timer = this.#clock.at(this.#clock.now() + this.#heartbeatMs, () => this.#beat());
    // The connection itself keeps the process alive as long as somebody waits for it.
    this.#timer.hold?.(false);
  }

  /** N1. */
  #over(error: TroupeError | undefined): void {
    if (this.#end !== undefined) return;
    this.#end = error ?? unreachable(this.path, 'the connection was closed');
    this.#timer?.cancel();
    this.#socket.destroy();
    this.#welcome.reject(this.#end);
    for (const [id, { answer, stream }] of this.#pending) {
      this.#pending.delete(id);
      if (error === undefined && stream !== undefined) answer.resolve(null);
      else answer.reject(this.#end);
    }
    this.#closed.resolve(error);
  }
}

function refusedBy(fault: object): TroupeError {
  const error = fromFault(fault as Fault);
  return isTroupeError(error) ? error : new TroupeError('CONTROL_REFUSED', error.message);
}

function unreachable(path: string, words: string, cause?: unknown, ran?: 'not-started'): TroupeError {
  const message = `Control at ${JSON.stringify(path)}: ${words}`;
  return new TroupeError('CONTROL_UNREACHABLE', message, { cause, ...(ran === undefined ? {} : { ran }) });
}
