/**
 * An archive as a stream of its plain bytes, whatever it is packed with: gzip is known by its first bytes, so that a
 * plain tar may be given where a tar.gz is expected. Read once, from start to end; a FIFO or device is fine.
 */
import { constants, createReadStream } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { explain, NydusError } from '../base/errors.js'

const PIECE = 1 << 20
const GZIP_MAGIC = [0x1f, 0x8b] as const

function unreadable(path: string, error: unknown): NydusError {
  return new NydusError('BUILD_SOURCE_UNREADABLE', 'EIO', `cannot read ${path}: ${explain(error)}`, { cause: error })
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

/** `gunzip` false: the bytes as they are. Throws BUILD_SOURCE_*, naming the path. */
export async function* openSource(path: string, gunzip: boolean): AsyncGenerator<Buffer> {
  await checkSource(path)
  const file = createReadStream(path, { highWaterMark: PIECE })
  try {
    const pieces = file[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    let head = Buffer.alloc(0)
    while (head.length < GZIP_MAGIC.length) {
      const next = await pieces.next()
      if (next.done === true) break
      head = Buffer.concat([head, next.value])
    }
    const plain = (async function* (): AsyncGenerator<Buffer> {
      if (head.length > 0) yield head
      for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) yield next.value
    })()
    if (!gunzip || !GZIP_MAGIC.every((byte, i) => head[i] === byte)) {
      yield* plain
      return
    }
    const unpacked = createGunzip({ chunkSize: PIECE })
    // Its failure is that of the stream that is read below.
    pipeline(plain, unpacked).catch(() => undefined)
    yield* unpacked as AsyncIterable<Buffer>
  } catch (error) {
    throw error instanceof NydusError ? error : unreadable(path, error)
  } finally {
    file.destroy()
  }
}
