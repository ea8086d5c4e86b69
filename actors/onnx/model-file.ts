import { access, constants, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TroupeError, type LoadContext } from 'troupe/actor';

/**
 * The path of `<modelDir>/model.onnx`, checked before the engine sees it, because the engine's own messages do not tell a
 * missing file from an empty one. Rejects with MODEL_NOT_FOUND or MODEL_INVALID; both name pool and path.
 */
export async function findModelFile(context: LoadContext): Promise<string> {
  const { pool, modelDir } = context;
  if (modelDir === undefined) {
    const message = `Pool "${pool}": actor onnx needs a model; set the option model to a directory <model>/<version>/model.onnx`;
    throw new TroupeError('MODEL_NOT_FOUND', message, { actor: pool });
  }
  const file = join(modelDir, 'model.onnx');
  try {
    const facts = await stat(file);
    if (!facts.isFile())
      throw invalid(context, file, facts.isDirectory() ? 'it is a directory' : 'it is no regular file');
    if (facts.size === 0) throw invalid(context, file, 'the file is empty');
    await access(file, constants.R_OK);
    return file;
  } catch (cause) {
    if (cause instanceof TroupeError) throw cause;
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      const message = `Pool "${pool}": there is no model file ${file}`;
      throw new TroupeError('MODEL_NOT_FOUND', message, { ...where(context), cause });
    }
    throw invalid(context, file, reasons[String(code)] ?? messageOf(cause), cause);
  }
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

const reasons: Readonly<Record<string, string>> = {
  ELOOP: 'its path is a loop of symbolic links',
  EACCES: 'reading it is not permitted',
  EPERM: 'reading it is not permitted',
};
