import { Socket } from 'node:net';
import { TroupeError } from '../kernel/errors.js';
import { FRAME_ARRAY, FRAME_BYTES_MAX, FrameDecoder, type FrameKind } from './frame.js';
import type { ToEntry, ToHost } from './messages.js';
import { type AllocateFrame, type Carried, decodeMessage, encodeMessage, FAR_BYTES_MIN } from './process-codec.js';
import type { TakeBuffer } from './recycler.js';

/**
 * The data lane of a child process over a socket: what is written is copied at most once, and what is read goes straight
 * into the memory of its frame. What may stand in its write buffer is bounded by the credit window: the host never has more
 * batches on the way to one replica than the pool allows.
 */
export interface SocketLane<Said extends Carried = ToEntry | ToHost> {
  /** For its events, and to end it. */
  readonly socket: Socket;
  /**
   * Writes one message. Undefined: the arrays of the message may be used again. Otherwise the socket still reads them until
   * the promise resolves, which it also does when the socket breaks. Throws, before anything is written, when a value cannot
   * be copied.
   */
  write(message: Said): Promise<void> | undefined;
  /** From the next frame on, in place of `bytesMax`. */
  limit(bytesMax: number): void;
}

export interface SocketLaneOptions<Heard = ToEntry | ToHost> {
  /** Hears every message, and how many bytes of frames it came in, without their headers. */
  readonly heard: (message: Heard, bytes: number) => void;
  /** Told once, after which nothing more is read: the two sides are out of step for good. */
  readonly broken: (error: unknown) => void;
  /** Where the memory of arrays that arrive comes from. */
  readonly take?: TakeBuffer;
  /** True: `heard` copies what it keeps of a message before it returns. Default false. */
  readonly lends?: boolean;
  /** Longest frame that is taken, and most bytes of the arrays of one message. Default FRAME_BYTES_MAX. */
  readonly bytesMax?: number;
}

/** Makes a message of its frame and of the array frames before it; throws PROTOCOL_VIOLATION. */
export type Decode<Heard> = (payload: Buffer, arrays: readonly Buffer[]) => Heard;

/** Over an inherited file descriptor, or over a socket that nobody has read from, written to or listens to. */
export function openSocketLane(over: number | Socket, options: SocketLaneOptions): SocketLane {
  return openLane<ToEntry | ToHost, ToEntry | ToHost>(over, options, decodeMessage);
}

/** As `openSocketLane`, for a lane of other messages. */
export function openLane<Said extends Carried, Heard>(
  over: number | Socket,
  options: SocketLaneOptions<Heard>,
  decode: Decode<Heard>,
): SocketLane<Said> {
  const { heard, broken } = options;
  const reader = new MessageReader(options, decode);
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
    for (const { message, bytes } of reader.takeAll()) heard(message, bytes);
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
  return { socket, write: writerOf<Said>(socket), limit: (bytesMax) => reader.limit(bytesMax) };
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

interface Arrived<Heard> {
  readonly message: Heard;
  readonly bytes: number;
}

/** Puts messages together from frames. */
class MessageReader<Heard> {
  readonly decoder: FrameDecoder;
  private bytesMax: number;
  private readonly decode: Decode<Heard>;
  private arrays: Buffer[] = [];
  private arrayBytes = 0;
  private messages: Arrived<Heard>[] = [];

  constructor(
    { take, lends, bytesMax = FRAME_BYTES_MAX }: Pick<SocketLaneOptions, 'take' | 'lends' | 'bytesMax'>,
    decode: Decode<Heard>,
  ) {
    this.decoder = new FrameDecoder({ ...(take === undefined ? {} : { take }), lends: lends === true, bytesMax });
    this.bytesMax = bytesMax;
    this.decode = decode;
  }

  limit(bytesMax: number): void {
    this.bytesMax = bytesMax;
    this.decoder.bytesMax = bytesMax;
  }

  readonly frame = (payload: Buffer, kind: FrameKind): void => {
    if (kind === FRAME_ARRAY) {
      // Each costs more than its bytes, so none is taken that no sender would make.
      if (payload.byteLength < FAR_BYTES_MIN)
        throw new TroupeError('PROTOCOL_VIOLATION', `Data lane: an array frame of ${payload.byteLength} bytes came`);
      this.arrayBytes += payload.byteLength;
      if (this.arrayBytes > this.bytesMax)
        throw new TroupeError('PROTOCOL_VIOLATION', `Data lane: arrays of more than ${this.bytesMax} bytes came`);
      this.arrays.push(payload);
      return;
    }
    const { arrays, arrayBytes } = this;
    this.arrays = [];
    this.arrayBytes = 0;
    this.messages.push({ message: this.decode(payload, arrays), bytes: payload.byteLength + arrayBytes });
  };

  /** What is complete, once. */
  takeAll(): readonly Arrived<Heard>[] {
    const { messages } = this;
    if (messages.length > 0) this.messages = [];
    return messages;
  }
}

/** Writes with one piece of memory for all small messages, as long as each is out of it before the next one. */
function writerOf<Said extends Carried>(socket: Socket): SocketLane<Said>['write'] {
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
