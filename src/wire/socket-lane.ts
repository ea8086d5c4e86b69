import { Socket } from 'node:net';
import { TroupeError } from '../kernel/errors.js';
import { FRAME_ARRAY, FRAME_BYTES_MAX, FrameDecoder, type FrameKind } from './frame.js';
import type { ToEntry, ToHost } from './messages.js';
import { type AllocateFrame, decodeMessage, encodeMessage } from './process-codec.js';
import type { TakeBuffer } from './recycler.js';

/**
 * The data lane of a child process over a socket: what is written is copied at most once, and what is read goes straight
 * into the memory of its frame. What may stand in its write buffer is bounded by the credit window: the host never has more
 * batches on the way to one replica than the pool allows.
 */
export interface SocketLane {
  /** For its events, and to end it. */
  readonly socket: Socket;
  /**
   * Writes one message. Undefined: the arrays of the message may be used again. Otherwise the socket still reads them until
   * the promise resolves, which it also does when the socket breaks. Throws, before anything is written, when a value cannot
   * be copied.
   */
  write(message: ToEntry | ToHost): Promise<void> | undefined;
}

export interface SocketLaneOptions {
  /** Hears every message. */
  readonly heard: (message: ToEntry | ToHost) => void;
  /** Told once, after which nothing more is read: the two sides are out of step for good. */
  readonly broken: (error: unknown) => void;
  /** Where the memory of arrays that arrive comes from. */
  readonly take?: TakeBuffer;
  /** True: `heard` copies what it keeps of a message before it returns. Default false. */
  readonly lends?: boolean;
}

/** Over an inherited file descriptor, or over a socket that nobody has read from, written to or listens to. */
export function openSocketLane(over: number | Socket, options: SocketLaneOptions): SocketLane {
  const { heard, broken, take, lends } = options;
  const reader = new MessageReader(take, lends);
  let isBroken = false;
  /** What is lent lies in the memory that was just read into, and nothing is read before this returns. */
  const read = (feed: (decoder: FrameDecoder) => void): void => {
    if (isBroken) return;
    let trouble: { readonly error: unknown } | undefined;
    try {
      feed(reader.decoder);
    } catch (error) {
      trouble = { error };
    }
    // Outside of the try: what the listener throws is not the peer's fault.
    for (const message of reader.takeAll()) heard(message);
    if (trouble === undefined) return;
    isBroken = true;
    broken(trouble.error);
  };
  const onread = {
    buffer: () => (isBroken ? NOWHERE : reader.decoder.space()),
    callback: (bytes: number) => {
      read((decoder) => decoder.filled(bytes, reader.frame));
      return true;
    },
  };
  const socket = typeof over === 'number' ? new Socket(socketOptions({ fd: over, onread })) : taken(over, onread);
  if (socket === over) socket.on('data', (chunk: Buffer) => read((decoder) => decoder.push(chunk, reader.frame)));
  // What is read into memory of ours never becomes 'data', and only a flowing socket tells its end.
  else socket.resume();
  return { socket, write: writerOf(socket) };
}

/** Where the bytes of a broken peer go. */
const NOWHERE = Buffer.alloc(65_536);

/**
 * The same connection in a socket that reads into memory of ours, which Node offers only to whoever makes a socket; those of
 * a child are made by Node. Where a version of it has no such handle, the socket is used as it is: with a copy per chunk.
 */
function taken(made: Socket, onread: object): Socket {
  const inside = made as unknown as { _handle?: { readonly useUserBuffer?: unknown } | null };
  const handle = inside._handle;
  if (typeof handle?.useUserBuffer !== 'function') return made;
  const socket = new Socket(socketOptions({ handle, onread }));
  inside._handle = null;
  return socket;
}

/** `handle` is what Node itself makes the sockets of a child with; the types know neither it nor a changing buffer. */
function socketOptions(options: object): ConstructorParameters<typeof Socket>[0] {
  return { readable: true, writable: true, ...options } as ConstructorParameters<typeof Socket>[0];
}

/** Puts messages together from frames. */
class MessageReader {
  readonly decoder: FrameDecoder;
  private arrays: Buffer[] = [];
  private arrayBytes = 0;
  private messages: (ToEntry | ToHost)[] = [];

  constructor(take: TakeBuffer | undefined, lends: boolean | undefined) {
    this.decoder = new FrameDecoder({ ...(take === undefined ? {} : { take }), lends: lends === true });
  }

  readonly frame = (payload: Buffer, kind: FrameKind): void => {
    if (kind === FRAME_ARRAY) {
      this.arrayBytes += payload.byteLength;
      if (this.arrayBytes > FRAME_BYTES_MAX)
        throw new TroupeError('PROTOCOL_VIOLATION', `Data lane: arrays of more than ${FRAME_BYTES_MAX} bytes came`);
      this.arrays.push(payload);
      return;
    }
    const { arrays } = this;
    this.arrays = [];
    this.arrayBytes = 0;
    this.messages.push(decodeMessage(payload, arrays));
  };

  /** What is complete, once. */
  takeAll(): readonly (ToEntry | ToHost)[] {
    const { messages } = this;
    if (messages.length > 0) this.messages = [];
    return messages;
  }
}

/** Writes with one piece of memory for all small messages, as long as each is out of it before the next one. */
function writerOf(socket: Socket): SocketLane['write'] {
  let scratch: Buffer | undefined;
  const allocate: AllocateFrame = (bytes) => {
    if (bytes > SCRATCH_BYTES) return Buffer.allocUnsafe(bytes);
    scratch ??= Buffer.allocUnsafeSlow(SCRATCH_BYTES);
    return scratch.subarray(0, bytes);
  };
  return (message) => {
    const pieces = encodeMessage(message, allocate);
    const last = pieces.length - 1;
    if (last === 0) {
      socket.write(pieces[0] as Buffer);
      if (socket.writableLength > 0) scratch = undefined; // It is the socket's now.
      return undefined; // The arrays were copied.
    }
    let flushed: () => void = () => undefined;
    socket.cork();
    for (let index = 0; index < last; index++) socket.write(pieces[index] as Buffer);
    socket.write(pieces[last] as Buffer, () => flushed());
    socket.uncork();
    if (socket.writableLength === 0) return undefined;
    scratch = undefined;
    return new Promise((resolve) => {
      flushed = resolve;
    });
  };
}

/** Holds every message without far arrays that is not unusually wide. */
const SCRATCH_BYTES = 65_536 + 8192;
