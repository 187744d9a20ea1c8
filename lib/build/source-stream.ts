/** A source file as a stream, read once from start to end; a FIFO or device is fine. */
import { constants, createReadStream } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { explain, NydusError } from '../base/errors.js'

const PIECE = 1 << 20

function unreadable(path: string, error: unknown): NydusError {
  return new NydusError('BUILD_SOURCE_UNREADABLE', 'EIO', `cannot read ${path}: ${explain(error)}`, {
    cause: error,
  })
}

async function checkSource(path: string): Promise<void> {
  try {
    await access(path, constants.R_OK)
    if (!(await stat(path)).isDirectory()) return
  } catch (error) {
    throw unreadable(path, error)
  }
  throw new NydusError('BUILD_SOURCE', 'EISDIR', `${path} is a folder; build from it with --type dir-rafs`)
}

/** The file's bytes as they are. Throws BUILD_SOURCE_*, naming the path. */
export async function* openSource(path: string): AsyncGenerator<Buffer> {
  await checkSource(path)
  try {
    for await (const piece of createReadStream(path, { highWaterMark: PIECE })) yield piece as Buffer
  } catch (error) {
    throw error instanceof NydusError ? error : unreadable(path, error)
  }
}
