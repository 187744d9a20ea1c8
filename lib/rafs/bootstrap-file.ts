/**
 * From a path to a file that can be mapped from its start: a bootstrap as it is, or one taken out of the blob that
 * holds it.
 */
import { constants } from 'node:fs'
import { mkdir, open, rename, stat, unlink, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { explain, NydusError, type Code, type Errno } from '../base/errors.js'
import { native } from '../native.js'
import {
  extractBootstrap,
  findInlineBootstrap,
  isBootstrap,
  type InlineBootstrap,
} from './inline-bootstrap.js'
import { MAX_BOOTSTRAP_SIZE } from './ref-v6.js'

export interface BootstrapFile {
  readonly file: FileHandle
  readonly length: number
  /** For people: the path. */
  readonly name: string
  /** The given file's name up to the first dot: id of a blob that holds its own bootstrap. */
  readonly stem: string
}

/** `workDir`: the cache's folder, where an extracted bootstrap is kept for the next mount. Throws NydusError RAFS_*. */
export async function openBootstrapFile(path: string | Buffer, workDir?: string): Promise<BootstrapFile> {
  const name = typeof path === 'string' ? path : path.toString('latin1')
  const stem = basename(name).split('.')[0] ?? ''
  const size = await regularSize(path, name)
  const file = await open(path, 'r').catch((error: unknown) => {
    throw unreadable(name, error)
  })
  try {
    const part = await findInlineBootstrap(file, size, name)
    if (part === undefined) return { file, length: checkSize(size, name), name, stem }
    // A blob without data starts with its bootstrap.
    if (part.offset === 0 && part.compression === 'none')
      return { file, length: checkSize(part.size, name), name, stem }
    checkSize(part.size, name)
    const extracted = await extract(file, part, { name, id: stem, workDir })
    await file.close()
    return { file: extracted, length: part.size, name, stem }
  } catch (error) {
    await file.close()
    throw error
  }
}

async function regularSize(path: string | Buffer, name: string): Promise<number> {
  const status = await stat(path).catch((error: unknown) => {
    throw unreadable(name, error)
  })
  if (status.isDirectory())
    throw new NydusError(
      'RAFS_IS_FOLDER',
      'EISDIR',
      `${name}: is a folder; wanted the bootstrap file of an image`,
    )
  // Opening a fifo would wait for its writer.
  if (!status.isFile())
    throw new NydusError(
      'RAFS_NOT_FILE',
      'EINVAL',
      `${name}: is not a regular file; a bootstrap must be one, to be mapped`,
    )
  return status.size
}

function unreadable(name: string, error: unknown): NydusError {
  const missing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
  const [code, errno]: [Code, Errno] = missing ? ['RAFS_NOT_FOUND', 'ENOENT'] : ['RAFS_UNREADABLE', 'EIO']
  const what = missing ? 'No such file or directory (os error 2)' : 'it cannot be opened'
  return new NydusError(code, errno, `bootstrap ${name}: ${what}`, { cause: error })
}

function checkSize(size: number, name: string): number {
  if (size > MAX_BOOTSTRAP_SIZE)
    throw new NydusError(
      'RAFS_TOO_BIG',
      'EFBIG',
      `${name}: a bootstrap of ${size} bytes cannot be mapped (at most ${MAX_BOOTSTRAP_SIZE}); split the image`,
    )
  if (size === 0)
    throw new NydusError(
      'RAFS_NOT_BOOTSTRAP',
      'EINVAL',
      `${name}: is empty, not a RAFS bootstrap; failed to fill whole buffer`,
    )
  return size
}

interface Place {
  readonly name: string
  readonly id: string
  readonly workDir: string | undefined
}

/**
 * Kept as `<workDir>/<id>.image.boot` when the blob tells its digest, so that the next mount can trust it;
 * otherwise, or when that folder cannot be used, in a file without a name.
 */
async function extract(file: FileHandle, part: InlineBootstrap, place: Place): Promise<FileHandle> {
  if (place.workDir !== undefined && part.digest !== undefined) {
    try {
      const kept = await extractKept(file, part, place, place.workDir)
      if (kept !== undefined) return kept
    } catch (error) {
      if (error instanceof NydusError) throw error
      // A folder that is read-only or full: the other place may still do.
    }
  }
  try {
    const path = join(tmpdir(), `.nydus-${process.pid}-${performance.now()}.image.boot`)
    const target = await open(path, 'wx+', 0o600)
    return await filled(target, () =>
      unlink(path).then(() => extractBootstrap(file, part, target, place.name)),
    )
  } catch (error) {
    if (error instanceof NydusError) throw error
    throw new NydusError(
      'RAFS_NO_TEMP',
      'EIO',
      `${place.name}: no room for its bootstrap of ${part.size} bytes in ${tmpdir()}: ${explain(error)}`,
      { cause: error },
    )
  }
}

/** Undefined when another process is at it. */
async function extractKept(
  file: FileHandle,
  part: InlineBootstrap,
  place: Place,
  workDir: string,
): Promise<FileHandle | undefined> {
  await mkdir(workDir, { recursive: true })
  const path = join(workDir, `${place.id}.image.boot`)
  const kept = await open(path, 'r').catch(() => undefined)
  if (kept !== undefined) {
    if (await isBootstrap(kept, part)) return kept
    await kept.close()
  }
  const temporary = `${path}.toc_downloading`
  const target = await open(temporary, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o644)
  // Whoever holds the lock of the file that has the temporary name may fill and rename it. A crash leaves it behind
  // unlocked, for the next one.
  const ours = native.lockFile(target.fd, false) && (await isNamed(target, temporary))
  if (!ours) {
    await target.close()
    return undefined
  }
  return filled(target, async () => {
    try {
      await target.truncate(0)
      await extractBootstrap(file, part, target, place.name)
      await rename(temporary, path)
    } catch (error) {
      await unlink(temporary).catch(() => undefined)
      throw error
    }
  })
}

async function isNamed(file: FileHandle, path: string): Promise<boolean> {
  const [open, named] = [await file.stat(), await stat(path).catch(() => undefined)]
  return named !== undefined && open.ino === named.ino && open.dev === named.dev
}

/** Closes `target` when it cannot be filled. */
async function filled(target: FileHandle, fill: () => Promise<void>): Promise<FileHandle> {
  try {
    await fill()
    return target
  } catch (error) {
    await target.close()
    throw error
  }
}
