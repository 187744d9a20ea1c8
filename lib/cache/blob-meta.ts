/**
 * Getting at a blob's chunk table: from the cache folder, else from the backend, which is asked at the first cold
 * chunk and not when the image is mounted.
 */
import { closeSync, fstatSync, openSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import type { BlobReader, ReadOptions } from '../backend/backend.js'
import { explain, NydusError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { native } from '../native.js'
import { BLOB_FEATURE, type BlobInfo } from './cache.js'
import { ChunkTable, metaFileSize } from './chunk-table.js'
import { CiHeaderV6 } from './layout.js'
import type { WorkerPool } from './worker-pool.js'

/** 2^24 chunks with windows stay below; what claims more is not a table. */
const MAX_TABLE = 1 << 30

/** The table in `<id>.blob.meta`; undefined when there is none that fits this image. */
export function openCachedTable(path: string, info: BlobInfo, log: Log): ChunkTable | undefined {
  let fd: number
  try {
    fd = openSync(path, 'r')
  } catch {
    return undefined
  }
  try {
    const size = fstatSync(fd).size
    if (size !== metaFileSize(info))
      throw new NydusError('CACHE_BAD_META', 'EIO', `it has ${size} bytes instead of ${metaFileSize(info)}`)
    return new ChunkTable(info, new Uint8Array(native.mapFile(fd, size, 'r')))
  } catch (error) {
    log.warn({ blob: info.id, path }, `cached chunk table is fetched anew: ${explain(error)}`)
    return undefined
  } finally {
    closeSync(fd)
  }
}

/** Reads, decodes and checks the table; `reader` is that of the blob which holds it. */
export async function fetchTable(
  info: BlobInfo,
  reader: BlobReader,
  workers: WorkerPool,
  options: ReadOptions,
): Promise<{ table: ChunkTable; bytes: Uint8Array }> {
  const { ci } = info
  if (ci.uncompressedSize > MAX_TABLE || ci.compressedSize > MAX_TABLE || ci.uncompressedSize === 0)
    throw new NydusError(
      'CACHE_BAD_META',
      'EIO',
      `blob ${info.id}: a chunk table of ${ci.compressedSize} to ${ci.uncompressedSize} bytes cannot be`,
    )
  const stored = new ArrayBuffer(ci.compressedSize + CiHeaderV6.size)
  await reader.read(new Uint8Array(stored), ci.offset, options)
  try {
    const reply = await workers.run(
      {
        kind: 'table',
        coding: {
          compressor: ci.compressor,
          digester: info.digester,
          ...(info.cipher && { cipher: { key: info.cipher.key.slice(), iv: info.cipher.iv.slice() } }),
        },
        buffer: stored,
        encrypted: (info.features & BLOB_FEATURE.ENCRYPTED) !== 0,
        storedSize: ci.compressedSize,
        plainSize: ci.uncompressedSize,
        resultSize: metaFileSize(info),
        headerSize: CiHeaderV6.size,
      },
      [stored],
    )
    const bytes = new Uint8Array(reply.buffer ?? new ArrayBuffer(0))
    return { table: new ChunkTable(info, bytes), bytes }
  } catch (error) {
    if (error instanceof NydusError && error.code !== 'CODEC_CORRUPT') throw error
    throw new NydusError(
      'CACHE_BAD_META',
      'EIO',
      `blob ${info.id}: its chunk table (${ci.compressedSize} bytes at ${ci.offset}) does not decode: ${explain(error)}`,
      { cause: error },
    )
  }
}

/** Writes a file that is there completely or not at all, also after a crash of the machine. */
export async function writeCacheFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    const file = await open(temporary, 'w', 0o644)
    try {
      await file.writeFile(bytes)
      await file.datasync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
