import { isTroupeError, openModelFile, TroupeError, type LoadContext, type OpenFile } from 'troupe/actor';
import { type ExternalData, ScanError, scanModel } from './scan.js';

/**
 * The bytes of a model and of the files its tensors lie in, read and looked through before the engine sees them. The
 * engine is given bytes and no path: it would follow a path that has meanwhile become another, and references to wherever.
 */

export interface ModelBytes {
  /** Absolute, for messages. */
  readonly file: string;
  readonly model: Buffer;
  /** What the model takes from files beside it, by the names it has for them. */
  readonly external: readonly { readonly path: string; readonly data: Buffer }[];
}

/** Protobuf counts in signed 32-bit numbers. */
const MODEL_BYTES_MAX = 2 ** 31 - 1;
/** The largest Buffer of every Node that is supported. */
const EXTERNAL_BYTES_MAX = 2 ** 32;
const CHUNK_BYTES = 64 * 1024 * 1024;
const DEFAULT_FILE = 'model.onnx';

/**
 * Reads `<modelDir>/model.onnx`, or what default_model_filename of config.pbtxt says. Rejects with MODEL_NOT_FOUND,
 * MODEL_INVALID or MODEL_REFUSED; all name pool and path.
 */
export async function readModel(context: LoadContext): Promise<ModelBytes> {
  const { pool, modelDir, modelConfig } = context;
  if (modelDir === undefined) {
    const message = `Pool "${pool}": actor onnx needs a model; set the option model to a directory <model>/<version>/${DEFAULT_FILE}`;
    throw new TroupeError('MODEL_NOT_FOUND', message, { actor: pool });
  }
  const named = modelConfig?.['default_model_filename'];
  const { path: file, bytes: model } = await read(context, modelDir, {
    name: typeof named === 'string' && named !== '' ? named : DEFAULT_FILE,
    bytesMax: MODEL_BYTES_MAX,
    advice: 'protobuf holds no more; export it with external data',
  });
  const wanted = scan(context, file, model);
  const external: { path: string; data: Buffer }[] = [];
  for (const location of new Set(wanted.map((one) => one.location))) {
    const { bytes: data } = await read(context, modelDir, {
      name: location,
      bytesMax: EXTERNAL_BYTES_MAX,
      advice: 'export it with several files',
      of: file,
    });
    for (const { tensor, offset, length } of wanted.filter((one) => one.location === location)) {
      if (offset + length > data.length)
        throw unsafe(
          context,
          file,
          `tensor ${JSON.stringify(tensor)} wants ${length} bytes from ${offset} of ${JSON.stringify(location)}, which has ${data.length}`,
        );
    }
    external.push({ path: location, data });
  }
  return { file, model, external };
}

interface Wanted {
  readonly name: string;
  readonly bytesMax: number;
  /** What to do about a file that is larger. */
  readonly advice: string;
  /** The model that wants it. */
  readonly of?: string;
}

async function read(
  context: LoadContext,
  modelDir: string,
  { name, bytesMax, advice, of }: Wanted,
): Promise<{ path: string; bytes: Buffer }> {
  const file = await open(context, modelDir, name, of);
  try {
    if (file.bytes === 0 && of === undefined) throw invalid(context, file.path, 'the file is empty');
    if (file.bytes > bytesMax)
      throw invalid(context, file.path, `it has ${file.bytes} bytes, more than ${bytesMax}: ${advice}`);
    const bytes = Buffer.allocUnsafeSlow(file.bytes);
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      context.signal.throwIfAborted();
      await file.read(bytes.subarray(at, Math.min(bytes.length, at + CHUNK_BYTES)), at);
    }
    return { path: file.path, bytes };
  } finally {
    await file.close();
  }
}

async function open(context: LoadContext, modelDir: string, name: string, of: string | undefined): Promise<OpenFile> {
  try {
    return await openModelFile(modelDir, name);
  } catch (error) {
    if (!isTroupeError(error)) throw error;
    const wanted = of === undefined ? '' : `${of} wants external data: `;
    const message = `Pool "${context.pool}": ${wanted}${error.message}`;
    throw new TroupeError(error.code, message, { ...where(context), cause: error.cause });
  }
}

function scan(context: LoadContext, file: string, model: Buffer): readonly ExternalData[] {
  try {
    return scanModel(model);
  } catch (error) {
    if (!(error instanceof ScanError)) throw error;
    throw error.kind === 'unsafe' ? unsafe(context, file, error.message) : invalid(context, file, error.message);
  }
}

function unsafe(context: LoadContext, file: string, reason: string): TroupeError {
  return new TroupeError('MODEL_REFUSED', `Pool "${context.pool}": ${file} is refused: ${reason}`, where(context));
}

/** MODEL_INVALID naming pool, file and what the system or the engine said. */
export function invalid(context: LoadContext, file: string, reason: string, cause?: unknown): TroupeError {
  const message = `Pool "${context.pool}": ${file} is not a model onnxruntime can read: ${reason}`;
  return new TroupeError('MODEL_INVALID', message, { ...where(context), cause });
}

export function where(context: LoadContext): { actor: string; replica: number; modelVersion?: string } {
  const { pool: actor, replica, version } = context;
  return version === undefined ? { actor, replica } : { actor, replica, modelVersion: version };
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
