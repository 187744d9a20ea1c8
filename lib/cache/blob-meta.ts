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
import type { Decoder, UnitDone } from './decoder.js'
import { CiHeaderV6 } from './layout.js'

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
  decoder: Decoder,
  options: ReadOptions,
): Promise<{ table: ChunkTable; bytes: Uint8Array }> {
  const { ci } = info
  if (ci.uncompressedSize > MAX_TABLE || ci.compressedSize > MAX_TABLE || ci.uncompressedSize === 0)
    throw new NydusError(
      'CACHE_BAD_META',
      'EIO',
      `blob ${info.id}: a chunk table of ${ci.compressedSize} to ${ci.uncompressedSize} bytes cannot be`,
    )
  const stored = new Uint8Array(ci.compressedSize + CiHeaderV6.size)
  await reader.read(stored, ci.offset, options)
  const bytes = new Uint8Array(metaFileSize(info))
  const problem = await decodeTable(info, decoder, stored, bytes)
  try {
    if (problem === undefined) return { table: new ChunkTable(info, bytes), bytes }
  } catch (error) {
    throw badTable(info, explain(error), error)
  }
  throw badTable(info, problem)
}

function badTable(info: BlobInfo, problem: string, cause?: unknown): NydusError {
  const { compressedSize, offset } = info.ci
  return new NydusError(
    'CACHE_BAD_META',
    'EIO',
    `blob ${info.id}: its chunk table (${compressedSize} bytes at ${offset}) does not decode: ${problem}`,
    { cause },
  )
}

/** Puts the plain table and its header, which stands behind it, into `bytes`. Resolves with what is wrong, if anything is. */
function decodeTable(
  info: BlobInfo,
  decoder: Decoder,
  stored: Uint8Array,
  bytes: Uint8Array,
): Promise<string | undefined> {
  const { ci, digester, cipher } = info
  const encrypted = (info.features & BLOB_FEATURE.ENCRYPTED) !== 0
  const batch = decoder.batch(
    { compressor: ci.compressor, digester, ...(cipher && { cipher }) },
    stored,
    bytes,
  )
  return new Promise((resolve, reject) => {
    let left = 2
    let problem: string | undefined
    const done: UnitDone = (bad, error) => {
      if (error !== undefined) return reject(error)
      problem ??= [...bad.values()][0]?.message
      if (--left === 0) resolve(problem)
    }
    batch.add(
      {
        start: 0,
        size: ci.compressedSize,
        compressed: ci.compressor !== 'none',
        encrypted,
        outputSize: ci.uncompressedSize,
        targetAt: 0,
        fd: -1,
      },
      [],
      done,
    )
    batch.add(
      {
        start: ci.compressedSize,
        size: CiHeaderV6.size,
        compressed: false,
        encrypted,
        outputSize: CiHeaderV6.size,
        targetAt: bytes.length - CiHeaderV6.size,
        fd: -1,
      },
      [],
      done,
    )
    batch.submit(true)
  })
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
