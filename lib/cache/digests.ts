/**
 * Chunk digests that a blob carries itself (section blob.digest, rafs-v6.md §9): for validation where the
 * bootstrap has none.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { BlobReader, ReadOptions } from '../backend/backend.js'
import { explain, NydusError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { writeCacheFile } from './blob-meta.js'
import type { BlobInfo } from './cache.js'
import { TOC_NAME } from './layout.js'
import { parseToc, readToc } from './toc.js'

const DIGEST_SIZE = 32

export class BlobDigests {
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  of(index: number): Uint8Array | undefined {
    const start = index * DIGEST_SIZE
    if (index < 0 || start + DIGEST_SIZE > this.#bytes.byteLength) return undefined
    return this.#bytes.subarray(start, start + DIGEST_SIZE)
  }
}

/** Cached file, or undefined when it cannot be read. */
async function cached(path: string | undefined): Promise<Uint8Array | undefined> {
  if (path === undefined) return undefined
  try {
    return await readFile(path)
  } catch {
    return undefined
  }
}

/** From the cache folder or the blob; checked against the table of contents, and that against the image's blob table. */
export async function fetchDigests(
  info: BlobInfo,
  reader: BlobReader,
  paths: { readonly toc: string; readonly digest: string } | undefined,
  log: Log,
): Promise<BlobDigests> {
  const options: ReadOptions = { priority: 'demand' }
  const keep = async (path: string | undefined, bytes: Uint8Array): Promise<void> => {
    if (path === undefined) return
    try {
      await writeCacheFile(path, bytes)
    } catch (error) {
      log.debug({ blob: info.id, path, error: explain(error) }, 'not kept in the cache folder')
    }
  }
  const section = async () => {
    const old = await cached(paths?.toc)
    try {
      if (old !== undefined) return parseToc(info.id, old, info.toc?.digest).get(TOC_NAME.BLOB_DIGEST)
    } catch (error) {
      log.warn({ blob: info.id, error: explain(error) }, 'cached table of contents is fetched anew')
    }
    const bytes = await readToc(info, reader, options)
    const sections = parseToc(info.id, bytes, info.toc?.digest)
    await keep(paths?.toc, bytes)
    return sections.get(TOC_NAME.BLOB_DIGEST)
  }
  const entry = await section()
  if (entry === undefined || entry.storedSize !== info.chunkCount * DIGEST_SIZE)
    throw new NydusError(
      'CACHE_BAD_TOC',
      'EIO',
      `blob ${info.id}: ${info.chunkCount} chunk digests are expected, its table of contents has ` +
        (entry === undefined ? 'none' : `${entry.storedSize} bytes of them`),
    )
  const right = (bytes: Uint8Array): boolean =>
    createHash('sha256').update(bytes).digest().equals(entry.digest)
  const old = await cached(paths?.digest)
  if (old !== undefined && right(old)) return new BlobDigests(old)
  const bytes = new Uint8Array(entry.storedSize)
  await reader.read(bytes, entry.offset, options)
  if (!right(bytes))
    throw new NydusError(
      'CACHE_BAD_TOC',
      'EIO',
      `blob ${info.id}: its chunk digests (${bytes.byteLength} bytes at ${entry.offset}) are damaged`,
    )
  await keep(paths?.digest, bytes)
  return new BlobDigests(bytes)
}
